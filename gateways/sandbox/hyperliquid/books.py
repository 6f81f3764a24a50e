"""Order books made anew after an action: the same (seed, coin, action) always gives the same book.

Most books are ones a copier can trade in. A known share is hostile on purpose, so that price guards have work:
about 8 % have a wide spread, about 8 % moved against a copier, about 5 % hold next to nothing near the top.
"""

import random
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Final

from gateways.sandbox.hyperliquid.coins import Coin
from gateways.sandbox.hyperliquid.market_data import Book, Level

LEVELS: Final = 20

_WIDE_SHARE: Final = 0.08
_ADVERSE_SHARE: Final = 0.08
_THIN_SHARE: Final = 0.05
# The prices of a thin book's first two levels lie this close to each other; ample depth starts beyond the second gap.
_THIN_GAPS_BPS: Final = ((4.0, 8.0), (16.0, 20.0))
_BPS: Final = Decimal(10_000)


def book_after(seed: int, coin: Coin, index: int, *, px: Decimal, buying: bool | None) -> Book:
    """The book that action `index` leaves: 20 levels a side around a mid that follows `px`, the action's mean price.

    `buying` is the influencer's direction, which an adverse move follows; None (the opening book) moves nowhere.
    """
    # Seeding with text hashes it with SHA-512, which is the same in every process; hash() of a tuple is not.
    rng = random.Random(f"{seed}:{coin.name}:{index}")
    adverse = rng.random() < _ADVERSE_SHARE
    wide = rng.random() < _WIDE_SHARE
    thin = rng.random() < _THIN_SHARE
    if buying is None:
        moved_bps = 0.0
    elif adverse:
        moved_bps = rng.uniform(12, 40) * (1 if buying else -1)
    else:
        moved_bps = rng.uniform(-2.5, 2.5) + _homeward_bps(coin, px)
    spread_bps = rng.uniform(26, 59) if wide else rng.uniform(1, 7.5)
    bid, ask = _top(coin, px * (1 + _ratio(moved_bps)), spread_bps)
    return Book(
        bids=_side(rng, coin, bid, up=False, thin=thin),
        asks=_side(rng, coin, ask, up=True, thin=thin),
    )


def _homeward_bps(coin: Coin, px: Decimal) -> float:
    # Given hours, a free random walk leaves the range in which szDecimals suit the price.
    drift_bps = float((px / coin.opening_px - 1) * _BPS)
    return max(-1.5, min(1.5, -drift_bps / 100))


def _ratio(bps: float) -> Decimal:
    return Decimal(round(bps * 100)) / 1_000_000


def _top(coin: Coin, mid: Decimal, spread_bps: float) -> tuple[Decimal, Decimal]:
    tick = coin.tick(mid)
    spread = max(tick, (mid * _ratio(spread_bps)).quantize(tick, rounding=ROUND_HALF_EVEN))
    ask = coin.snap(mid + spread / 2, ROUND_HALF_EVEN)
    return coin.snap(ask - spread, ROUND_FLOOR), ask


def _side(rng: random.Random, coin: Coin, best: Decimal, *, up: bool, thin: bool) -> tuple[Level, ...]:
    levels: list[Level] = []
    px = best
    for depth in range(LEVELS):
        if depth:
            low, high = _THIN_GAPS_BPS[depth - 1] if thin and depth <= len(_THIN_GAPS_BPS) else (0.3, 1.5)
            px = _next(coin, px, rng.uniform(low, high), up=up)
        levels.append(Level(px, coin.size(_usd(rng, depth, thin), px), rng.randint(1, 14)))
    return tuple(levels)


def _next(coin: Coin, px: Decimal, gap_bps: float, *, up: bool) -> Decimal:
    tick = coin.tick(px)
    gap = max(tick, (px * _ratio(gap_bps)).quantize(tick, rounding=ROUND_HALF_EVEN))
    # The tick changes at powers of ten: snapping away from the mid keeps the order strict across that edge.
    return coin.snap(px + gap, ROUND_CEILING) if up else coin.snap(px - gap, ROUND_FLOOR)


def _usd(rng: random.Random, depth: int, thin: bool) -> Decimal:
    if thin and depth < len(_THIN_GAPS_BPS):
        return Decimal(rng.randint(1, 4))
    return Decimal(rng.randint(22_000, 80_000) if depth == 0 else rng.randint(3_000, 60_000))
