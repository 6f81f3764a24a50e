"""SHADOW_USER: an influencer's own portfolio, whose profit is what happened since it was followed (docs/design.md,
default portfolios)."""

import msgspec
import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import AccountSeeded, Action, Event, SeededPosition, Venue
from domain.influencer_account import Account, is_stale
from domain.influencer_portfolio import InfluencerPortfolio, equity, evolve, initial
from domain.mark_prices import Asset, Mark
from domain.micros import micros, times
from domain.signals import Trade
from domain.testing import Given, given
from tests.domain.copy_scenarios import (
    NO,
    YES,
    Happening,
    log,
    more,
    movement,
    moving,
    outcome,
    recording,
    removed,
    row,
    wallet,
)
from tests.domain.facts import ACCOUNT, BUY, SELL, at, seeded, trade
from tests.domain.portfolio_specs import NO_MARKS

BTC, ON_YES, ON_NO = ("hyperliquid", "BTC"), ("polymarket", YES), ("polymarket", NO)


Accounts = dict[Venue, Given[Account]]


def recorded(*happened: Happening, accounts: Accounts | None = None) -> list[Event]:
    """The events of SIGNALS that these lead to, snapshots included; each venue has an account of its own."""
    events: list[Event] = []
    accounts = {} if accounts is None else accounts
    for it in happened:
        venue: Venue = it.venue  # type: ignore[union-attr]
        state = accounts.get(venue, given(ACCOUNT))
        if isinstance(it, AccountSeeded) and is_stale(state.state, it):
            continue
        if isinstance(it, Event):
            events.append(it)
            accounts[venue] = more(state, it)
        else:
            found = state.when(recording, it) if isinstance(it, Trade) else state.when(moving, it)
            events += found.events
            accounts[venue] = found
    return events


def shadow(*happened: Happening) -> InfluencerPortfolio:
    state = initial
    for event in recorded(*happened):
        state = evolve(state, event)
    return state


def priced(price: str, ms: int = 10_000) -> dict[Asset, Mark]:
    return dict.fromkeys((BTC, ON_YES, ON_NO), Mark(1, micros(price), at(ms)))


def realized(shadow: InfluencerPortfolio) -> int:
    return shadow.realized_micros + sum(position.realized_micros for position in shadow.positions.values())


def profit(shadow: InfluencerPortfolio, marks: dict[Asset, Mark]) -> int:
    return equity(shadow, marks.get) - shadow.deposits_micros


def holding(position: SeededPosition, ms: int = 0) -> Event:
    return msgspec.structs.replace(seeded(ms=ms), positions=(position,))


def entered(size: str, price: str | None, *, asset: str = "BTC", ms: int = 0) -> Event:
    """An account snapshot of one perpetual with its price of entry."""
    return holding(SeededPosition(asset, micros(size), price_micros=None if price is None else micros(price)), ms)


# --- trades ------------------------------------------------------------------------------------------------


def test_trading_moves_cash_by_notional_and_fee() -> None:
    state = shadow(
        seeded(),
        trade("t1", BUY, "2", "100", ms=1, fee_micros=micros("0.5")),
        trade("t2", SELL, "1", "130", ms=2, fee_micros=micros("0.25")),
    )
    assert state.cash_micros == micros("-70.75")
    assert (state.fees_micros, state.deposits_micros) == (micros("0.75"), 0)
    assert realized(state) == micros("30")
    assert equity(state, NO_MARKS.mark) == micros("59.25"), "valued at its own newest trade"
    assert profit(state, priced("110")) == micros("39.25")


def test_a_rebate_is_a_fee_below_zero() -> None:
    state = shadow(seeded(), trade("t1", BUY, "1", "100", ms=1, fee_micros=-7))
    assert (state.cash_micros, state.fees_micros) == (-micros("100") + 7, -7)


def test_what_is_closed_leaves_only_its_profit() -> None:
    state = shadow(seeded(), trade("t1", SELL, "1", "100", ms=1), trade("t2", BUY, "1", "90", ms=2))
    assert (state.positions, state.realized_micros, state.cash_micros) == ({}, micros("10"), micros("10"))


def test_a_historic_signal_changes_nothing() -> None:
    assert shadow(entered("5", "100", ms=10), trade("t1", ms=5)) == shadow(entered("5", "100", ms=10))


def test_a_late_trade_counts_and_moves_no_mark() -> None:
    state = shadow(seeded(), trade("t2", price="120", ms=20), trade("t1", price="100", ms=10))
    assert state.positions[BTC].share_micros == micros("2")
    assert equity(state, NO_MARKS.mark) == micros("20")
    reopened = shadow(seeded(), trade("t2", ms=20), trade("t3", SELL, ms=21), trade("t1", price="90", ms=10))
    assert profit(reopened, {}) == 0, "what is open always has a price"


@pytest.mark.parametrize(("ms", "price"), [(19, "120"), (20, "200"), (21, "200")])
def test_the_newer_of_the_mark_and_the_last_trade_is_the_price(ms: int, price: str) -> None:
    state = shadow(seeded(), trade("t1", price="120", ms=20))
    assert equity(state, priced("200", ms).get) + micros("120") == micros(price)


# --- what was held before, and later corrections by the venue ----------------------------------------------


def test_what_was_held_before_enters_at_its_price_of_entry() -> None:
    state = shadow(entered("5", "100"))
    assert (state.deposits_micros, profit(state, {})) == (micros("500"), 0)
    assert profit(state, priced("110")) == micros("50")
    short = shadow(entered("-5", "100"))
    assert (short.deposits_micros, profit(short, priced("110"))) == (micros("-500"), micros("-50"))


def test_without_a_price_of_entry_it_enters_at_the_first_price() -> None:
    state = shadow(entered("5", None), trade("t1", SELL, "2", "100", ms=1), trade("t2", SELL, "3", "110", ms=2))
    assert state.deposits_micros == micros("500")
    assert (state.positions, state.realized_micros) == ({}, micros("30"))


def test_a_position_without_a_price_may_leave_without_profit() -> None:
    state = shadow(entered("5", None), trade("t1", SELL, "1", "100", ms=1, start_micros=micros("1")))
    assert (state.positions, state.deposits_micros, state.cash_micros) == ({}, micros("100"), micros("100"))


def test_a_position_without_a_price_may_turn_out_not_to_exist() -> None:
    state = shadow(entered("5", None), trade("t1", BUY, "1", "100", ms=1, start_micros=0))
    assert (state.positions[BTC].share_micros, state.deposits_micros) == (micros("1"), 0)


def test_a_later_snapshot_deposits_the_difference() -> None:
    state = shadow(entered("5", "100"), entered("7", "120", ms=10))
    assert (state.positions[BTC].share_micros, state.deposits_micros) == (micros("7"), micros("740"))
    gone = shadow(entered("5", "100"), trade("t1", price="150", ms=5), seeded(ms=10))
    assert gone.positions == {}
    assert gone.deposits_micros == micros("500") - micros("900"), "out at its newest price"
    assert gone.realized_micros == micros("250")
    assert profit(gone, {}) == micros("250")


def test_a_snapshot_that_agrees_changes_nothing() -> None:
    before = shadow(entered("5", "100"), trade("t1", ms=5))
    assert shadow(entered("5", "100"), trade("t1", ms=5), entered("6", "100", ms=10)) == before


def test_a_snapshot_older_than_a_trade_does_not_undo_it() -> None:
    state = shadow(entered("5", "100"), trade("t1", ms=20), entered("5", "100", ms=10))
    assert (state.positions[BTC].share_micros, state.deposits_micros) == (micros("6"), micros("500"))
    closed = shadow(seeded(), trade("t1", ms=20), trade("t2", SELL, ms=21), entered("1", "100", ms=20))
    assert closed.positions == {}
    corrected = shadow(
        entered("5", "100"), trade("t1", ms=20), entered("7", "100", ms=10), trade("t2", price="110", ms=30)
    )
    assert corrected.positions[BTC].share_micros == micros("9"), "the next signal states the position after both"
    assert corrected.deposits_micros == micros("500") + micros("220")


def test_a_section_concerns_its_own_assets() -> None:
    dex = msgspec.structs.replace(
        seeded(section="xyz", ms=5), positions=(SeededPosition("xyz:GOLD", 1, price_micros=1),)
    )
    state = shadow(entered("5", "100"), dex)
    assert set(state.positions) == {BTC, ("hyperliquid", "xyz:GOLD")}


def test_a_gap_is_no_profit() -> None:
    found = trade("t1", SELL, "2", "100", ms=1, start_micros=micros("8"))
    state = shadow(seeded(), found)
    assert (state.positions[BTC].share_micros, state.deposits_micros) == (micros("6"), micros("800"))
    assert (state.cash_micros, profit(state, {})) == (micros("200"), 0)


def test_the_first_position_that_the_venue_states_is_no_profit() -> None:
    state = shadow(trade("t1", SELL, "7", "100", ms=1, start_micros=micros("7")))
    assert (state.positions, state.deposits_micros, profit(state, {})) == ({}, micros("700"), 0)


def test_a_sale_of_more_than_is_held_is_no_profit() -> None:
    state = shadow(wallet((YES, "4"), price="0.3"), row(side=SELL))  # 10 at 0.4
    assert state.deposits_micros == micros("1.2") + micros("2.4")
    assert (state.cash_micros, realized(state)) == (micros("4"), micros("0.4"))


# --- movements ---------------------------------------------------------------------------------------------


def test_a_split_turns_cash_into_shares_without_profit() -> None:
    state = shadow(wallet(), movement(Action.SPLIT, "10", "10"))
    assert (state.cash_micros, state.deposits_micros) == (micros("-10"), 0)
    assert {asset: held.share_micros for asset, held in state.positions.items()} == {
        ON_YES: micros("10"),
        ON_NO: micros("10"),
    }
    assert profit(state, {}) == 0
    merged = shadow(wallet(), movement(Action.SPLIT, "10", "10"), movement(Action.MERGE, "10", "10", id="pm:M:2", ms=1))
    assert (merged.positions, merged.cash_micros, merged.realized_micros) == ({}, 0, 0)


@pytest.mark.parametrize(("pays", "profit_now"), [("10", "6"), ("0", "-4"), ("5", "1")])
def test_a_payout_is_realized(pays: str, profit_now: str) -> None:
    state = shadow(wallet(), row(), movement(Action.REDEEM, "10", pays, asset=YES, ms=1))
    assert (state.positions, state.realized_micros) == ({}, micros(profit_now))
    assert profit(state, {}) == micros(profit_now)


def test_losing_outcomes_leave_with_the_winner() -> None:
    state = shadow(wallet((YES, "10"), (NO, "4"), price="0.5"), movement(Action.REDEEM, "4", "4"))
    assert (state.positions, realized(state)) == ({}, micros("-3"))


def test_a_log_taken_back_leaves_nothing() -> None:
    one = outcome("pm-log:137:0xb1:0", fee_micros=9)
    state = shadow(wallet(), one, removed(one))
    assert (state.cash_micros, state.fees_micros, state.positions, realized(state)) == (0, 0, {}, 0)


def test_the_second_source_changes_nothing() -> None:
    assert shadow(wallet(), row(), log()) == shadow(wallet(), row())


# --- laws --------------------------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.builds(
            lambda number, side, size, price, fee, start: trade(
                f"t{number}",
                side,
                str(size),
                str(price),
                ms=number,
                fee_micros=fee,
                start_micros=None if start is None else micros(str(start)),
            ),
            st.integers(1, 40),
            st.sampled_from([BUY, SELL]),
            st.integers(1, 9),
            st.integers(0, 300),
            st.none() | st.integers(-100, 10**6),
            st.none() | st.integers(-9, 9),
        ),
        st.builds(
            lambda size, price, ms: entered(str(size), None if price is None else str(price), ms=ms),
            st.integers(-9, 9),
            st.none() | st.integers(0, 300),
            st.integers(0, 40),
        ),
        st.builds(
            lambda n, side, size: row(n, side, str(size)),
            st.integers(0, 3),
            st.sampled_from([BUY, SELL]),
            st.integers(1, 9),
        ),
        st.sampled_from([log(), removed(log()), log(block="0xb2"), log(1, SELL)]),
        st.builds(
            lambda action, size, cash, asset, n: movement(action, str(size), str(cash), asset=asset, id=f"pm:M:{n}"),
            st.sampled_from([Action.SPLIT, Action.MERGE, Action.REDEEM]),
            st.integers(1, 9),
            st.integers(0, 9),
            st.sampled_from([YES, NO]),
            st.integers(0, 9),
        ),
    ),
    max_size=16,
)


@given_any(steps, st.integers(0, 10**9), st.integers(0, 50))
def test_the_books_balance_to_the_micro(happened: list[Happening], price: int, ms: int) -> None:
    state = shadow(wallet((YES, "5")), *happened)
    marks = dict.fromkeys((BTC, ON_YES, ON_NO), Mark(1, price, at(ms)))
    worth = {asset: price if at(ms) >= held.marked_at else held.mark_micros for asset, held in state.positions.items()}
    unrealized = sum(
        times(worth[asset], held.share_micros) - held.cost_micros for asset, held in state.positions.items()
    )
    assert profit(state, marks) == realized(state) + unrealized - state.fees_micros
    assert all(held.share_micros for held in state.positions.values())
    assert all(held.cost_micros * held.share_micros >= 0 for held in state.positions.values())


@given_any(steps)
def test_it_holds_what_the_account_holds(happened: list[Happening]) -> None:
    """The two folds agree on every position."""
    reports = sorted((it for it in happened if isinstance(it, AccountSeeded)), key=lambda report: report.event_time)
    happened = [it for it in happened if not isinstance(it, Event)]
    start: list[Happening] = [wallet((YES, "5")), *reports]
    accounts: Accounts = {}
    recorded(*start, *happened, accounts=accounts)
    held = {
        (venue.value, asset): one.share_micros
        for venue, account in accounts.items()
        for asset, one in account.state.holdings.items()
        if one.share_micros
    }
    assert {key: one.share_micros for key, one in shadow(*start, *happened).positions.items()} == held


@given_any(steps, st.integers(0, 30))
def test_a_snapshot_and_the_tail_are_the_whole(happened: list[Happening], split: int) -> None:
    events = recorded(wallet((YES, "5")), *happened)
    state = initial
    for number, event in enumerate(events):
        if number == split:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=InfluencerPortfolio)
        state = evolve(state, event)
    assert state == shadow(wallet((YES, "5")), *happened)
