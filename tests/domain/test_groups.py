"""Grouping: what one influencer does on one side of one asset inside one window is one."""

import msgspec
import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec import structs

from domain.events import (
    Action,
    Event,
    GapDetected,
    GapKind,
    GroupCause,
    GroupClosed,
    PositionState,
    Side,
    SignalGrouped,
    SignalRecorded,
    TradeSide,
    Venue,
)
from domain.groups import SETTLE_NS, OpenGroup, expire, given_up, join
from domain.ids import derived
from domain.micros import micros
from domain.testing import Given, given, like
from domain.venues import VENUES
from tests.domain.facts import BUY, MS, SELL, WINDOW, at, grouped, signal

FIRST = derived("grp", "ann", "s1")


def expiring(window: OpenGroup | None, now: int) -> tuple[Event, ...]:
    return expire(window, now) if window else ()


def test_windows_are_those_of_the_venues() -> None:
    windows = {venue: VENUES[venue].group_window_ns for venue in Venue}
    assert windows == {Venue.HYPERLIQUID: 250 * MS, Venue.POLYMARKET: 2_000 * MS}


def test_the_first_signal_opens_a_window_that_closes_by_our_clock() -> None:
    first = signal("s1", ms=0)
    given(WINDOW).when(join, first, 11).then(grouped(first, 11, group=FIRST, closes_ms=40 + 250))


def test_a_polymarket_window_is_longer() -> None:
    first = signal("s1", venue=Venue.POLYMARKET)
    given(WINDOW).when(join, first, 11).then(grouped(first, 11, group=FIRST, closes_ms=40 + 2_000))


def test_signals_inside_the_window_join_and_do_not_prolong_it() -> None:
    first, last = signal("s1", ms=0), signal("s2", ms=250, before="1")
    opened = given(WINDOW).when(join, first, 11)
    opened.when(join, last, 12).then(grouped(last, 12, group=FIRST, closes_ms=290))


def test_a_signal_after_the_window_closes_it_and_opens_the_next() -> None:
    first, later = signal("s1", ms=0), signal("s2", ms=251, before="1")
    given(WINDOW).when(join, first, 11).when(join, later, 12).then(
        like(GroupClosed, group_id=FIRST, signal_ids=("s1",), closed_at=later.detect_time),
        grouped(later, 12, group=derived("grp", "ann", "s2"), closes_ms=251 + 40 + 250),
    )


@pytest.mark.parametrize(("venue", "window"), [(Venue.HYPERLIQUID, 250), (Venue.POLYMARKET, 2_000)])
def test_a_signal_that_comes_late_joins_when_it_happened_inside_the_window(venue: Venue, window: int) -> None:
    opened = given(WINDOW).when(join, signal("s2", ms=5_000, before="1", venue=venue), 12)
    late = signal("s1", ms=5_000 - window, venue=venue)
    opened.when(join, late, 13).then(like(SignalGrouped, group_id=derived("grp", "ann", "s2"), signal_id="s1"))
    earlier = signal("s0", ms=5_000 - window - 1, venue=venue)
    opened.when(join, earlier, 13).then(
        like(GroupClosed, signal_ids=("s2",)),
        like(SignalGrouped, group_id=derived("grp", "ann", "s0"), event_time=earlier.event_time),
    )


def test_a_window_stays_open_after_its_first_signal_is_processed() -> None:
    """More signals may follow one that was detected long ago and is processed only now."""
    seen_at = at(10_000)
    outcome = given(WINDOW).when(join, signal("s1", ms=0), 11, now=seen_at)
    outcome.then(like(SignalGrouped, closes_at=seen_at + SETTLE_NS))
    on_time = given(WINDOW).when(join, signal("s1", ms=0), 11, now=at(41))
    on_time.then(like(SignalGrouped, closes_at=at(40 + 250)))


def test_a_signal_of_the_other_side_closes_it_and_opens_the_next() -> None:
    first, back = signal("s1", BUY, ms=0), signal("s2", SELL, ms=1, before="1")
    given(WINDOW).when(join, first, 11).when(join, back, 12).then(
        like(GroupClosed, group_id=FIRST, trade_side=BUY, after_micros=micros("1")),
        like(SignalGrouped, group_id=derived("grp", "ann", "s2"), trade_side=SELL, before_micros=micros("1")),
    )


def test_a_signal_that_is_in_the_window_already_changes_nothing() -> None:
    given(WINDOW).when(join, signal(), 11).again().then_nothing()


def test_a_historic_signal_is_never_copied_and_closes_nothing() -> None:
    historic = signal("s0", SELL, ms=900, position_state=PositionState.HISTORIC)
    given(WINDOW).when(join, historic, 10).then_nothing()
    given(WINDOW).when(join, signal(), 11).when(join, historic, 12).then_nothing()


@pytest.mark.parametrize("movement", [Action.SPLIT, Action.MERGE, Action.REDEEM])
def test_a_movement_of_what_is_not_held_joins_no_window_and_closes_none(movement: Action) -> None:
    moved = signal("s9", SELL, ms=900, action=movement, venue=Venue.POLYMARKET)
    given(WINDOW).when(join, moved, 12).then_nothing()
    given(WINDOW).when(join, signal(venue=Venue.POLYMARKET), 11).when(join, moved, 12).then_nothing()


@pytest.mark.parametrize("movement", [Action.MERGE, Action.REDEEM])
def test_what_a_movement_gives_up_is_a_group_without_a_price_and_the_window_closes_before_it(movement: Action) -> None:
    moved = signal("s9", SELL, ms=900, size="2", before="5", action=movement, venue=Venue.POLYMARKET)
    alone = like(
        GroupClosed,
        group_id=derived("grp", "ann", "s9"),
        action=Action.DECREASE,
        trade_side=SELL,
        before_micros=micros("5"),
        after_micros=micros("3"),
        delta_micros=micros("-2"),
        price_micros=0,
        notional_micros=0,
        signal_ids=(),
        signal_sequences=(12,),
        cause=GroupCause.MOVEMENT,
    )
    given(WINDOW).when(join, moved, 12).then(alone)
    opened = given(WINDOW).when(join, signal(venue=Venue.POLYMARKET), 11)
    opened.when(join, moved, 12).then(like(GroupClosed, signal_ids=("s1",), cause=GroupCause.TRADE), alone)


def gap(expected: str, found: str) -> GapDetected:
    return GapDetected(
        gap_id="gap-1",
        kind=GapKind.SNAPSHOT,
        influencer_id="ann",
        venue=Venue.HYPERLIQUID,
        address="0xa",
        asset="BTC",
        expected_micros=micros(expected),
        found_micros=micros(found),
        source_event_id="seed-1",
        event_time=at(0),
        detect_time=at(40),
        market="BTC",
    )


@pytest.mark.parametrize(
    ("expected", "found", "action", "side", "after"),
    [
        ("5", "3", Action.DECREASE, SELL, "3"),
        ("5", "0", Action.CLOSE, SELL, "0"),
        ("-5", "-1", Action.DECREASE, BUY, "-1"),
        ("5", "-4", Action.CLOSE, SELL, "0"),
        ("-5", "4", Action.CLOSE, BUY, "0"),
    ],
)
def test_what_a_gap_reveals_as_given_up_is_a_group_that_only_reduces(
    expected: str, found: str, action: Action, side: TradeSide, after: str
) -> None:
    (group,) = given_up(None, gap(expected, found), 7, now=at(50))
    assert group == like(
        GroupClosed,
        group_id=derived("grp", "ann", "gap-1"),
        action=action,
        trade_side=side,
        before_micros=micros(expected),
        after_micros=micros(after),
        signal_ids=(),
        signal_sequences=(7,),
        closed_at=at(50),
        cause=GroupCause.GAP,
    )


@pytest.mark.parametrize(("expected", "found"), [("5", "5"), ("5", "6"), ("0", "3"), ("-2", "-2.5"), ("0", "0")])
def test_what_a_gap_reveals_as_opened_is_no_group(expected: str, found: str) -> None:
    assert given_up(None, gap(expected, found), 7, now=at(50)) == ()


@pytest.mark.parametrize(
    ("states", "group"), [("KK", "KNOWN"), ("KA", "ASSUMED"), ("AK", "ASSUMED"), ("AA", "ASSUMED")]
)
def test_a_group_is_as_sure_as_the_least_sure_of_its_signals(states: str, group: str) -> None:
    of = {"K": PositionState.KNOWN, "A": PositionState.ASSUMED}
    state = given(WINDOW).when(join, signal("s1", position_state=of[states[0]]), 11)
    state = state.when(join, signal("s2", before="1", position_state=of[states[1]]), 12)
    state.when(expiring, at(500)).then(like(GroupClosed, position_state=PositionState(group)))


def test_a_group_has_the_influencers_newest_equity() -> None:
    state = given(WINDOW).when(join, signal("s1", influencer_equity_micros=5), 11)
    state = state.when(join, signal("s2", before="1", influencer_equity_micros=7), 12)
    state.when(expiring, at(500)).then(like(GroupClosed, influencer_equity_micros=7))


def test_the_timer_closes_a_window_once() -> None:
    opened = given(WINDOW).when(join, signal("s1"), 11)
    opened.when(expiring, at(290) - 1).then_nothing()
    opened.when(expiring, at(290)).then(like(GroupClosed, group_id=FIRST, closed_at=at(290))).again().then_nothing()


def test_a_closed_group_is_the_net_effect_at_the_average_price() -> None:
    parts = (
        signal("s1", size="1", price="100", before="2", ms=0, leverage=10),
        signal("s2", size="2", price="101", before="3", ms=100, leverage=20),
        signal("s3", size="0.000001", price="90", before="5", ms=90, leverage=20),
    )
    state = given(WINDOW)
    for sequence, part in enumerate(parts, 11):
        state = state.when(join, part, sequence)
    notional = micros("302.00009")
    state.when(expiring, at(500)).then(
        GroupClosed(
            group_id=FIRST,
            influencer_id="ann",
            venue=parts[0].venue,
            address=parts[0].address,
            asset="BTC",
            market="BTC",
            action=Action.INCREASE,
            side=Side.LONG,
            trade_side=BUY,
            before_micros=micros("2"),
            after_micros=micros("5.000001"),
            delta_micros=micros("3.000001"),
            notional_micros=notional,
            price_micros=100_666_663,  # 302.00009 / 3.000001 = 100.6666631...
            leverage=20,
            signal_ids=("s1", "s2", "s3"),
            signal_sequences=(11, 12, 13),
            event_time=at(0),
            last_event_time=at(100),
            detect_time=at(40),
            closed_at=at(500),
        )
    )


def test_a_group_that_crosses_zero_is_one_flip() -> None:
    state = given(WINDOW).when(join, signal("s1", SELL, "1", before="1"), 11)
    state = state.when(join, signal("s2", SELL, "2", before="0", ms=5), 12)
    state.when(expiring, at(999)).then(
        like(GroupClosed, action=Action.FLIP, side=Side.SHORT, before_micros=micros("1"), after_micros=micros("-2"))
    )


def test_a_snapshot_that_corrects_the_position_inside_a_window_counts_from_the_start() -> None:
    """Buys that end flat closed a short, whatever position the fold assumed before."""
    state = given(WINDOW).when(join, signal("s1", BUY, "1", before="0"), 11)
    state = state.when(join, signal("s2", BUY, "1", before="-1", ms=10), 12)
    state.when(expiring, at(999)).then(
        like(
            GroupClosed,
            action=Action.CLOSE,
            side=Side.FLAT,
            trade_side=BUY,
            before_micros=micros("-2"),
            after_micros=0,
            delta_micros=micros("2"),
        )
    )


def steps(moves: list[tuple[bool, int, int]]) -> list[SignalRecorded]:
    """Signals from (buys, size, ms since the one before)."""
    made, position, ms = [], 0, 0
    for number, (buys, size, later) in enumerate(moves):
        ms += later
        one = signal(f"s{number}", BUY if buys else SELL, str(size), before=str(position), ms=ms)
        position += size if buys else -size
        made.append(one)
    return made


many = st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(0, 300)), min_size=1, max_size=15)


def fold(signals: list[SignalRecorded]) -> list[GroupClosed]:
    state, closed = given(WINDOW), []
    for sequence, one in enumerate(signals, 1):
        outcome = state.when(join, one, sequence)
        closed += [event for event in outcome.events if isinstance(event, GroupClosed)]
        state = outcome
    last = state.when(expiring, at(10**9)).events
    return closed + [event for event in last if isinstance(event, GroupClosed)]


@given_any(many)
def test_every_signal_is_in_exactly_one_group_and_nothing_is_lost(moves: list[tuple[bool, int, int]]) -> None:
    signals = steps(moves)
    groups = fold(signals)
    assert [id for group in groups for id in group.signal_ids] == [one.signal_id for one in signals]
    assert sum(group.delta_micros for group in groups) == sum(one.delta_micros for one in signals)
    assert sum(group.notional_micros for group in groups) == sum(one.notional_micros for one in signals)
    for group in groups:
        assert group.after_micros - group.before_micros == group.delta_micros
        assert group.last_event_time - group.event_time <= VENUES[group.venue].group_window_ns
        assert group.delta_micros * group.trade_side.sign > 0
        assert group.price_micros == micros("100")


@given_any(many, st.permutations(range(15)))
def test_in_whatever_order_they_come_every_signal_is_copied_once(
    moves: list[tuple[bool, int, int]], order: list[int]
) -> None:
    signals = [one for _, one in sorted(zip(order, steps(moves), strict=False), key=lambda pair: pair[0])]
    groups = fold(signals)
    assert sorted(id for group in groups for id in group.signal_ids) == sorted(one.signal_id for one in signals)
    of = {one.signal_id: one for one in signals}
    for group in groups:
        parts = [of[id] for id in group.signal_ids]
        assert {part.trade_side for part in parts} == {group.trade_side}
        assert all(abs(part.event_time - group.event_time) <= VENUES[group.venue].group_window_ns for part in parts)


@given_any(many, st.integers(0, 14))
def test_a_window_folded_from_its_events_goes_on_as_it_was(moves: list[tuple[bool, int, int]], split: int) -> None:
    """From a snapshot as from the log: no close is computed again."""
    signals = steps(moves)
    state: Given[OpenGroup | None] = given(WINDOW)
    log: list[Event] = []
    for sequence, one in enumerate(signals, 1):
        if sequence - 1 == split:
            saved = msgspec.msgpack.decode(msgspec.msgpack.encode(state.state), type=OpenGroup | None)
            assert saved == state.state == given(WINDOW, *log).state
            state.state = saved
        outcome = state.when(join, one, sequence)
        outcome.again().then_nothing()
        log += outcome.events
        state = outcome
    assert [event for event in log if isinstance(event, GroupClosed)] == fold(signals)[:-1]


@given_any(many, st.integers(1, 10**12))
def test_group_ids_depend_on_nothing_but_the_log(moves: list[tuple[bool, int, int]], later: int) -> None:
    """Not on when a signal was detected, not on its sequence in the log."""
    signals = steps(moves)
    later_detected = [structs.replace(one, detect_time=one.detect_time + later) for one in signals]
    assert [group.group_id for group in fold(signals)] == [group.group_id for group in fold(later_detected)]
    assert all(group.group_id == derived("grp", "ann", group.signal_ids[0]) for group in fold(signals))
