"""Account snapshots and stated positions (docs/design.md, signals): what they correct and what they contain."""

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.events import Action, GapDetected, GapKind, PositionState, Side, SignalRecorded, TradeSide
from domain.ids import derived
from domain.influencer_account import section_of, shrunk_by
from domain.micros import micros
from domain.signals import REMEMBERED
from domain.testing import given, like
from tests.domain.copy_scenarios import after, held, recording, signals, stating, trades
from tests.domain.facts import ACCOUNT, ANN, BUY, SELL, at, seeded, trade

# --- snapshots ---------------------------------------------------------------------------------------------


def test_without_a_snapshot_a_position_is_assumed() -> None:
    given(ACCOUNT).when(recording, trade()).then(
        like(SignalRecorded, before_micros=0, position_state=PositionState.ASSUMED)
    )


def test_a_snapshot_states_the_position() -> None:
    given(ACCOUNT, seeded(("BTC", "-5"))).when(recording, trade(size="2", ms=1)).then(
        like(
            SignalRecorded,
            before_micros=micros("-5"),
            action=Action.DECREASE,
            side=Side.SHORT,
            position_state=PositionState.KNOWN,
        )
    )


def test_what_a_snapshot_does_not_list_is_flat() -> None:
    given(ACCOUNT, seeded(("BTC", "5"))).when(recording, trade(asset="ETH", ms=1)).then(
        like(SignalRecorded, before_micros=0, action=Action.OPEN, position_state=PositionState.KNOWN)
    )


def test_what_a_snapshot_could_not_read_stays_what_it_was() -> None:
    before = (seeded(("BTC", "5"), ("ETH", "3"), ms=0), replace(seeded(("BTC", "4"), ms=100), unread=("ETH", "SOL")))
    given(ACCOUNT, *before).when(recording, trade(asset="ETH", ms=101)).then(
        like(SignalRecorded, before_micros=micros("3"), action=Action.INCREASE, position_state=PositionState.KNOWN)
    )
    assert [gap.asset for gap in shrunk_by(after(before[0]).state, replace(before[1], positions=()))] == ["BTC"]


def test_what_was_never_read_is_assumed() -> None:
    odd = replace(seeded(("BTC", "4"), ms=100), unread=("ETH",))
    given(ACCOUNT, odd).when(recording, trade(asset="ETH", ms=101)).then(
        like(SignalRecorded, before_micros=0, position_state=PositionState.ASSUMED)
    )


@pytest.mark.parametrize(("ms", "state"), [(99, "HISTORIC"), (100, "HISTORIC"), (101, "KNOWN")])
def test_a_trade_up_to_the_snapshot_is_contained_in_it(ms: int, state: str) -> None:
    outcome = given(ACCOUNT, seeded(("BTC", "5"), ms=100)).when(recording, trade(ms=ms))
    historic = state == "HISTORIC"
    outcome.then(
        like(SignalRecorded, position_state=PositionState(state), after_micros=micros("5" if historic else "6"))
    )
    assert held(outcome) == micros("5" if historic else "6")
    outcome.again().then_nothing()


@pytest.mark.parametrize(
    ("holds", "states", "gaps"),
    [
        ("5", None, [("5", "0")]),
        ("5", "2", [("5", "2")]),
        ("-5", "-2", [("-5", "-2")]),
        ("5", "-3", [("5", "-3")]),
        ("5", "5", []),
        ("5", "7", []),
        ("5", "4.999998", []),
        ("5", "4.999997", [("5", "4.999997")]),
    ],
)
def test_a_snapshot_reveals_what_was_given_up_unseen(
    holds: str, states: str | None, gaps: list[tuple[str, str]]
) -> None:
    account = after(seeded(("BTC", holds), ms=0))
    newer = seeded(*((("BTC", states),) if states else ()), ms=1_000)
    found = shrunk_by(account.state, newer)
    assert [(one.expected_micros, one.found_micros) for one in found] == [(micros(a), micros(b)) for a, b in gaps]
    assert {one.kind for one in found} <= {GapKind.SNAPSHOT}
    for one in found:
        assert (one.asset, one.event_time, one.source_event_id) == ("BTC", at(1_000), newer.seed_id)


def test_a_snapshot_reveals_nothing_that_the_trades_after_it_explain() -> None:
    account = after(seeded(("BTC", "5"), ms=0), *trades("-1", "-1"))
    assert shrunk_by(account.state, seeded(("BTC", "4"), ms=1)) == ()
    (gap,) = shrunk_by(account.state, seeded(("BTC", "3.5"), ms=1))
    assert (gap.expected_micros, gap.found_micros) == (micros("3"), micros("2.5"))


def test_another_snapshot_keeps_the_trades_after_it() -> None:
    """A snapshot may be older than trades that arrived before it."""
    state = after(seeded(("BTC", "1"), ms=0), *trades("+1", "+1", "-0.5"))
    corrected = after(seeded(("BTC", "1"), ms=0), *trades("+1", "+1", "-0.5"), seeded(("BTC", "10"), ms=2))
    assert held(state) == micros("2.5")
    assert held(corrected) == micros("9.5"), "the report has the trades of 1 and 2 ms, not the one of 3 ms"


def test_another_snapshot_closes_what_is_no_longer_listed() -> None:
    state = after(seeded(("BTC", "1"), ("ETH", "2"), ms=0), *trades("+1"), seeded(("ETH", "2"), ms=50))
    assert held(state) == 0
    assert held(state, "ETH") == micros("2")


def test_a_section_only_concerns_its_own_assets() -> None:
    on_a_dex = trade("t1", asset="xyz:SP500", ms=1)
    state = after(seeded(("BTC", "5"), section=""), on_a_dex)
    assert state.state.holdings["xyz:SP500"].seeded_at is None, "the main section does not include a dex"
    state = after(seeded(("BTC", "5")), seeded(("xyz:SP500", "7"), section="xyz", ms=10), seeded(section="abc", ms=20))
    assert (held(state), held(state, "xyz:SP500")) == (micros("5"), micros("7"))
    state.when(recording, trade(asset="BTC", ms=15)).then(like(SignalRecorded, position_state=PositionState.KNOWN))


def test_the_section_of_an_asset_is_its_dex() -> None:
    assert [section_of(asset) for asset in ("BTC", "xyz:SP500", "@142")] == ["", "xyz", ""]


def test_a_snapshot_that_repeats_or_arrives_out_of_order_changes_nothing() -> None:
    first, second = seeded(("BTC", "1"), ms=0), seeded(("BTC", "10"), ms=50)
    state = after(first, second, *trades("+1", first=60))
    assert after(first, second, *trades("+1", first=60), second, first).state == state.state
    assert held(state) == micros("11")


def test_a_snapshot_from_before_a_gap_does_not_undo_its_correction() -> None:
    found = trade("t9", size="1", ms=90, start_micros=micros("7"))
    state = after(seeded(("BTC", "1"), ms=0), found)
    assert held(state) == micros("8")
    late = after(seeded(("BTC", "1"), ms=0), found, seeded(("BTC", "2"), ("ETH", "3"), ms=80))
    assert (held(late), held(late, "ETH")) == (micros("8"), micros("3")), "of others the snapshot is the newest"


def test_a_snapshot_older_than_the_remembered_trades_changes_nothing() -> None:
    many = trades(*["+1"] * (REMEMBERED + 5))
    state = after(*many, seeded(("BTC", "2"), ms=2))
    assert held(state) == micros(str(len(many))), "the trades since the snapshot are no longer remembered"
    newer = after(*many, seeded(("BTC", "7"), ms=7))
    assert held(newer) == micros(str(len(many)))
    assert newer.state.holdings["BTC"].seeded_at == at(7)


# --- the position before, as the venue states it -----------------------------------------------------------


def test_a_fill_that_agrees_is_no_gap() -> None:
    after(seeded(("BTC", "5"))).when(recording, stating("t1", "5", ms=1)).then(
        like(SignalRecorded, before_micros=micros("5"), position_state=PositionState.KNOWN)
    )


def test_a_fill_that_disagrees_is_a_gap_and_the_signal_follows_the_venue() -> None:
    outcome = after(seeded(("BTC", "5"))).when(recording, stating("t1", "8", ms=1))
    outcome.then(
        GapDetected(
            gap_id=derived("gap", "t1"),
            kind=GapKind.START_POSITION,
            influencer_id="ann",
            venue=trade().venue,
            address=ANN,
            asset="BTC",
            expected_micros=micros("5"),
            found_micros=micros("8"),
            source_event_id="t1",
            event_time=at(1),
            detect_time=at(41),
            market="BTC",
        ),
        like(
            SignalRecorded,
            before_micros=micros("8"),
            after_micros=micros("9"),
            action=Action.INCREASE,
            position_state=PositionState.KNOWN,
        ),
    ).again().then_nothing()
    assert held(outcome) == micros("9")
    outcome.when(recording, stating("t2", "9", ms=2)).then(like(SignalRecorded, before_micros=micros("9")))


def test_a_gap_may_turn_a_position_around() -> None:
    after(seeded(("BTC", "5"))).when(recording, stating("t1", "-2", "2", ms=1)).then(
        like(GapDetected, found_micros=micros("-2")),
        like(SignalRecorded, action=Action.CLOSE, side=Side.FLAT),
    )


@pytest.mark.parametrize(("ms", "state"), [(89, "HISTORIC"), (91, "KNOWN")])
def test_a_late_fill_that_the_gap_contained_is_historic(ms: int, state: str) -> None:
    gap = after(seeded(("BTC", "5")), stating("t9", "8", ms=90))
    late = gap.when(recording, trade("late", size="3", ms=ms))
    late.then(like(SignalRecorded, position_state=PositionState(state)))
    assert held(late) == micros("9" if state == "HISTORIC" else "12")


def test_a_late_fill_does_not_state_the_current_position() -> None:
    state = after(seeded(("BTC", "5")), *trades("+1", "+1", first=10))
    late = state.when(recording, stating("late", "5", "4", ms=5))
    late.then(like(SignalRecorded, before_micros=micros("7"), after_micros=micros("11")))


def test_a_chain_of_fills_in_one_millisecond_is_no_gap() -> None:
    chain = [stating(f"t{n}", str(5 + n), ms=3) for n in range(4)]
    found = signals(after(seeded(("BTC", "5"))), *chain)
    assert [one.before_micros for one in found] == [micros(str(5 + n)) for n in range(4)]


def test_without_a_snapshot_the_first_stated_position_is_no_gap() -> None:
    outcome = given(ACCOUNT).when(recording, stating("t1", "7", "2", side=SELL, ms=5))
    outcome.then(
        like(
            SignalRecorded,
            action=Action.DECREASE,
            before_micros=micros("7"),
            after_micros=micros("5"),
            position_state=PositionState.KNOWN,
        )
    )
    outcome.when(recording, trade("t2", ms=6)).then(like(SignalRecorded, position_state=PositionState.KNOWN))
    outcome.when(recording, trade("t0", ms=4)).then(like(SignalRecorded, position_state=PositionState.HISTORIC))


def test_a_stated_position_replaces_an_assumed_one_without_a_gap() -> None:
    state = after(*trades("+1", "+1"))
    outcome = state.when(recording, stating("t9", "7", ms=9))
    outcome.then(like(SignalRecorded, before_micros=micros("7"), position_state=PositionState.KNOWN))
    assert held(outcome) == micros("8")


def test_a_historic_signal_shows_the_step_that_led_to_the_snapshot() -> None:
    state = after(seeded(("BTC", "5"), ms=100))
    state.when(recording, stating("t1", "2", ms=50)).then(
        like(SignalRecorded, before_micros=micros("2"), after_micros=micros("3"), position_state=PositionState.HISTORIC)
    )


@given_any(st.lists(st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 9)), max_size=25), st.lists(st.booleans()))
def test_stated_positions_keep_the_fold_right_whatever_was_lost(
    steps: list[tuple[TradeSide, int]], missed: list[bool]
) -> None:
    stream, position = [], 3
    for number, (side, size) in enumerate(steps):
        stream.append(stating(f"t{number}", str(position), str(size), side=side, ms=number + 1))
        position += size * side.sign
    lost = [one for one, miss in zip(stream[:-1], missed, strict=False) if miss]
    state = after(seeded(("BTC", "3")))
    for one in stream:
        if one not in lost:
            state = state.when(recording, one)
            assert isinstance(state.events[-1], SignalRecorded)
            assert state.events[-1].before_micros == one.start_micros
    assert held(state) == micros(str(position))
    for one in lost:
        state = state.when(recording, one)
        state.then(like(SignalRecorded))
    assert held(state) == micros(str(position)), "also when the lost trades arrive after all"


@given_any(
    st.lists(st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 9), st.integers(1, 40)), max_size=20),
    st.integers(0, 41),
    st.integers(-20, 20),
)
def test_a_snapshot_of_any_time_leaves_the_same_position_whenever_it_arrives(
    steps: list[tuple[TradeSide, int, int]], reported_ms: int, start: int
) -> None:
    """The position is `start` plus every trade; the snapshot contains those up to its own time."""
    stream = [
        trade(f"t{number}", side, str(size), ms=ms)
        for number, (side, size, ms) in enumerate(sorted(steps, key=lambda step: step[2]))
    ]
    moved = [t.share_micros * t.trade_side.sign for t in stream]
    known = sum(m for t, m in zip(stream, moved, strict=True) if t.event_time <= at(reported_ms))
    report = seeded(("BTC", str(start + known // 1_000_000)), ms=reported_ms)
    for arrives in range(0, len(stream) + 1, 3):
        state = after(*stream[:arrives], report, *stream[arrives:])
        assert held(state) == start * 1_000_000 + sum(moved)
