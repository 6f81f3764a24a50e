"""Import of configuration: all of a file or nothing, and only what changes."""

import asyncio
import json
from typing import Any

import pytest

from domain.configuration import Configuration
from domain.events import (
    ControlState,
    ControlTarget,
    ImportActivated,
    PolicyMaterialized,
    PortfolioScope,
    SubscriberConfigured,
)
from domain.reason_codes import Reason
from handlers.live import configuration as live
from handlers.live.configuration import configuration_fold, directory_at
from handlers.live.event_codec import codec
from handlers.services import config_import
from handlers.services.config_batch import pack
from handlers.services.config_file import parse
from handlers.services.config_import import export_lines, import_lines, store_control
from streams import append as append_module
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.envelope import Recorded
from streams.errors import RefusedError
from streams.reader import read_all
from tests.handlers.folding import LINES, NOW

CODEC = codec()


async def written(log: Connection) -> list[Recorded]:
    return [
        event
        async for batch in read_all(log, "CONFIG")
        for stored in batch
        for event in CODEC.decode("CONFIG", stored.sequence, stored.subject, stored.payload)
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
            '{"kind":"subscription","id":"x","subscriber_id":"missing","influencer_id":"alice",'
            '"sizing":{"mode":"copy_percent","percent":"1"}}',
            "'missing' is not configured",
        ),
        (LINES[2], "was set on line 3 already"),
    ],
)
async def test_with_one_bad_line_nothing_is_written(log: Connection, bad: str, why: str) -> None:
    done = await import_lines(log, [*LINES, "", "# a comment", bad], actor="tests", now=NOW)
    assert [line.number for line in done.bad] == [len(LINES) + 3]
    assert why in str(done.bad[0])
    assert done.written == {}
    assert await written(log) == []


async def test_only_changes_are_written(log: Connection) -> None:
    await import_lines(log, LINES, actor="tests", now=NOW)
    again = await import_lines(log, LINES, actor="another", now=NOW + 1)
    assert (again.written, again.unchanged) == ({}, len(LINES))
    changed = [*LINES[:2], LINES[2].replace("10000", "10001"), *LINES[3:]]
    third = await import_lines(log, changed, actor="tests", now=NOW + 2)
    assert (third.written, third.unchanged) == ({"subscriber": 1}, len(LINES) - 1)
    assert len(await written(log)) == 8
    limits = LINES[4].replace('"sizing"', '"limits":{"max_signal_age_ms":1},"sizing"')
    fourth = await import_lines(log, [limits], actor="tests", now=NOW + 3)
    assert fourth.written == {"policy": 1, "subscription": 1}
    assert [event.type for event in await written(log)][-2:] == ["policy.materialized", "subscription.configured"]


async def test_what_is_closed_with_close_now_gets_the_order_to_close_its_positions_once(log: Connection) -> None:
    await import_lines(log, LINES, actor="ops", now=NOW)
    line = json.loads(next(line for line in LINES if '"subscription"' in line))
    closed = json.dumps(line | {"status": "closed", "on_close": "close_now"})
    done = await import_lines(log, [closed], actor="ops", now=NOW)
    assert done.written == {"subscription": 1, "control": 1}
    directory, sequence = await directory_at(log, CODEC)
    order = directory.controls.closed(line["id"], "-", "-", ("BTC",), sequence)
    assert order is not None
    assert (order.sequence, order.state, order.actor) == (sequence, ControlState.CLOSED, "ops")
    assert (await import_lines(log, [closed], actor="ops", now=NOW)).written == {}
    kept = json.dumps(line | {"status": "closed", "on_close": "follow_exits"})
    assert (await import_lines(log, [kept], actor="ops", now=NOW)).written == {"subscription": 1}


async def test_an_export_can_be_imported_and_changes_nothing(log: Connection) -> None:
    await import_lines(log, LINES, actor="tests", now=NOW)
    directory, _ = await directory_at(log, CODEC)
    lines = list(export_lines(directory))
    assert len(lines) == len(LINES)
    assert (await import_lines(log, lines, actor="tests", now=NOW)).written == {}


async def test_an_enabled_influencer_gets_its_portfolios_once(log: Connection) -> None:
    bankroll = 100_000 * 1_000_000
    done = await import_lines(log, LINES, actor="ann", now=NOW, bankroll_micros=bankroll)
    # Two of the file and two that come with Alice; the same of subscriptions, and their default policy.
    assert done.written == {"policy": 1, "guardrail": 1, "influencer": 1, "subscriber": 4, "subscription": 4}
    assert done.unchanged == 0
    directory, _ = await directory_at(log, CODEC)
    scopes = {id: (one.scope, one.deposit_micros) for id, one in directory.subscribers.items()}
    assert scopes["exec-user:alice"] == (PortfolioScope.EXEC_USER, bankroll)
    assert scopes["exec-global"] == (PortfolioScope.EXEC_GLOBAL, bankroll)
    again = await import_lines(log, LINES, actor="ann", now=NOW + 1, bankroll_micros=bankroll)
    assert (again.written, again.unchanged) == ({}, len(LINES))
    everything = list(export_lines(directory))
    assert (await import_lines(log, everything, actor="ann", now=NOW + 2)).written == {}


async def test_an_influencer_that_is_enabled_later_gets_its_portfolios_then(log: Connection) -> None:
    paused = [LINES[0], LINES[1].replace('"addresses"', '"status":"paused","addresses"'), *LINES[2:]]
    first = await import_lines(log, paused, actor="ann", now=NOW, bankroll_micros=1)
    assert first.written["subscriber"] == 2
    second = await import_lines(log, LINES, actor="ann", now=NOW + 1, bankroll_micros=1)
    assert second.written == {"influencer": 1, "subscriber": 2, "subscription": 2}
    assert second.unchanged == len(LINES) - 1


async def test_lines_of_a_file_override_the_default_portfolios(log: Connection) -> None:
    own = '{"kind":"subscriber","id":"exec-user:alice","deposit_usd":"7","portfolio":"EXEC_USER"}'
    await import_lines(log, [*LINES, own], actor="ann", now=NOW, bankroll_micros=1)
    directory, _ = await directory_at(log, CODEC)
    assert directory.subscribers["exec-user:alice"].deposit_micros == 7_000_000
    assert directory.subscriptions["exec-user:alice"].influencer_id == "alice"


async def test_a_guardrail_of_a_subscriber_stores_the_policies_that_it_changes(log: Connection) -> None:
    await import_lines(log, LINES, actor="ann", now=NOW)
    of_ann = '{"kind":"guardrail","scope":"subscriber:ann","values":{"spread_bps":3}}'
    assert (await import_lines(log, [of_ann], actor="ann", now=NOW + 1)).written == {"policy": 1, "guardrail": 1}
    directory, _ = await directory_at(log, CODEC)
    policy_hash, policy = directory.policy_of(directory.subscriptions["ann-alice"])
    assert directory.policy_named(policy_hash) == policy
    assert policy.spread_bps == 3


async def test_a_reader_between_two_changes_finds_every_policy(log: Connection) -> None:
    await import_lines(log, LINES, actor="ann", now=NOW)
    more = [
        '{"kind":"guardrail","scope":"global","values":{"spread_bps":3}}',
        LINES[4].replace('"percent":"10"}', '"percent":"10"},"limits":{"spread_bps":9}'),
        '{"kind":"guardrail","scope":"influencer:alice","values":{"max_signal_age_ms":7000}}',
        '{"kind":"guardrail","scope":"subscriber:ben","values":{"max_signal_age_ms":8000}}',
    ]
    assert (await import_lines(log, more, actor="ann", now=NOW + 1)).bad == []
    directory = Configuration()
    for event in await written(log):
        directory.evolve(event.data, event.sequence)
        for subscription in directory.subscriptions.values():
            policy_hash, policy = directory.policy_of(subscription)
            assert directory.policy_named(policy_hash) == policy, event.sequence


async def test_an_operator_switch_applies_from_its_sequence_on(log: Connection) -> None:
    await import_lines(log, LINES, actor="ann", now=NOW)
    sequence = await store_control(
        log, ControlTarget.ENGINE, "", ControlState.PAUSED, actor="eve", note="maintenance", now=NOW + 1
    )
    blocked = await store_control(
        log, ControlTarget.MARKET, "0xrace", ControlState.DISABLED, actor="eve", note="wash trading", now=NOW + 2
    )
    *_, pause, block = await written(log)
    assert (pause.sequence, block.sequence) == (sequence, blocked)
    assert [pause.subject, block.subject] == [
        subjects.config("control", "engine"),
        subjects.config("control", "market:0xrace"),
    ]
    assert (pause.data.actor, pause.data.note) == ("eve", "maintenance")
    directory, _ = await directory_at(log, CODEC)
    controls = directory.controls
    assert [controls.engine(at) for at in (sequence - 1, sequence)] == [ControlState.RUNNING, ControlState.PAUSED]
    assert controls.engine_stops(NOW, sequence)
    assert controls.disabled("alice", "ann", "0xrace", "yes", blocked) is Reason.MARKET_BLOCKED
    assert controls.disabled("alice", "ann", "0xrace", "yes", sequence) is None


# --- large files -------------------------------------------------------------------------------------------


def many(count: int, name: str = "s", deposit: str = "1") -> list[str]:
    return [json.dumps({"kind": "subscriber", "id": f"{name}{n}", "deposit_usd": deposit}) for n in range(count)]


async def test_a_large_file_is_staged_and_activated_by_its_last_event(log: Connection) -> None:
    lines = [*LINES, *many(2_500)]
    reported: list[tuple[int, int]] = []
    done = await import_lines(log, lines, actor="ann", now=NOW, progress=lambda *done: reported.append(done))
    assert done.written == {"policy": 1, "guardrail": 1, "influencer": 1, "subscriber": 2_502, "subscription": 2}
    assert done.unchanged == 0
    events = await written(log)
    assert {event.subject.split(".")[1] for event in events} == {"import"}
    configured = [event.data.id for event in events if isinstance(event.data, SubscriberConfigured)]
    assert configured == ["ann", "ben", *(f"s{number}" for number in range(2_500))]
    activated = events[-1]
    assert activated.data == ImportActivated(import_id=activated.id, events=2_507, actor="ann")
    assert (activated.sequence, activated.subject) == (done.sequence, subjects.config("import", activated.id))
    assert {event.correlation for event in events} == {activated.id}
    assert reported[-1] == (2 * len(lines), 2 * len(lines))
    again = await import_lines(log, lines, actor="ann", now=NOW + 1)
    assert (again.written, again.unchanged, again.sequence) == ({}, len(lines), done.sequence)


async def test_a_reader_has_all_of_a_large_file_or_nothing_as_of_any_sequence(log: Connection) -> None:
    before = await import_lines(log, LINES, actor="ann", now=NOW)
    done = await import_lines(log, many(1_700), actor="ann", now=NOW + 1)
    assert done.sequence - before.sequence >= 4, "several messages, and the activation"
    for sequence in range(before.sequence, done.sequence):
        directory, _ = await directory_at(log, CODEC, sequence)
        assert len(directory.subscribers) == 2
    directory, _ = await directory_at(log, CODEC, done.sequence)
    assert len(directory.subscribers) == 1_702


async def test_an_import_that_dies_half_way_leaves_nothing_and_can_be_repeated(
    log: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_module, "_BLOCK_BYTES", 10_000)

    def dies(done: int, of: int) -> None:
        if done > of // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await import_lines(log, many(1_700), actor="ann", now=NOW, progress=dies)
    assert await written(log) == []
    reported: list[int] = []
    done = await import_lines(log, many(1_700), actor="ann", now=NOW, progress=lambda done, _: reported.append(done))
    assert done.written == {"subscriber": 1_700}
    assert any(1_700 < count < 3_400 for count in reported), "what the server has taken is reported"


async def test_what_is_staged_and_never_activated_is_never_in_force(log: Connection) -> None:
    def staged(import_id: str, deposit: str) -> list[Record]:
        events, _ = parse(many(1_001, deposit=deposit), Configuration(), "eve")
        return [
            Record(subjects.config("import", import_id), record.payload)
            for record in pack(events, NOW, actor="eve", after=0, largest=1_000_000)
        ]

    await append(log, staged("abandoned", "5")[:-1])
    await append(log, staged("superseding", "6"))
    await append(log, staged("abandoned-too", "7")[:-1])
    directory, _ = await directory_at(log, CODEC)
    assert {one.deposit_micros for one in directory.subscribers.values()} == {6_000_000}
    assert (await import_lines(log, many(1_001, deposit="6"), actor="ann", now=NOW)).written == {}


def test_events_are_packed_into_messages_that_the_server_takes() -> None:
    events, _ = parse(many(3_000), Configuration(), "ann")
    largest = 20_000
    records = pack(events, NOW, actor="ann", after=0, largest=largest)
    assert max(len(record.payload) for record in records) < largest
    unpacked = [event for record in records for event in CODEC.decode("CONFIG", 1, record.subject, record.payload)]
    assert [event.data for event in unpacked[:-1]] == events
    with pytest.raises(
        RefusedError, match=r"3,000 changes are .* bytes, more than one import can hold; split the file"
    ):
        pack(events, NOW, actor="ann", after=0, largest=4_096 + 500)


async def test_an_operator_switch_meanwhile_does_not_make_an_import_check_its_lines_again(
    log: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    switched: list[bool] = []

    async def switched_meanwhile(*args: Any, **options: Any) -> Any:
        if not switched:
            switched.append(True)
            at = NOW + 1
            await store_control(log, ControlTarget.ENGINE, "", ControlState.PAUSED, actor="eve", note="", now=at)
        return await append(*args, **options)

    def parsed(*args: Any) -> Any:
        checked.append(1)
        return parse(*args)

    monkeypatch.setattr(config_import, "append", switched_meanwhile)
    monkeypatch.setattr(config_import, "parse", parsed)
    monkeypatch.setattr(live, "SNAPSHOT_EVERY", 1_000)
    done = await import_lines(log, many(1_500), actor="ann", now=NOW + 5)
    assert (done.written, sum(checked)) == ({"subscriber": 1_500}, 1)
    saved = await configuration_fold(log, CODEC)
    assert set(saved.begun.values()) == {done.sequence}
    assert saved.directory.controls.engine(done.sequence) is ControlState.PAUSED


async def test_concurrent_imports_lose_and_duplicate_nothing(log: Connection) -> None:
    done = await asyncio.gather(
        *(import_lines(log, many(1_500, name), actor=name, now=NOW + n) for n, name in enumerate("abc"))
    )
    assert [one.written for one in done] == [{"subscriber": 1500}] * 3
    directory, sequence = await directory_at(log, codec())
    assert len(directory.subscribers) == 4500
    assert sequence == max(one.sequence for one in done)
    configured = [event.id for event in await written(log) if isinstance(event.data, SubscriberConfigured)]
    assert len(configured) == len(set(configured)) == 4500


async def test_a_line_that_a_concurrent_import_made_wrong_is_refused(log: Connection) -> None:
    address = "0x" + "ab" * 20
    mine, theirs = (
        f'{{"kind":"influencer","id":"{name}","venue":"hyperliquid","addresses":["{address}"]}}' for name in "xy"
    )
    done = await asyncio.gather(*(import_lines(log, [line], actor="tests", now=NOW) for line in (mine, theirs)))
    bad = [one.bad for one in done]
    assert sorted(map(len, bad)) == [0, 1]
    assert "belongs to influencer" in str(max(bad, key=len)[0])
