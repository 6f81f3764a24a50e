"""SIGNALS -> GROUPS, as a fold."""

from typing import Any

import pytest

from domain.events import (
    Action,
    GapDetected,
    GroupCause,
    GroupClosed,
    PositionState,
    SignalGrouped,
    SignalRecorded,
    TradeSide,
    Venue,
)
from domain.groups import SETTLE_NS
from domain.ids import derived
from domain.venues import VENUES
from handlers.group import Group
from streams import subjects
from tests.handlers.folding import NOW, Folding
from tests.streams.examples import example

MS = 1_000_000
WINDOW = 250 * MS


def signal(number: int, at: int, side: TradeSide = TradeSide.BUY, **fields: Any) -> SignalRecorded:
    """The `number`-th signal of Alice in BTC, `at` ns after NOW; each trades one share at 100."""
    sign = side.sign
    return example(
        SignalRecorded,
        **{
            "signal_id": f"s{number}",
            "influencer_id": "alice",
            "venue": Venue.HYPERLIQUID,
            "asset": "BTC",
            "trade_side": side,
            "before_micros": (number - 1) * sign * 1_000_000,
            "after_micros": number * sign * 1_000_000,
            "delta_micros": sign * 1_000_000,
            "notional_micros": 100_000_000 + number,
            "event_time": NOW + at,
            "detect_time": NOW + at,
            "position_state": PositionState.KNOWN,
            "others_micros": 0,
        }
        | fields,
    )


def kinds(events: list[Any]) -> list[type]:
    return [type(event) for event in events]


def test_signals_of_one_window_are_one_group_that_a_tick_closes() -> None:
    lane = Folding(Group())
    assert lane.stage.due(lane.state) is None
    (first,) = lane.when(signal(1, 0), sequence=11)
    (second,) = lane.when(signal(2, 100 * MS), sequence=12)
    assert first.group_id == second.group_id == derived("grp", "alice", "s1")
    assert (first.signal_sequence, second.signal_sequence) == (11, 12)
    assert lane.stage.due(lane.state) == NOW + WINDOW
    assert lane.when_time_passes(NOW + WINDOW - 1) == []
    (closed,) = lane.when_time_passes(NOW + WINDOW)
    assert isinstance(closed, GroupClosed)
    assert (closed.action, closed.before_micros, closed.after_micros) == (Action.OPEN, 0, 2_000_000)
    assert (closed.delta_micros, closed.notional_micros, closed.price_micros) == (2_000_000, 200_000_003, 100_000_002)
    assert (closed.signal_ids, closed.signal_sequences) == (("s1", "s2"), (11, 12))
    assert closed.closed_at == NOW + WINDOW
    assert lane.stage.due(lane.state) is None
    assert lane.when_time_passes(NOW + 10 * WINDOW) == []
    subject = subjects.groups("alice", "hyperliquid", "BTC")
    assert [(output.subject, output.id, output.cause) for output in lane.outputs] == [
        (subject, "s1.grouped", None),
        (subject, "s2.grouped", None),
        (subject, closed.group_id, "SIGNALS:12"),
    ]
    assert {output.correlation for output in lane.outputs} == {closed.group_id}


def test_a_later_signal_closes_the_window_before_it() -> None:
    lane = Folding(Group())
    lane.when(signal(1, 0))
    assert kinds(lane.when(signal(2, WINDOW))) == [SignalGrouped], "the window's end belongs to it"
    closed, opened = lane.when(signal(3, WINDOW + 1))
    assert (closed.signal_ids, opened.group_id) == (("s1", "s2"), derived("grp", "alice", "s3"))


def test_the_other_side_closes_the_window_at_once() -> None:
    lane = Folding(Group())
    lane.when(signal(1, 0))
    closed, opened = lane.when(signal(2, 1, TradeSide.SELL))
    assert (closed.trade_side, opened.trade_side) == (TradeSide.BUY, TradeSide.SELL)
    assert closed.group_id != opened.group_id


def test_assets_and_influencers_have_windows_of_their_own() -> None:
    lane = Folding(Group())
    apart: list[dict[str, Any]] = [{}, {"asset": "ETH"}, {"influencer_id": "bob"}]
    for number, fields in enumerate(apart, 1):
        assert kinds(lane.when(signal(number, number, **fields))) == [SignalGrouped]
    assert len({closed.group_id for closed in lane.when_time_passes(NOW + 2 * WINDOW)}) == 3


def test_history_and_repeats_are_not_copied() -> None:
    lane = Folding(Group())
    assert lane.when(signal(1, 0, position_state=PositionState.HISTORIC)) == []
    lane.when(signal(2, 0))
    assert lane.when(signal(2, 0)) == []


def test_a_split_is_not_copied_and_a_merge_is_followed_at_once() -> None:
    lane = Folding(Group())
    held: dict[str, Any] = {"venue": Venue.POLYMARKET, "before_micros": 5_000_000}
    assert lane.when(signal(1, 0, action=Action.SPLIT, after_micros=6_000_000, **held)) == []
    (merged,) = lane.when(signal(2, 0, TradeSide.SELL, action=Action.MERGE, after_micros=4_000_000, **held))
    assert (merged.cause, merged.action) == (GroupCause.MOVEMENT, Action.DECREASE)
    assert lane.stage.due(lane.state) is None


def test_what_a_gap_reveals_is_followed_after_the_open_window() -> None:
    lane = Folding(Group())
    lane.when(signal(1, 0))
    gap = example(
        GapDetected,
        gap_id="gap-1",
        influencer_id="alice",
        venue=Venue.HYPERLIQUID,
        asset="BTC",
        expected_micros=1_000_000,
        found_micros=0,
        others_micros=0,
    )
    window, found = lane.when(gap, sequence=12)
    assert (window.signal_ids, window.cause) == (("s1",), GroupCause.TRADE)
    assert (found.action, found.cause, found.signal_sequences) == (Action.CLOSE, GroupCause.GAP, (12,))
    assert lane.outputs[-1].cause is None, "the gap, which may be one of several events of its commit"
    assert lane.stage.due(lane.state) is None


def test_a_signal_detected_late_waits_for_others_of_its_window() -> None:
    lane = Folding(Group())
    late = NOW + 60 * 1_000 * MS
    lane.when(signal(1, 0), now=late)
    assert lane.stage.due(lane.state) == late + SETTLE_NS
    assert kinds(lane.when(signal(2, 10), now=late + 5)) == [SignalGrouped]
    (closed,) = lane.when_time_passes(late + SETTLE_NS)
    assert closed.signal_ids == ("s1", "s2")


def test_a_signal_of_an_earlier_window_is_a_group_of_its_own() -> None:
    lane = Folding(Group())
    lane.when(signal(2, 0))
    closed, opened = lane.when(signal(1, -WINDOW - 1))
    assert (closed.signal_ids, opened.signal_id) == (("s2",), "s1")


def test_the_group_of_a_signal_with_an_assumed_position_is_assumed_too() -> None:
    lane = Folding(Group())
    lane.when(signal(1, 0, position_state=PositionState.ASSUMED))
    lane.when(signal(2, 1))
    (closed,) = lane.when_time_passes(NOW + WINDOW)
    assert closed.position_state is PositionState.ASSUMED


@pytest.mark.parametrize("venue", list(Venue))
def test_the_length_of_a_window_is_its_venues(venue: Venue) -> None:
    lane = Folding(Group())
    lane.when(signal(1, 0, venue=venue))
    assert lane.stage.due(lane.state) == NOW + VENUES[venue].group_window_ns


def test_a_restart_finds_the_open_window() -> None:
    lane = Folding(Group())
    lane.when(signal(1, 0), sequence=11)
    lane.when(signal(2, 1), sequence=12)
    again = lane.replayed()
    assert again.stage.due(again.state) == NOW + WINDOW
    snapshot = lane.replayed(snapshot_at=1)
    expected = lane.when_time_passes(NOW + WINDOW)
    assert again.when_time_passes(NOW + WINDOW) == snapshot.when_time_passes(NOW + WINDOW) == expected
    assert lane.replayed().state == {}
