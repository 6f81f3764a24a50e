"""From fills to signals: the fold of an influencer's position, its seeds, and replays that change nothing."""

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import Action, Event, PositionState, Side, SignalRecorded, TradeSide
from domain.ids import derived
from domain.micros import micros
from domain.signals import REMEMBERED, Account, Trade, record, risk_bucket, section_of
from tests.domain.facts import ACCOUNT, ANN, BUY, SELL, at, seeded, trade
from tests.given import Given, given, like


def recording(account: Account, trade: Trade) -> tuple[SignalRecorded, ...]:
    return record(account.holding(trade.asset), trade)


def after(*happened: Event | Trade) -> Given[Account]:
    """An account after its seeds and trades."""
    state = given(ACCOUNT)
    for it in happened:
        state = state.when(recording, it) if isinstance(it, Trade) else Given(ACCOUNT, state.state, [it])
    return state


def held(state: Given[Account], asset: str = "BTC") -> int:
    return state.state.holdings[asset].share_micros


def trades(*steps: str, first: int = 1) -> list[Trade]:
    """'+1.5' buys, '-1' sells, a millisecond apart."""
    return [
        trade(f"t{number}", BUY if step[0] == "+" else SELL, step[1:], ms=number)
        for number, step in enumerate(steps, first)
    ]


# --- what a change means -----------------------------------------------------------------------------------


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
    assert state.state.holdings["BTC"].seen == {t.source_event_id for t in many[5:]}, "memory is bounded"
    for replayed in (many[0], many[4], many[5], many[-1]):
        state.when(recording, replayed).then_nothing()
    assert held(state) == micros(str(len(many)))


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


# --- seeds -------------------------------------------------------------------------------------------------


def test_without_a_seed_a_position_is_assumed() -> None:
    given(ACCOUNT).when(recording, trade()).then(
        like(SignalRecorded, before_micros=0, position_state=PositionState.ASSUMED)
    )


def test_a_seed_says_where_the_position_stands() -> None:
    given(ACCOUNT, seeded(("BTC", "-5"))).when(recording, trade(size="2", ms=1)).then(
        like(
            SignalRecorded,
            before_micros=micros("-5"),
            action=Action.DECREASE,
            side=Side.SHORT,
            position_state=PositionState.KNOWN,
        )
    )


def test_what_a_seed_does_not_list_is_flat() -> None:
    given(ACCOUNT, seeded(("BTC", "5"))).when(recording, trade(asset="ETH", ms=1)).then(
        like(SignalRecorded, before_micros=0, action=Action.OPEN, position_state=PositionState.KNOWN)
    )


@pytest.mark.parametrize(("ms", "state"), [(99, "HISTORIC"), (100, "HISTORIC"), (101, "KNOWN")])
def test_a_trade_up_to_the_seed_is_already_inside_it(ms: int, state: str) -> None:
    outcome = given(ACCOUNT, seeded(("BTC", "5"), ms=100)).when(recording, trade(ms=ms))
    historic = state == "HISTORIC"
    outcome.then(
        like(SignalRecorded, position_state=PositionState(state), after_micros=micros("5" if historic else "6"))
    )
    assert held(outcome) == micros("5" if historic else "6")
    outcome.again().then_nothing()


def test_seeding_again_keeps_the_trades_after_the_report() -> None:
    """The report may be older than trades that the feed has already brought."""
    state = after(seeded(("BTC", "1"), ms=0), *trades("+1", "+1", "-0.5"))
    corrected = after(seeded(("BTC", "1"), ms=0), *trades("+1", "+1", "-0.5"), seeded(("BTC", "10"), ms=2))
    assert held(state) == micros("2.5")
    assert held(corrected) == micros("9.5"), "the report has the trades of 1 and 2 ms, not the one of 3 ms"


def test_seeding_again_closes_what_is_no_longer_listed() -> None:
    state = after(seeded(("BTC", "1"), ("ETH", "2"), ms=0), *trades("+1"), seeded(("ETH", "2"), ms=50))
    assert held(state) == 0
    assert held(state, "ETH") == micros("2")


def test_a_section_only_concerns_its_own_assets() -> None:
    on_a_dex = trade("t1", asset="xyz:SP500", ms=1)
    state = after(seeded(("BTC", "5"), section=""), on_a_dex)
    assert state.state.holdings["xyz:SP500"].seeded_at is None, "the main section says nothing of a dex"
    state = after(seeded(("BTC", "5")), seeded(("xyz:SP500", "7"), section="xyz", ms=10), seeded(section="abc", ms=20))
    assert (held(state), held(state, "xyz:SP500")) == (micros("5"), micros("7"))
    state.when(recording, trade(asset="BTC", ms=15)).then(like(SignalRecorded, position_state=PositionState.KNOWN))


def test_the_section_of_an_asset_is_its_dex() -> None:
    assert [section_of(asset) for asset in ("BTC", "xyz:SP500", "@142")] == ["", "xyz", ""]


@given_any(
    st.lists(st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 9), st.integers(1, 40)), max_size=20),
    st.integers(0, 41),
    st.integers(-20, 20),
)
def test_a_report_at_any_time_leaves_the_same_position_whenever_it_arrives(
    steps: list[tuple[TradeSide, int, int]], reported_ms: int, start: int
) -> None:
    """The truth is `start` plus every trade; the report knows those up to its own time."""
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
