"""Properties of every portfolio (docs/design.md, portfolio): the books balance, and replay = live."""

import msgspec
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import CashDeposited, Event, OrderFilled, PositionSettled, SettlementCorrected, Venue
from domain.mark_prices import Asset, Mark
from domain.micros import times
from domain.portfolio import (
    Portfolio,
    copy,
    equity,
    evolve,
    expected_copied,
    free_cash,
    realized,
    settlements,
)
from domain.position import Position
from domain.valuation import price_of
from tests.domain.facts import at, completed
from tests.domain.portfolio_specs import marked
from tests.domain.strategies import (
    ASSETS,
    Drawn,
    drawn,
    life,
    lives,
    settled,
)

Moved = OrderFilled | PositionSettled | SettlementCorrected


def fold(events: list[Event], portfolio: Portfolio | None = None) -> Portfolio:
    portfolio = portfolio or Portfolio()
    for event in events:
        evolve(portfolio, event)
    return portfolio


def shares_of_all(portfolio: Portfolio, asset: Asset) -> int:
    holding = portfolio.holdings.get(asset)
    return sum(part.share_micros for part in holding.parts.values()) if holding else 0


def saved(portfolio: Portfolio) -> Portfolio:
    """The portfolio through a snapshot."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(portfolio), type=Portfolio)


@given_any(lives, st.lists(st.integers(1, 10**11), min_size=3, max_size=3), st.integers(0, 20))
def test_the_books_balance_to_the_micro(events: list[Event], prices: list[int], ms: int) -> None:
    portfolio = fold(events)
    marks = marked(
        {(venue.value, asset): Mark(1, price, at(ms)) for (venue, asset), price in zip(ASSETS, prices, strict=True)}
    )
    held = portfolio.positions
    deposits = sum(event.cash_delta_micros for event in events if isinstance(event, CashDeposited))
    moved = [event for event in events if isinstance(event, Moved)]
    traded = [event for event in moved if not isinstance(event, SettlementCorrected)]
    fees = sum(event.fee_micros for event in events if isinstance(event, OrderFilled))
    unrealized = sum(times(price_of(p, marks.mark(a)), p.share_micros) - p.cost_micros for a, p in held.items())

    assert portfolio.deposits_micros == deposits
    assert portfolio.cash_micros == deposits + sum(event.cash_delta_micros for event in moved)
    assert portfolio.fees_micros == fees
    assert portfolio.cash_micros + sum(p.cost_micros for p in held.values()) == deposits + realized(portfolio) - fees
    assert equity(portfolio, marks) - deposits == realized(portfolio) + unrealized - fees
    for venue, asset in ASSETS:
        share = held.get((venue.value, asset), Position()).share_micros
        assert share == sum(event.share_delta_micros for event in traded if event.asset == asset)
        assert share == shares_of_all(portfolio, (venue.value, asset))


@given_any(lives)
def test_cost_points_the_way_the_position_does(events: list[Event]) -> None:
    portfolio = fold(events)
    for asset, held in portfolio.positions.items():
        assert held.cost_micros * held.share_micros >= 0
        assert held.share_micros or not held.cost_micros
        assert portfolio.holdings[asset].parts, "a position that no subscription holds is dropped"
    for holding in portfolio.holdings.values():
        assert holding.parts, "what is closed leaves memory"
        assert all(part.share_micros or part.orders for part in holding.parts.values())


@given_any(lives)
def test_closing_everything_leaves_the_profit_in_cash(events: list[Event]) -> None:
    portfolio = fold(events)
    pending = [(key, attempt) for key, holding in portfolio.holdings.items() for attempt in holding.orders]
    fold([completed(attempt, venue=Venue(venue), asset=asset) for (venue, asset), attempt in pending], portfolio)
    assert not any(holding.orders for holding in portfolio.holdings.values())
    for of, asset in list(portfolio.positions):
        owed = settlements(portfolio, (of, asset))
        assert owed
        for who, part in owed:
            payout = settled(asset, part.share_micros, 700_000, subscription=who, venue=Venue(of), id=f"{asset} {who}")
            evolve(portfolio, payout)
    assert portfolio.holdings == {}
    assert free_cash(portfolio) == portfolio.cash_micros
    assert portfolio.cash_micros == portfolio.deposits_micros + realized(portfolio) - portfolio.fees_micros


@given_any(lives, st.integers(0, 100))
def test_a_snapshot_and_the_tail_are_the_whole(events: list[Event], percent: int) -> None:
    split = len(events) * percent // 100
    assert fold(events[split:], saved(fold(events[:split]))) == fold(events)


@given_any(st.lists(drawn, max_size=10))
def test_the_order_of_independent_assets_does_not_matter(happened: list[Drawn]) -> None:
    only = [one for one in happened if one.what == "order"]
    events = life(only)
    by_asset: list[Event] = []
    for venue, asset in ASSETS:
        by_asset += [event for event in events if (event.venue, event.asset) == (venue, asset)]  # type: ignore[attr-defined]
    one, other = fold(by_asset), fold(events)
    assert one.holdings == other.holdings
    assert (one.cash_micros, realized(one), one.fees_micros) == (other.cash_micros, realized(other), other.fees_micros)


@given_any(st.lists(drawn, max_size=10))
def test_a_fill_of_a_pending_order_never_changes_what_is_expected(happened: list[Drawn]) -> None:
    portfolio = Portfolio()
    for event in life([one for one in happened if one.what == "order"]):
        after = fold([event], copy(portfolio))
        if isinstance(event, OrderFilled):
            asset = (event.venue.value, event.asset)
            for who in ("sam-ann", "sam-bob"):
                assert expected_copied(after, who, asset) == expected_copied(portfolio, who, asset)
        portfolio = after
