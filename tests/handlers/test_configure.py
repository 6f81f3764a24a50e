"""Configuration in: all of a file or nothing, and only what changes."""

import json

import pytest

from domain.events import PolicyMaterialized
from handlers.catalogue import codec
from handlers.configuration import directory_at
from handlers.configure import exported, import_lines
from streams.connection import Connection
from streams.envelope import Recorded
from streams.read import history
from tests.handlers.folding import LINES, NOW

CODEC = codec()


async def written(log: Connection) -> list[Recorded]:
    return [
        CODEC.decode("CONFIG", stored.sequence, stored.subject, stored.payload)
        async for batch in history(log, "CONFIG")
        for stored in batch
    ]


async def test_a_file_is_written_policies_first(log: Connection) -> None:
    done = await import_lines(log, LINES, actor="ann@example", now=NOW)
    assert done.bad == []
    assert done.unchanged == 0
    assert done.written == {"policy": 1, "guardrail": 1, "influencer": 1, "subscriber": 2, "subscription": 2}
    events = await written(log)
    assert done.sequence == events[-1].sequence == 7
    kinds = [event.subject.split(".")[1] for event in events]
    assert kinds.index("policy") < kinds.index("subscription")
    assert events[0].subject == f"config.policy.{events[0].data.hash}"
    assert {event.data.actor for event in events if not isinstance(event.data, PolicyMaterialized)} == {"ann@example"}
    directory, _ = await directory_at(log, CODEC)
    for subscription in directory.subscriptions.values():
        policy_hash, policy = directory.policy_of(subscription)
        assert directory.policy_named(policy_hash) == policy


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{not json", "is not JSON"),
        ('{"kind":"pet","id":"x"}', "influencer, subscriber, subscription"),
        ('{"kind":"subscriber","id":"x","deposit_usd":"-1"}', "must lie between"),
        ('{"kind":"subscriber","id":"x","deposit_usd":"1","extra":1}', "not a field"),
        (
            '{"kind":"subscription","id":"x","subscriber_id":"nobody","influencer_id":"alice",'
            '"sizing":{"mode":"copy_percent","percent":"1"}}',
            "'nobody' is not configured",
        ),
        (LINES[2], "was set on line 3 already"),
    ],
)
async def test_one_bad_line_and_nothing_is_written(log: Connection, bad: str, why: str) -> None:
    done = await import_lines(log, [*LINES, "", "# a comment", bad], actor="tests", now=NOW)
    assert [line.number for line in done.bad] == [len(LINES) + 3]
    assert why in str(done.bad[0])
    assert done.written == {}
    assert await written(log) == []


async def test_only_changes_are_written(log: Connection) -> None:
    await import_lines(log, LINES, actor="tests", now=NOW)
    again = await import_lines(log, LINES, actor="somebody else", now=NOW + 1)
    assert (again.written, again.unchanged) == ({}, len(LINES))
    changed = [*LINES[:2], LINES[2].replace("10000", "10001"), *LINES[3:]]
    third = await import_lines(log, changed, actor="tests", now=NOW + 2)
    assert (third.written, third.unchanged) == ({"subscriber": 1}, len(LINES) - 1)
    assert len(await written(log)) == 8
    limits = LINES[4].replace('"sizing"', '"limits":{"max_signal_age_ms":1},"sizing"')
    fourth = await import_lines(log, [limits], actor="tests", now=NOW + 3)
    assert fourth.written == {"policy": 1, "subscription": 1}
    assert [event.type for event in await written(log)][-2:] == ["policy.materialized", "subscription.configured"]


async def test_an_export_can_be_imported_and_changes_nothing(log: Connection) -> None:
    await import_lines(log, LINES, actor="tests", now=NOW)
    directory, _ = await directory_at(log, CODEC)
    lines = list(exported(directory))
    assert len(lines) == len(LINES)
    assert (await import_lines(log, lines, actor="tests", now=NOW)).written == {}


async def test_thousands_of_lines_go_in_batches_with_progress(log: Connection) -> None:
    lines = [json.dumps({"kind": "subscriber", "id": f"s{number}", "deposit_usd": "1"}) for number in range(2_500)]
    told: list[tuple[int, int]] = []
    done = await import_lines(log, lines, actor="tests", now=NOW, progress=lambda at, total: told.append((at, total)))
    assert done.written == {"subscriber": 2_500}
    assert told == [(1_000, 2_500), (2_000, 2_500), (2_500, 2_500)]
    assert [event.data.id for event in await written(log)] == [f"s{number}" for number in range(2_500)]
