"""From fills to signals (docs/design.md, signals): positions, snapshots, gaps, and replays that change nothing."""

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec import structs

from domain.events import Action, PositionState, Side, SignalRecorded
from domain.ids import derived
from domain.micros import micros
from domain.signals import REMEMBERED, Trade, risk_bucket
from domain.testing import given, like
from tests.domain.copy_scenarios import after, held, recording, stating, trades
from tests.domain.facts import ACCOUNT, ANN, BUY, SELL, at, seeded, trade

# --- actions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "step", "action", "side"),
    [
        ([], "+1", Action.OPEN, Side.LONG),
        ([], "-1", Action.OPEN, Side.SHORT),
        (["+1"], "+1", Action.INCREASE, Side.LONG),
        (["-1"], "-1", Action.INCREASE, Side.SHORT),
        (["+2"], "-1", Action.DECREASE, Side.LONG),
        (["-2"], "+1", Action.DECREASE, Side.SHORT),
        (["+2"], "-2", Action.CLOSE, Side.FLAT),
        (["-2"], "+2", Action.CLOSE, Side.FLAT),
        (["+1"], "-3", Action.FLIP, Side.SHORT),
        (["-1"], "+3", Action.FLIP, Side.LONG),
        (["+1"], "-2", Action.FLIP, Side.SHORT),
        (["+1", "-1"], "+1", Action.OPEN, Side.LONG),
    ],
)
def test_what_a_trade_does_to_a_position(before: list[str], step: str, action: Action, side: Side) -> None:
    *earlier, last = trades(*before, step)
    start = sum(micros(text) for text in (s.removeprefix("+") for s in before))
    delta = micros(step.removeprefix("+"))
    after(seeded(ms=0), *earlier).when(recording, last).then(
        like(
            SignalRecorded,
            action=action,
            side=side,
            trade_side=last.trade_side,
            before_micros=start,
            delta_micros=delta,
            after_micros=start + delta,
            position_state=PositionState.KNOWN,
        )
    )


def test_a_signal_carries_the_facts_of_its_trade() -> None:
    one = trade("t1", SELL, "0.5", "66405.5", ms=7, taker=False, metadata={"tid": "1"})
    given(ACCOUNT, seeded(("BTC", "2"), leverage=20)).when(recording, one).then(
        SignalRecorded(
            signal_id=derived("sig", "t1"),
            influencer_id="ann",
            venue=one.venue,
            address=ANN,
            asset="BTC",
            market="BTC",
            action=Action.DECREASE,
            side=Side.LONG,
            trade_side=SELL,
            before_micros=micros("2"),
            after_micros=micros("1.5"),
            delta_micros=micros("-0.5"),
            price_micros=micros("66405.5"),
            notional_micros=micros("33202.75"),
            position_state=PositionState.KNOWN,
            risk_bucket="MEDIUM",
            taker=False,
            event_time=at(7),
            detect_time=at(47),
            source_event_id="t1",
            leverage=20,
            metadata={"tid": "1"},
        )
    )


def test_risk_buckets_begin_at_ten_and_a_hundred_thousand() -> None:
    amounts = ("9999.999999", "10000", "99999.999999", "100000")
    assert [risk_bucket(micros(usd)) for usd in amounts] == ["SMALL", "MEDIUM", "MEDIUM", "LARGE"]


# --- replays -----------------------------------------------------------------------------------------------


def test_a_replay_changes_nothing() -> None:
    state = given(ACCOUNT).when(recording, trade())
    state.then(like(SignalRecorded, action=Action.OPEN)).again().then_nothing()
    assert held(state) == micros("1")


def test_two_trades_of_one_millisecond_both_count() -> None:
    first = given(ACCOUNT).when(recording, trade("t1"))
    first.when(recording, trade("t2")).then(like(SignalRecorded, before_micros=micros("1"), action=Action.INCREASE))


def test_a_replay_of_a_trade_that_is_no_longer_remembered_changes_nothing() -> None:
    many = trades(*["+1"] * (REMEMBERED + 5))
    state = after(*many)
    assert state.state.holdings["BTC"].processed == {t.source_event_id for t in many[5:]}, "memory is bounded"
    for replayed in (many[0], many[4], many[5], many[-1]):
        state.when(recording, replayed).then_nothing()
    assert held(state) == micros(str(len(many)))


def test_any_number_of_trades_of_one_time_is_remembered() -> None:
    many = [trade(f"t{number}", BUY if number % 3 else SELL, ms=1) for number in range(REMEMBERED + 50)]
    state = after(seeded(), *many)
    for one in many:
        state.when(recording, one).then_nothing()
    later = after(seeded(), *many, trade("later", ms=2))
    assert len(later.state.holdings["BTC"].processed) == 1, "until a later time"
    for one in many:
        later.when(recording, one).then_nothing()


def test_a_window_that_is_not_full_has_forgotten_nothing_so_a_late_trade_counts() -> None:
    state = after(*trades("+1", "+1", first=10))
    state.when(recording, trade("late", ms=3)).then(like(SignalRecorded, before_micros=micros("2")))


@given_any(st.lists(st.sampled_from(["+1", "-1", "+2", "-3"]), max_size=20), st.lists(st.integers(0, 19), max_size=20))
def test_replays_anywhere_leave_the_same_account(steps: list[str], again: list[int]) -> None:
    once = trades(*steps)
    with_replays: list[Trade] = []
    for number, one in enumerate(once):
        with_replays += [one, *(once[index] for index in again if index <= number and (index + number) % 3 == 0)]
    assert after(*with_replays).state == after(*once).state


def test_a_self_trade_shows_both_sides_and_moves_nothing() -> None:
    bought, sold = trade("hl:BTC:1:1:a:B", BUY), trade("hl:BTC:1:1:a:A", SELL, taker=False)
    state = after(seeded(("BTC", "3"))).when(recording, bought)
    state.then(like(SignalRecorded, action=Action.INCREASE, taker=True))
    state = state.when(recording, sold)
    state.then(like(SignalRecorded, action=Action.DECREASE, taker=False, after_micros=micros("3")))


def test_the_smallest_trade_counts() -> None:
    after(seeded(("BTC", "1"))).when(recording, trade("dust", SELL, "0.000001", ms=1)).then(
        like(
            SignalRecorded,
            action=Action.DECREASE,
            delta_micros=-1,
            after_micros=micros("0.999999"),
            notional_micros=100,
        )
    )


def test_the_order_type_and_fee_of_a_trade_are_kept() -> None:
    liquidation = trade("t1", SELL, ms=1, order_type="liquidation", fee_micros=-7)
    after(seeded(("BTC", "1"))).when(recording, liquidation).then(
        like(SignalRecorded, action=Action.CLOSE, order_type="liquidation", fee_micros=-7)
    )


def test_a_signal_carries_the_equity_of_all_sections() -> None:
    state = after(seeded(("BTC", "1")))
    state.when(recording, trade(ms=1)).then(like(SignalRecorded, influencer_equity_micros=None))
    main = structs.replace(seeded(ms=10), equity_micros=micros("900"))
    dex = structs.replace(seeded(ms=11, section="xyz"), equity_micros=micros("100"))
    state = after(main, dex)
    state.when(recording, trade(ms=20)).then(like(SignalRecorded, influencer_equity_micros=micros("1000")))
    silent = after(main, dex, seeded(ms=12))
    silent.when(recording, trade(ms=20)).then(like(SignalRecorded, influencer_equity_micros=micros("1000")))


def test_both_sides_of_a_self_trade_state_the_same_position_before() -> None:
    """The chain of positions goes on from the second side, although both state the same position before."""
    sides = [
        trade("x:B", BUY, "2", ms=1, start_micros=micros("3"), twin_id="x:A"),
        trade("x:A", SELL, "2", ms=1, start_micros=micros("3"), twin_id="x:B", taker=False),
    ]
    for first, second in (sides, sides[::-1]):
        state = after(seeded(("BTC", "3"))).when(recording, first)
        state.then(like(SignalRecorded, before_micros=micros("3")))
        state = state.when(recording, second)
        state.then(like(SignalRecorded, after_micros=micros("3")))
        state.when(recording, stating("next", "3", ms=1)).then(like(SignalRecorded, before_micros=micros("3")))
