"""A rebuild stops at an event that cannot be folded or stored and names it, or skips it on request."""

import asyncio
from typing import Any

import pytest

from domain.events import OrderFilled
from gateways.embedded import Addresses
from handlers.live.event_codec import codec
from projections.engine.errors import UnprocessableRowError
from projections.engine.point_in_time import build_as_of
from projections.models.position import Positions
from streams.append import Record, append
from streams.connection import Connection
from tests.projections.engines import built, contents, dead_letters, rebuilt
from tests.projections.example_log import append_events, flows
from tests.projections.fills import Fills
from tests.projections.notes import Notes, deposit
from tests.streams.examples import example

BAD = {
    "bug": (deposit("bug"), "RuntimeError: a fold with a bug"),
    "too large": (deposit("huge", cash_delta_micros=2**63), "int64|out of range"),
    "twice": (deposit("2"), r"note has a row \('2',\) already, from EXECUTIONS:2"),
    "too large a sum": (deposit("sum", config_sequence=2**63), "int64|out of range"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_an_unprocessable_event_stops_a_rebuild_and_is_named(
    log: Connection, running: Addresses, database: str, bad: str
) -> None:
    event, why = BAD[bad]
    await append_events(log, [deposit("1"), deposit("2"), deposit("3"), event, deposit("4")])
    await built(log, database, (Notes(),))
    before = await contents(database, (Notes(),))
    assert [row[0] for row in before["note"]] == ["1", "2", "3", "4"]
    assert [(dead_letter.stage, dead_letter.sequence) for dead_letter in await dead_letters(log)] == [
        ("projection.note", 4)
    ]
    with pytest.raises(UnprocessableRowError, match=why) as caught:
        await rebuilt(running, database, (Notes(),))
    assert "the event EXECUTIONS:4 (cash.deposited EXECUTIONS.3) cannot be folded" in str(caught.value)
    assert "--dead-letter" in str(caught.value)
    assert await contents(database, (Notes(),)) == before

    refused: list[int] = []

    async def on_skipped(_: object, event: Any, why: str) -> None:
        refused.append(event.sequence)

    (result,) = await rebuilt(running, database, (Notes(),), on_skipped=on_skipped)
    assert (refused, result.refused) == ([4], 1)
    assert await contents(database, (Notes(),)) == before


async def test_a_key_in_two_chunks_is_named_when_the_table_has_its_key(
    log: Connection, running: Addresses, database: str
) -> None:
    async def build(**options: Any) -> None:
        await build_as_of(running.nats_url, database, codec(), (Notes(),), "noted", **options)

    await append_events(log, [deposit("1"), deposit("2")])
    await build()
    await append_events(log, [deposit(str(number)) for number in (3, 4, 5, 6, 3, 7)])
    with pytest.raises(UnprocessableRowError, match=r"(?s)the event EXECUTIONS:7 .*already exists"):
        async with asyncio.timeout(30):
            await build(resume=True, chunk=2, long=1)


@pytest.mark.parametrize("bad", [{"share_micros": 2**63}, {"filled_at": 2**80}], ids=["too large", "no time"])
async def test_an_unprocessable_event_of_a_mapped_type_is_named(
    log: Connection, running: Addresses, database: str, bad: dict[str, int]
) -> None:
    def fill(number: int, **fields: Any) -> tuple[str, str, OrderFilled]:
        return "EXECUTIONS", "executions.1.ann", example(OrderFilled, fill_id=f"fil_{number}", **fields)

    await append_events(log, [fill(1), fill(2, **bad), fill(3)])
    await built(log, database, (Fills(),))
    before = await contents(database, (Fills(),))
    assert [row[0] for row in before["fill"]] == ["fil_1", "fil_3"]
    assert [dead_letter.sequence for dead_letter in await dead_letters(log)] == [2]
    with pytest.raises(UnprocessableRowError, match=r"the event EXECUTIONS:2 \(order.filled EXECUTIONS.1\)"):
        await rebuilt(running, database, (Fills(),))
    assert await contents(database, (Fills(),)) == before


async def test_an_unreadable_event_stops_only_projections_that_process_every_type(
    log: Connection, running: Addresses, database: str
) -> None:
    await append_events(log, flows(1, 3))
    await append(log, [Record("executions.1.ann", b"junk")])
    await rebuilt(running, database, (Positions(),))
    with pytest.raises(UnprocessableRowError, match=r"event_count: the event EXECUTIONS:\d+ \(unreadable\)"):
        await rebuilt(running, database)
