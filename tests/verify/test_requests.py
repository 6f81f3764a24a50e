"""The configuration as of the sequences that requests state, also of a fan-out that states none."""

from typing import Any

import pytest

from domain.events import GroupMatched, Mode, Status, SubscriberConfigured
from handlers.live.event_codec import codec
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.envelope import Recorded, rfc3339
from tests.streams.examples import example
from vibe.verify.configuration import ConfigurationAt
from vibe.verify.derived import UnknownInputError

SECOND = 1_000_000_000
BEGAN = 1_795_000_000 * SECOND


async def configure(log: Connection, deposit: int, at: int) -> None:
    event = SubscriberConfigured(id="sam", mode=Mode.PAPER, deposit_micros=deposit, status=Status.ACTIVE, actor="ann")
    payload = codec().encode(event, id=f"cfg-{deposit}", source="tests", time_ns=at)
    await append(log, [Record(subjects.config("subscriber", "sam"), payload)])


def recorded(data: Any, at: int) -> Recorded:
    return Recorded("REQUESTS", 5, "requests.matched.ann", b"", "", "", rfc3339(at), "", None, None, data)


async def test_the_configuration_goes_on_and_back(log: Connection) -> None:
    for number in (1, 2, 3):
        await configure(log, number, BEGAN + number * SECOND)
    configuration = ConfigurationAt(log)
    for sequence in (1, 3, 2, 2):
        directory = await configuration.at(sequence)
        assert directory.subscribers["sam"].deposit_micros == sequence


async def test_a_fan_out_without_a_request_used_the_configuration_before_it_unless_another_one_came(
    log: Connection,
) -> None:
    for number in (1, 2):
        await configure(log, number, BEGAN + number * SECOND)
    configuration = ConfigurationAt(log)
    await configuration.at(1)
    matched = example(GroupMatched)
    assert await configuration.used_at(recorded(matched, BEGAN + SECOND)) == 1
    with pytest.raises(UnknownInputError, match="does not state which configuration"):
        await configuration.used_at(recorded(matched, BEGAN + 3 * SECOND))
    await configuration.at(2)
    assert await configuration.used_at(recorded(matched, BEGAN + 3 * SECOND)) == 2
