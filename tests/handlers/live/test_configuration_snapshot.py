"""Snapshots of the configuration: a start from one knows the same as a start from the first event."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.configuration import ALL_KINDS, Configuration, Kind
from domain.events import (
    ControlChanged,
    ControlState,
    ControlTarget,
    Event,
    Filters,
    GuardrailConfigured,
    OnClose,
    PolicyMaterialized,
    Status,
)
from handlers.live import configuration as live
from handlers.live import configuration_snapshot
from handlers.live.configuration import LiveConfiguration, configuration_fold
from handlers.live.event_codec import codec
from handlers.services.config_import import import_lines, store_control
from streams import topology
from streams.append import Record, append
from streams.connection import Connection
from tests.domain.facts import at, influencer, subscriber, subscription
from tests.handlers.folding import LINES, NOW

NAMES = ("ann", "bob", "eve")


def known(directory: Configuration) -> dict[str, Any]:
    """Everything that a configuration of all kinds answers with."""
    return {
        "influencers": list(directory.influencers.values()),
        "subscribers": list(directory.subscribers.values()),
        "subscriptions": list(directory.subscriptions.values()),
        "of": {name: [one.id for one in directory.subscriptions_of(name)] for name in NAMES},
        "guardrails": directory.guardrails,
        "policies": directory.policies,
        "since": (directory.active_since, directory.resumed_at, directory.influencers_resumed_at),
        "followed": directory.follows,
        "switches": (directory.controls.switches, directory.controls.orders),
        "evaluated": [directory.policy_of(one) for one in directory.subscriptions.values()],
    }


name = st.sampled_from(NAMES)
status = st.sampled_from(Status)
on_close = st.sampled_from(OnClose)
values = st.dictionaries(st.sampled_from(["spread_bps", "latency_ms"]), st.integers(0, 9), max_size=2)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        lambda who, address, status, on_close: influencer(who, address, status=status, on_close=on_close),
        name,
        name,
        status,
        on_close,
    ),
    st.builds(lambda who, status, on_close: subscriber(who, status=status, on_close=on_close), name, status, on_close),
    st.builds(
        lambda id, who, of, status, on_close, limits, asset: subscription(
            id,
            subscriber=who,
            influencer=of,
            status=status,
            on_close=on_close,
            limits=limits,
            filters=Filters(blocked_assets=(asset,), hours=((60, 120),)) if asset == "bob" else None,
        ),
        st.sampled_from(["a", "b", "c"]),
        name,
        name,
        status,
        on_close,
        values,
        name,
    ),
    st.builds(
        lambda scope, values: GuardrailConfigured(scope=scope, values=values, actor="ops"),
        st.sampled_from(["global", "influencer:ann", "subscriber:bob"]),
        values,
    ),
    st.builds(lambda name, values: PolicyMaterialized(hash=name, values=values), name, values),
    st.builds(
        lambda target, id, state: ControlChanged(target=target, id=id, state=state, actor="ops", note=""),
        st.sampled_from(ControlTarget),
        name,
        st.sampled_from(ControlState),
    ),
)


@given(st.lists(events, max_size=20), st.integers(0, 20))
def test_a_restored_configuration_is_the_one_that_was_dumped_now_and_after_further_events(
    happened: list[Event], dumped_after: int
) -> None:
    whole, begun = Configuration(), Configuration()
    for sequence, event in enumerate(happened, 1):
        whole.evolve(event, at(sequence), sequence)
        if sequence <= dumped_after:
            begun.evolve(event, at(sequence), sequence)
    restored = Configuration()
    for kind in Kind:
        configuration_snapshot.restore(restored, kind, configuration_snapshot.dump(begun, kind))
    for sequence, event in enumerate(happened[dumped_after:], dumped_after + 1):
        restored.evolve(event, at(sequence), sequence)
    assert known(restored) == known(whole)


async def test_a_start_loads_the_snapshot_and_what_came_after_it(log: Connection) -> None:
    first = await import_lines(log, LINES, actor="tests", now=NOW)
    before = await configuration_fold(log, codec())
    await configuration_snapshot.save(log, before.directory, before.sequence)
    await import_lines(log, [LINES[2].replace("10000", "20000")], actor="tests", now=NOW + 1)
    await store_control(log, ControlTarget.ENGINE, "", ControlState.PAUSED, actor="eve", note="", now=NOW + 2)
    loaded = await configuration_fold(log, codec())
    assert loaded.begun == dict.fromkeys(ALL_KINDS, first.sequence)
    read = await configuration_fold(log, codec(), from_snapshot=False)
    assert not read.begun
    assert known(loaded.directory) == known(read.directory)
    assert loaded.sequence == read.sequence == first.sequence + 2


async def test_what_was_known_before_the_snapshot_is_read_from_the_log(log: Connection) -> None:
    first = await import_lines(log, LINES, actor="tests", now=NOW)
    await import_lines(log, [LINES[2].replace("10000", "20000")], actor="tests", now=NOW + 1)
    now = await configuration_fold(log, codec())
    await configuration_snapshot.save(log, now.directory, now.sequence)
    then = await configuration_fold(log, codec(), until=first.sequence)
    assert not then.begun
    assert then.directory.subscribers["ann"].deposit_micros == 10_000_000_000
    assert then.sequence == first.sequence


async def test_kinds_whose_snapshots_are_of_different_times_are_each_followed_from_their_own(log: Connection) -> None:
    await import_lines(log, LINES, actor="tests", now=NOW)
    one = await configuration_fold(log, codec(), {Kind.SUBSCRIPTION})
    await configuration_snapshot.save(log, one.directory, one.sequence)
    moved = LINES[4].replace('"subscriber_id"', '"status":"paused","subscriber_id"')
    await import_lines(log, [moved, LINES[2].replace("10000", "5")], actor="tests", now=NOW + 1)
    other = await configuration_fold(log, codec(), {Kind.SUBSCRIBER})
    await configuration_snapshot.save(log, other.directory, other.sequence)
    loaded = await configuration_fold(log, codec())
    assert (loaded.begun[Kind.SUBSCRIPTION], loaded.begun[Kind.SUBSCRIBER]) == (one.sequence, other.sequence)
    read = await configuration_fold(log, codec(), from_snapshot=False)
    assert known(loaded.directory) == known(read.directory)


@pytest.mark.parametrize("damage", ["schema", "payload", "another log"])
async def test_a_snapshot_that_does_not_fit_is_ignored(
    log: Connection, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    await import_lines(log, LINES, actor="tests", now=NOW)
    fold = await configuration_fold(log, codec())
    await configuration_snapshot.save(log, fold.directory, fold.sequence)
    if damage == "schema":
        monkeypatch.setattr(configuration_snapshot, "_LAYOUT", 99)
    elif damage == "payload":
        for kind in Kind:
            await append(log, [Record(f"snapshots.config-{kind.value}.00-63.b.00000", b"damaged")])
            await append(log, [Record(f"snapshots.config-{kind.value}.00-63.a.00000", b"damaged")])
    else:
        await log.api("STREAM.DELETE.CONFIG")
        await topology.apply(log)
        await import_lines(log, LINES[:2], actor="tests", now=NOW)
    loaded = await configuration_fold(log, codec())
    assert not loaded.begun
    assert len(loaded.directory.subscribers) == (0 if damage == "another log" else 2)


async def test_a_process_saves_what_took_long_to_load(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SNAPSHOT_EVERY", 3)
    await import_lines(log, LINES, actor="tests", now=NOW)
    for kinds in ({Kind.SUBSCRIBER}, ALL_KINDS):
        configuration = LiveConfiguration(log, codec(), kinds)
        await configuration.start()
        await configuration.close()
    loaded = await configuration_fold(log, codec())
    assert loaded.begun == dict.fromkeys(ALL_KINDS, loaded.sequence)


async def test_an_import_saves_what_it_has_made(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    await import_lines(log, LINES[:3], actor="tests", now=NOW)
    await store_control(log, ControlTarget.ENGINE, "", ControlState.PAUSED, actor="eve", note="", now=NOW + 1)
    monkeypatch.setattr(live, "SNAPSHOT_EVERY", 3)
    limited = LINES[4].replace('"sizing"', '"limits":{"spread_bps":3},"sizing"')
    done = await import_lines(log, [*LINES[:4], limited, *LINES[5:]], actor="tests", now=NOW + 1_234, bankroll_micros=7)
    saved = await configuration_fold(log, codec())
    assert saved.begun == dict.fromkeys(ALL_KINDS, done.sequence)
    read = await configuration_fold(log, codec(), from_snapshot=False)
    assert known(saved.directory) == known(read.directory)


async def test_a_large_import_is_loaded_from_a_snapshot_and_of_the_kinds_that_are_kept(log: Connection) -> None:
    many = [f'{{"kind":"subscriber","id":"s{number}","deposit_usd":"1"}}' for number in range(6_000)]
    done = await import_lines(log, [*LINES, *many], actor="tests", now=NOW, bankroll_micros=7)
    saved = await configuration_fold(log, codec())
    assert saved.begun == dict.fromkeys(ALL_KINDS, done.sequence)
    read = await configuration_fold(log, codec(), from_snapshot=False)
    assert known(saved.directory) == known(read.directory)
    some = await configuration_fold(log, codec(), {Kind.INFLUENCER, Kind.SUBSCRIPTION}, from_snapshot=False)
    assert some.directory.subscriptions == read.directory.subscriptions
    assert some.directory.influencers == read.directory.influencers
    assert some.folded < 10


async def test_a_large_import_takes_effect_at_once_for_those_who_follow(log: Connection) -> None:
    await import_lines(log, LINES, actor="tests", now=NOW)
    configuration = LiveConfiguration(log, codec())
    await configuration.start()
    try:
        seen: set[int] = set()
        configuration.on_change(lambda: seen.add(len(configuration.directory.subscribers)))
        many = [f'{{"kind":"subscriber","id":"s{number}","deposit_usd":"1"}}' for number in range(3_000)]
        done = await import_lines(log, many, actor="tests", now=NOW + 1)
        await asyncio.wait_for(configuration.reached(done.sequence), 10)
        assert seen <= {2, 3_002}
        assert len(configuration.directory.subscribers) == 3_002
    finally:
        await configuration.close()
