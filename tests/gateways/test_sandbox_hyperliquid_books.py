"""The books that actions leave: well formed, mostly good to trade in, and hostile at a known rate."""

import itertools
from collections.abc import Iterator
from decimal import Decimal

from gateways.sandbox.hyperliquid.coins import BY_NAME
from gateways.sandbox.hyperliquid.flow import opening_books
from gateways.sandbox.hyperliquid.market_data import Book, Level
from tests.gateways.test_sandbox_hyperliquid_flow import SEEDS, acts, book_of, buying, everything, mean_px


def bps(px: Decimal, base: Decimal) -> float:
    return float((px / base - 1) * 10_000)


def spread_bps(book: Book) -> float:
    return bps(book.asks[0].px, book.bids[0].px)


def usd_within(side: tuple[Level, ...], reach_bps: float) -> Decimal:
    near = (level for level in side if abs(bps(level.px, side[0].px)) <= reach_bps)
    return sum((level.px * level.sz for level in near), Decimal(0))


def books() -> Iterator[Book]:
    for seed in SEEDS:
        yield from opening_books(seed).values()
        yield from (book_of(action) for action in acts(seed))


def test_books_are_well_formed() -> None:
    for book in books():
        assert len(book.bids) == len(book.asks) == 20
        assert book.bids[0].px < book.asks[0].px
        assert all(better.px > worse.px for better, worse in itertools.pairwise(book.bids))
        assert all(better.px < worse.px for better, worse in itertools.pairwise(book.asks))
        assert all(level.n >= 1 for level in (*book.bids, *book.asks))


def test_some_books_are_wide() -> None:
    spreads = [spread_bps(book) for book in books()]
    wide = [spread for spread in spreads if spread >= 20]
    assert 0.05 < len(wide) / len(spreads) < 0.12
    assert all(24 <= spread <= 61 for spread in wide)
    assert all(spread <= 8.2 for spread in spreads if spread < 20)


def test_the_mid_follows_the_action_and_sometimes_runs_from_a_copier() -> None:
    sample = everything()
    moves = [bps(mid, mean_px(action)) for action in sample if (mid := book_of(action).mid) is not None]
    assert len(moves) == len(sample)
    far = [(move if buying(action) else -move) for move, action in zip(moves, sample, strict=True) if abs(move) > 10]
    assert 0.05 < len(far) / len(sample) < 0.12
    assert all(11 <= move <= 41 for move in far), "an adverse move goes against a copier of the action"
    assert sum(abs(move) <= 4 for move in moves) / len(moves) > 0.85
    assert all(abs(move) < 5.5 or abs(move) > 10 for move in moves)


def test_some_books_are_nearly_empty_and_most_are_deep() -> None:
    thinner = [min(usd_within(book.bids, 15), usd_within(book.asks, 15)) for book in books()]
    near = [min(usd_within(book.bids, 5), usd_within(book.asks, 5)) for book in books()]
    thin = [usd for usd in thinner if usd < 100]
    assert 0.02 < len(thin) / len(thinner) < 0.09
    assert all(usd < 25 for usd in thin)
    assert sum(usd > 20_000 for usd in near) == len(thinner) - len(thin)


def test_prices_drift_slowly() -> None:
    for seed in SEEDS:
        last = {action.coin: book_of(action) for action in acts(seed)}
        moved = [abs(bps(book.asks[0].px, BY_NAME[name].opening_px)) for name, book in last.items()]
        assert max(moved) < 500
        assert sum(moved) / len(moved) > 5
