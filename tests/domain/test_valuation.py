"""Running sums of a portfolio (docs/design.md, portfolio): equal to the full sums, and their steps are bounded."""

from itertools import zip_longest
from typing import NamedTuple

import msgspec
from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec import structs

from domain.events import CopyDecided, Event, ExecutionCompleted, OrderFilled, Venue
from domain.mark_prices import Asset, Mark, MarkPrices
from domain.portfolio import Portfolio, copy, equity, evolve, expected_copied, free_cash
from domain.valuation import Exposure
from tests.domain.facts import at, bought, deposited, executed, sold
from tests.domain.portfolio_specs import BTC, ETH, YES, after, mark_captured
from tests.domain.reference.portfolio import full_equity, full_expected, full_exposure, full_reserved
from tests.domain.strategies import ASSETS, Drawn, drawn, life

INFLUENCERS = {"sam-ann": "ann", "sam-bob": "bob", "sam-ann-2": "ann"}
MARKETS = {"BTC": "BTC", "xyz:SP500": "", "7": "race", "8": "race"}


class Step(NamedTuple):
    """What happens after an event: marks of some assets, and whether the sums are asked for."""

    moved: list[tuple[int, int, int]]
    asked: bool


steps = st.builds(
    Step,
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**11), st.integers(0, 20)), max_size=3),
    st.booleans(),
)


def varied(events: list[Event]) -> list[Event]:
    """The same life with two influencers, one of them with two subscriptions, two outcomes of a market, and reserved
    cash."""
    made: list[Event] = []
    for number, event in enumerate(events):
        if isinstance(event, CopyDecided):
            second = event.subscription_id == "sam-ann" and event.share_micros % 3 == 0
            changes = {
                "influencer_id": INFLUENCERS[event.subscription_id],
                "subscription_id": "sam-ann-2" if second else event.subscription_id,
                "market": MARKETS[event.asset],
                "reduce_micros": event.share_micros // (number % 4 + 1),
                "reserved_micros": event.share_micros // 3 if event.venue is Venue.POLYMARKET else 0,
            }
            made.append(structs.replace(event, **changes))
        else:
            made.append(event)
    attempts = {event.attempt_id: event for event in made if isinstance(event, CopyDecided)}
    return [
        structs.replace(event, subscription_id=attempts[event.attempt_id].subscription_id)
        if isinstance(event, OrderFilled | ExecutionCompleted)
        else event
        for event in made
    ]


def agrees(portfolio: Portfolio, marks: MarkPrices, sequence: int) -> None:
    assert equity(portfolio, marks, sequence) == full_equity(portfolio, marks, sequence)
    valuation = portfolio.valuation.at(marks, sequence)
    for venue, asset in [*ASSETS, (Venue.POLYMARKET, "8")]:
        key = (venue.value, asset)
        for market in (MARKETS[asset], "", "race"):
            for influencer in ("ann", "bob", "eve"):
                expected = full_exposure(portfolio, key, market, influencer, marks, sequence)
                assert valuation.exposure(key, market, influencer) == expected
        for subscription in INFLUENCERS:
            assert expected_copied(portfolio, subscription, key) == full_expected(portfolio, subscription, key)
    assert free_cash(portfolio) == portfolio.cash_micros - full_reserved(portfolio)


lives = st.lists(drawn, max_size=14).map(life).map(varied)


@given_any(lives, st.lists(steps, max_size=12), st.booleans())
def test_running_sums_equal_full_sums(events: list[Event], happens: list[Step], history: bool) -> None:
    portfolio, marks, sequence = Portfolio(), MarkPrices(history=history), 0
    for event, step in zip_longest(events, happens[: len(events)], fillvalue=Step([], False)):
        assert isinstance(event, Event)
        evolve(portfolio, event)
        for which, price, ms in step.moved:
            venue, asset = [*ASSETS, (Venue.POLYMARKET, "8")][which]
            sequence += 1
            marks.evolve(mark_captured((venue.value, asset), price, at(ms)), sequence)
        if step.asked:
            agrees(portfolio, marks, sequence)
    agrees(portfolio, marks, sequence)
    agrees(portfolio, MarkPrices(), 0)
    agrees(msgspec.msgpack.decode(msgspec.msgpack.encode(portfolio), type=Portfolio), marks, sequence)
    agrees(copy(portfolio), marks, sequence)
    if history:
        for earlier in (sequence // 2, sequence, 0, sequence // 3):
            agrees(portfolio, marks, earlier)


class CountingMarks(MarkPrices):
    """Counts how many assets are valued."""

    asked = 0

    def mark(self, asset: Asset, sequence: int = 0) -> Mark | None:
        self.asked += 1
        return super().mark(asset, sequence)


def holding(count: int) -> Portfolio:
    portfolio = Portfolio()
    evolve(portfolio, deposited("1000000"))
    for number in range(count):
        for event in executed(bought(f"COIN{number}", "1", "100", attempt=f"h{number}"), ms=number):
            evolve(portfolio, event)
    return portfolio


def test_what_did_not_move_is_not_valued_again() -> None:
    portfolio, marks = holding(500), CountingMarks()
    equity(portfolio, marks)
    assert marks.asked == 500
    marks.evolve(mark_captured(("hyperliquid", "COIN7"), 200_000_000, at(10_000)), 1)
    marks.evolve(mark_captured(("hyperliquid", "COIN8"), 300_000_000, at(10_000)), 2)
    marks.evolve(mark_captured(BTC, 1, at(10_000)), 3)
    before, marks.asked = portfolio.valuation.worth_micros, 0
    assert equity(portfolio, marks) == 1_000_300 * 1_000_000
    assert marks.asked == 2
    assert portfolio.valuation.worth_micros - before == 300_000_000
    for event in executed(bought("COIN9", "1", "100", attempt="more"), ms=20_000):
        evolve(portfolio, event)
    marks.asked = 0
    equity(portfolio, marks)
    assert marks.asked == 1, "three events of one asset are one step"


def test_a_portfolio_that_holds_little_is_not_asked_for_everything_that_moved() -> None:
    portfolio, marks = holding(3), CountingMarks()
    equity(portfolio, marks)
    for number in range(1_000):
        marks.evolve(mark_captured(("hyperliquid", f"COIN{number}"), 200_000_000, at(10_000)), number + 1)
    marks.asked = 0
    assert equity(portfolio, marks) == 1_000_300 * 1_000_000
    assert marks.asked == 3


def test_what_is_closed_leaves_no_sums_behind() -> None:
    portfolio, marks = after(deposited("1000")), MarkPrices()
    empty = memory_of(portfolio, marks)
    for number, asset in enumerate(("BTC", "ETH", "SOL")):
        for event in executed(bought(asset, "1", "100"), sold(asset, "1", "101"), ms=number):
            evolve(portfolio, event)
            portfolio.valuation.at(marks).exposure(ETH, "ETH", "ann")
    assert portfolio.holdings == {}
    assert memory_of(portfolio, marks) == empty
    assert portfolio.valuation.exposure(YES, "race", "ann") == Exposure(0, 0, 0)


def memory_of(portfolio: Portfolio, marks: MarkPrices) -> list[int]:
    """The sizes of everything that the sums remember."""
    return [len(kept) for kept in vars(portfolio.valuation.at(marks)).values() if isinstance(kept, dict)]


def test_drawn_lives_have_what_the_sums_are_about() -> None:
    one = Drawn("order", 2, 0, 0, 9, 90, 0, 1, completes=False, price=500_000)
    other = one._replace(subscription=1, size=30)
    portfolio = after(deposited(), *varied(life([one, other])))
    (kept,) = portfolio.holdings.values()
    assert {part.influencer_id for part in kept.parts.values()} == {"ann", "bob"}
    assert kept.orders
    assert kept.opens_micros
    assert portfolio.reserved_micros
