"""One fill, two sources (docs/design.md, signals): a row of activity and a log of the chain make one signal."""

from collections import Counter

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec import structs

from domain.events import Action, Event, FillObserved, GapDetected, GapKind, PositionState, SignalRecorded, TradeSide
from domain.ids import derived
from domain.influencer_account import Account
from domain.micros import micros
from domain.signals import FILL, REMEMBERED, REVERTS, Trade
from domain.testing import Given, like
from tests.domain.copy_scenarios import RACE, YES, after, held, log, recording, removed, row, wallet
from tests.domain.facts import ANN, BUY, SELL, at, seeded, trade

KEY = f"0xt1:{YES}:BUY:10000000"
SIGNAL, OBSERVED = like(SignalRecorded), like(FillObserved)


def net(events: list[Event]) -> Counter[str]:
    """How many signals each fill has, less those taken back."""
    counted: Counter[str] = Counter()
    for event in events:
        if isinstance(event, SignalRecorded):
            counted[event.metadata[FILL]] += -1 if REVERTS in event.metadata else 1
    return +counted


def reported(state: Given[Account], *reports: Trade) -> tuple[Given[Account], list[Event]]:
    """The account after these reports, one after another, and their events."""
    events: list[Event] = []
    for one in reports:
        outcome = state.when(recording, one)
        events += outcome.events
        state = outcome
    return state, events


# --- two sources -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_first", [True, False])
def test_the_second_source_is_an_observation(log_first: bool) -> None:
    first, second = (log(), row()) if log_first else (row(), log())
    state = after(wallet()).when(recording, first)
    state.then(like(SignalRecorded, action=Action.OPEN, metadata={"hash": "0xt1", FILL: KEY}))
    state = state.when(recording, second)
    state.then(
        FillObserved(
            source_event_id=second.source_event_id,
            fill_key=KEY,
            signal_id=derived("sig", ANN, KEY, 0),
            influencer_id="ann",
            venue=first.venue,
            address=ANN,
            asset=YES,
            market=second.market,
            event_time=at(0),
            detect_time=at(40),
        )
    ).again().then_nothing()
    state.when(recording, first).then_nothing()
    assert held(state, YES) == micros("10")
    assert state.state.market_of(YES) == RACE, "whichever source reported it"


@pytest.mark.parametrize("order", ["rrrlll", "lllrrr", "rlrlrl", "lrrrll", "rllrlr"])
def test_equal_fills_of_one_transaction_count_as_often_as_one_source_reports_them(order: str) -> None:
    rows, logs = [row(number) for number in range(3)], [log(number) for number in range(3)]
    state, events = reported(after(wallet()), *(rows.pop() if source == "r" else logs.pop() for source in order))
    assert net(events) == {KEY: 3}
    assert sum(isinstance(event, FillObserved) for event in events) == 3
    assert held(state, YES) == micros("30")


@pytest.mark.parametrize("log_first", [True, False])
@pytest.mark.parametrize("size", ["9.999999", "10.000001"])
def test_sizes_that_differ_by_a_micro_are_one_fill(log_first: bool, size: str) -> None:
    reports = (log(size=size), row()) if log_first else (row(), log(size=size))
    state, events = reported(after(wallet()), *reports)
    assert events == [SIGNAL, OBSERVED]
    assert held(state, YES) == micros(size if log_first else "10"), "as it was reported first"
    state, events = reported(state, removed(log(size=size)), log(size=size, block="0xb2"))
    assert events == [OBSERVED, OBSERVED]


def test_of_two_sizes_that_fit_the_equal_one_goes() -> None:
    state, events = reported(after(wallet()), row(), row(size="10.000001"), log(1, size="10.000001"), log(2))
    assert events == [SIGNAL, SIGNAL, OBSERVED, OBSERVED]
    assert held(state, YES) == micros("20.000001")


@pytest.mark.parametrize(
    "other",
    [log(size="10.000002"), log(tx="0xt2"), log(side=SELL), log(asset="7002")],
    ids=["size", "transaction", "side", "asset"],
)
def test_another_size_transaction_side_or_asset_is_another_fill(other: Trade) -> None:
    _, events = reported(after(wallet((YES, "50"), ("7002", "50"))), row(), other)
    assert events == [SIGNAL, SIGNAL]


# --- logs that are taken back ------------------------------------------------------------------------------


def test_a_log_taken_back_is_compensated_at_its_own_price() -> None:
    state = after(wallet(), log()).when(recording, removed(log()))
    state.then(
        like(
            SignalRecorded,
            action=Action.CLOSE,
            trade_side=SELL,
            before_micros=micros("10"),
            after_micros=0,
            price_micros=micros("0.4"),
            fee_micros=-5,
            metadata={"hash": "0xt1", FILL: KEY, REVERTS: derived("sig", ANN, KEY, 0)},
        )
    ).again().then_nothing()
    again = state.when(recording, log(block="0xb2"))
    again.then(like(SignalRecorded, action=Action.OPEN, after_micros=micros("10")))
    again.when(recording, row()).then(OBSERVED)


def test_a_log_taken_back_changes_nothing_while_a_row_confirms_the_fill() -> None:
    state, events = reported(after(wallet()), row(), log(), removed(log()), log(block="0xb2"))
    assert events == [SIGNAL, OBSERVED, OBSERVED, OBSERVED]
    assert held(state, YES) == micros("10")


def test_of_equal_logs_one_taken_back_takes_back_one() -> None:
    state, events = reported(after(wallet()), log(0), log(1), removed(log(0)))
    assert net(events) == {KEY: 1}
    assert held(state, YES) == micros("10")


def test_a_removal_without_its_log_changes_nothing() -> None:
    state, events = reported(after(wallet()), removed(log()), log())
    assert events == [OBSERVED, OBSERVED]
    assert held(state, YES) == 0
    state, events = reported(state, log(block="0xb2"))
    assert events == [SIGNAL]
    assert held(state, YES) == micros("10")


def test_a_row_whose_log_was_taken_back_before_counts() -> None:
    state, events = reported(after(wallet()), log(), removed(log()), row())
    assert net(events) == {KEY: 1}
    assert held(state, YES) == micros("10")


def test_history_taken_back_is_history() -> None:
    state, events = reported(after(wallet((YES, "10"), ms=100)), log(), removed(log()))
    assert [event.position_state for event in events if isinstance(event, SignalRecorded)] == 2 * [
        PositionState.HISTORIC
    ]
    assert held(state, YES) == micros("10")


# --- below zero --------------------------------------------------------------------------------------------


def test_selling_more_than_is_held_is_a_gap() -> None:
    state = after(wallet((YES, "4"))).when(recording, row(side=SELL))
    state.then(
        like(GapDetected, asset=YES, expected_micros=micros("4"), found_micros=micros("10")),
        like(SignalRecorded, action=Action.CLOSE, before_micros=micros("10"), after_micros=0),
    )
    assert isinstance(state.events[0], GapDetected)
    assert state.events[0].kind is GapKind.BELOW_ZERO
    assert held(state, YES) == 0
    state.when(recording, row(tx="0xt2")).then(like(SignalRecorded, action=Action.OPEN))


def test_selling_all_that_is_held_is_no_gap() -> None:
    after(wallet((YES, "10"))).when(recording, row(side=SELL)).then(like(SignalRecorded, action=Action.CLOSE))


def test_a_perpetual_may_go_below_zero() -> None:
    after(seeded()).when(recording, trade(side=SELL, ms=1)).then(like(SignalRecorded, action=Action.OPEN))


# --- memory ------------------------------------------------------------------------------------------------


def test_both_sources_of_many_fills_in_one_second() -> None:
    count = 2 * REMEMBERED + 40
    rows = [row(tx=f"0x{number}") for number in range(count)]
    logs = [log(number, tx=f"0x{number}") for number in range(count)]
    state, events = reported(after(wallet()), *rows, *logs)
    assert Counter(type(event) for event in events) == {SignalRecorded: count, FillObserved: count}
    state, events = reported(state, *rows[:50], *logs[:50])
    assert events == []
    newer = [row(tx=f"0xnew{number}", event_time=at(1000 + number // 2)) for number in range(9)]
    state, _ = reported(state, *newer)
    assert len(state.state.holdings[YES].processed) == 9
    assert len(state.state.holdings[YES].fills) == 2 * REMEMBERED + 1, "memory is bounded"


# --- any order ---------------------------------------------------------------------------------------------

fills = st.lists(
    st.tuples(
        st.sampled_from([BUY, BUY, SELL]),
        st.integers(1, 2),
        st.integers(1, 3).map(lambda tx: f"0xt{tx}"),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=8,
)


def sources(happened: list[tuple[TradeSide, int, str, int]]) -> tuple[list[Trade], list[Trade]]:
    """The rows and the logs of these fills; a log may have been mined, taken back and mined again (1, 2, 3 times)."""
    rows, logs = [], []
    number: Counter[tuple[TradeSide, int, str]] = Counter()
    for index, (side, size, tx, reorganised) in enumerate(happened):
        same = (side, size, tx)
        rows.append(row(number[same], side, str(size), tx=tx))
        number[same] += 1
        for block in range(reorganised):
            before = log(index, side, str(size), tx=tx, block=f"0xold{block}")
            logs += [before, removed(before)]
        logs.append(log(index, side, str(size), tx=tx))
    return rows, logs


@given_any(fills, st.lists(st.booleans(), min_size=80, max_size=80), st.lists(st.integers(0, 60), max_size=8))
def test_any_interleaving_of_two_sources_ends_the_same(
    happened: list[tuple[TradeSide, int, str, int]], turns: list[bool], again: list[int]
) -> None:
    """In exactly one net signal per fill, and in the same position; what comes again changes nothing."""
    rows, logs = sources(happened)
    truth = Counter(f"{tx}:{YES}:{side.value}:{size * 1_000_000}" for side, size, tx, _ in happened)
    moved = sum(size * side.sign for side, size, _, _ in happened)
    reports: list[Trade] = []
    waiting = (list(rows), list(logs))
    for turn in turns:
        source = waiting[turn] or waiting[not turn]
        if source:
            reports.append(source.pop(0))
    with_repeats = list(reports)
    for place in again:
        with_repeats.insert(len(reports) if place >= len(reports) else place + 1, reports[min(place, len(reports) - 1)])

    start = after(wallet((YES, "1000")))
    state, events = reported(start, *with_repeats)
    assert net(events) == truth
    assert held(state, YES) == (1000 + moved) * 1_000_000
    assert not any(isinstance(event, GapDetected) for event in events)
    assert len(events) == len(reports), "every report is a signal or an observation, once"
    alone, _ = reported(start, *rows)
    assert held(alone, YES) == held(state, YES)


@given_any(fills, st.permutations(range(30)))
def test_even_without_any_order_among_the_reports(
    happened: list[tuple[TradeSide, int, str, int]], order: list[int]
) -> None:
    rows, logs = sources([(side, size, tx, min(again, 1)) for side, size, tx, again in happened])
    reports = [report for _, report in sorted(zip(order, rows + logs, strict=False), key=lambda pair: pair[0])]
    state, events = reported(after(wallet((YES, "1000"))), *reports)
    assert net(events) == Counter(f"{tx}:{YES}:{side.value}:{size * 1_000_000}" for side, size, tx, _ in happened)
    assert held(state, YES) == (1000 + sum(size * side.sign for side, size, _, _ in happened)) * 1_000_000


@given_any(fills)
def test_a_fold_of_the_events_alone_is_the_same_account(happened: list[tuple[TradeSide, int, str, int]]) -> None:
    rows, logs = sources(happened)
    state, events = reported(after(wallet((YES, "1000"))), *logs, *rows)
    assert after(wallet((YES, "1000")), *events).state == state.state


def test_a_reversal_differs_from_a_sale() -> None:
    bought, sold = log(), log(1, SELL)
    _, events = reported(after(wallet()), bought, sold, removed(bought), row(0, SELL))
    signals = [event for event in events if isinstance(event, SignalRecorded)]
    assert [REVERTS in one.metadata for one in signals] == [False, False, True]
    assert structs.asdict(signals[2])["trade_side"] is SELL
    assert events[-1] == OBSERVED
