"""Properties of every portfolio (docs/design.md, portfolio): the books balance, and replay = live."""

import msgspec
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import CashDeposited, Event, OrderFilled, PositionSettled, Venue
from domain.mark_prices import Mark
from domain.micros import times
from domain.portfolio import (
    Portfolio,
    equity,
    evolve,
    expected_copied,
    exposure,
    initial,
    price_of,
    realized,
    settlements,
)
from domain.position import Position
from tests.domain.facts import at, completed
from tests.domain.strategies import (
    ASSETS,
    NO_MARKS,
    Drawn,
    attempt_of,
    drawn,
    is_planned,
    life,
    lives,
    settled,
    unsettled_lives,
)

Moved = OrderFilled | PositionSettled


def fold(events: list[Event], portfolio: Portfolio = initial) -> Portfolio:
    for event in events:
        portfolio = evolve(portfolio, event)
    return portfolio


def saved(portfolio: Portfolio) -> Portfolio:
    """The portfolio through a snapshot."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(portfolio), type=Portfolio)


@given_any(lives, st.lists(st.integers(1, 10**11), min_size=3, max_size=3), st.integers(0, 20))
def test_the_books_balance_to_the_micro(events: list[Event], prices: list[int], ms: int) -> None:
    portfolio = fold(events)
    marks = {(venue.value, asset): Mark(1, price, at(ms)) for (venue, asset), price in zip(ASSETS, prices, strict=True)}
    held = portfolio.positions
    deposits = sum(event.cash_delta_micros for event in events if isinstance(event, CashDeposited))
    moved = [event for event in events if isinstance(event, Moved)]
    fees = sum(event.fee_micros for event in events if isinstance(event, OrderFilled))
    unrealized = sum(times(price_of(portfolio, a, marks.get), p.share_micros) - p.cost_micros for a, p in held.items())

    assert portfolio.deposits_micros == deposits
    assert portfolio.cash_micros == deposits + sum(event.cash_delta_micros for event in moved)
    assert portfolio.fees_micros == fees
    assert portfolio.cash_micros + sum(p.cost_micros for p in held.values()) == deposits + realized(portfolio) - fees
    assert equity(portfolio, marks.get) - deposits == realized(portfolio) + unrealized - fees
    for venue, asset in ASSETS:
        share = held.get((venue.value, asset), Position()).share_micros
        assert share == sum(event.share_delta_micros for event in moved if event.asset == asset)
        assert share == sum(part for (_, key), part in portfolio.copied.items() if key[1] == asset)


@given_any(lives)
def test_cost_points_the_way_the_position_does(events: list[Event]) -> None:
    portfolio = fold(events)
    for asset, held in portfolio.positions.items():
        assert held.cost_micros * held.share_micros >= 0
        assert held.share_micros or not held.cost_micros
        assert any(key == asset for _, key in portfolio.copied), "a position that no subscription holds is dropped"
    assert all(share and asset in portfolio.positions for (_, asset), share in portfolio.copied.items())


@given_any(lives)
def test_closing_everything_leaves_the_profit_in_cash(events: list[Event]) -> None:
    portfolio = fold(events)
    portfolio = fold([completed(attempt) for attempt in portfolio.pending], portfolio)
    assert portfolio.pending == {}
    for of, asset in list(portfolio.positions):
        owed = settlements(portfolio, (of, asset))
        assert owed
        for who, share in owed:
            payout = settled(asset, share, 700_000, subscription=who, venue=Venue(of), id=f"{asset} {who}")
            portfolio = evolve(portfolio, payout)
    assert (portfolio.positions, portfolio.copied) == ({}, {})
    assert portfolio.cash_micros == portfolio.deposits_micros + realized(portfolio) - portfolio.fees_micros


@given_any(lives, st.integers(0, 100))
def test_a_snapshot_and_the_tail_are_the_whole(events: list[Event], percent: int) -> None:
    split = len(events) * percent // 100
    assert fold(events[split:], saved(fold(events[:split]))) == fold(events)


@given_any(lives, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_an_event_that_comes_again_changes_nothing(events: list[Event], again: list[tuple[int, int]]) -> None:
    with_repeats = list(enumerate(events))
    for which, later in again:
        if events:
            number = which % len(events)
            first = next(at for at, (of, _) in enumerate(with_repeats) if of == number)
            with_repeats.insert(min(first + 1 + later, len(with_repeats)), (number, events[number]))
    assert fold([event for _, event in with_repeats]) == fold(events)


@given_any(unsettled_lives, st.lists(st.booleans(), min_size=80, max_size=80))
def test_decisions_and_the_results_of_earlier_ones_may_be_folded_in_any_order(
    events: list[Event], turns: list[bool]
) -> None:
    """Live, events of another stage arrive late; replayed, they come at their sequence."""
    planned = [event for event in events if is_planned(event)]
    executed = [event for event in events if not is_planned(event)]
    decided: set[str | None] = set()
    live: list[Event] = []
    for turn in turns + [True] * len(events):
        if executed and turn and attempt_of(executed[0]) in decided:
            live.append(executed.pop(0))
        elif planned:
            decided.add(attempt_of(planned[0]))
            live.append(planned.pop(0))
    live += executed
    assert fold(live) == fold(events)


@given_any(st.lists(drawn, max_size=10))
def test_the_order_of_independent_assets_does_not_matter(happened: list[Drawn]) -> None:
    only = [one for one in happened if one.what == "order"]
    events = life(only)
    by_asset: list[Event] = []
    for venue, asset in ASSETS:
        by_asset += [event for event in events if (event.venue, event.asset) == (venue, asset)]  # type: ignore[attr-defined]
    one, other = fold(by_asset), fold(events)
    assert (one.positions, one.copied, one.pending) == (other.positions, other.copied, other.pending)
    assert (one.cash_micros, realized(one), one.fees_micros) == (other.cash_micros, realized(other), other.fees_micros)


@given_any(st.lists(drawn, max_size=10))
def test_a_fill_of_a_pending_order_never_changes_what_is_expected(happened: list[Drawn]) -> None:
    portfolio = initial
    for event in life([one for one in happened if one.what == "order"]):
        after = evolve(portfolio, event)
        if isinstance(event, OrderFilled):
            asset = (event.venue.value, event.asset)
            for who in ("sam-ann", "sam-bob"):
                assert expected_copied(after, who, asset) == expected_copied(portfolio, who, asset)
        portfolio = after


@given_any(lives)
def test_exposure_counts_every_position_once(events: list[Event]) -> None:
    portfolio = fold(events)
    held = sum(abs(times(p.mark_micros, p.share_micros)) for p in portfolio.positions.values())
    promised = sum(times(p.price_micros, p.opens_micros) for p in portfolio.pending.values())
    found = [exposure(portfolio, (v.value, a), a, "ann", NO_MARKS) for v, a in ASSETS]
    assert {one.total_micros for one in found} == {held + promised}
    assert sum(one.market_micros for one in found) == held + promised
