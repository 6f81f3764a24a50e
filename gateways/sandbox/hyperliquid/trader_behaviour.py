"""What an influencer does next: the scripted opening, and random choices that respect its positions."""

import random
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Final, Literal

from gateways.sandbox.hyperliquid.coins import BY_NAME, COINS, Coin
from gateways.sandbox.hyperliquid.market_data import Book
from gateways.sandbox.hyperliquid.traders import INFLUENCERS

# Two influencer actions on one coin are at least this far apart.
QUIET_MS: Final = 4_000

Effect = Literal["open", "add", "reduce", "close", "flip"]
Step = tuple[str, Effect]

# USD of one action: log-uniform between the ends, with a few tiny ones a copier's minimum order will refuse.
_SMALLEST: Final = Decimal(1_500)
_LARGEST: Final = Decimal(60_000)
_TINY: Final = (200, 900)
_TINY_SHARE: Final = 0.06
# Above this many open positions an influencer mostly changes those it has.
_MANY: Final = 5
_OPEN_LIGHT, _OPEN_HEAVY = 3.0, 0.6
_NO_ADD_ABOVE: Final = Decimal(45_000)
_NO_REDUCE_BELOW: Final = Decimal(400)

# One line for each influencer: the effect on its coin a or b. No other trades that coin until its last step.
_SCRIPTS: Final[tuple[tuple[tuple[str, Effect], ...], ...]] = (
    (("a", "open"), ("b", "open"), ("a", "close"), ("b", "add")),
    (("a", "open"), ("b", "open"), ("a", "flip")),
    (("a", "open"), ("b", "open"), ("a", "add"), ("b", "reduce")),
    (("a", "open"), ("b", "open"), ("a", "reduce"), ("b", "flip")),
    (("a", "open"), ("b", "open"), ("a", "add"), ("b", "close")),
)


def script(rng: random.Random) -> dict[str, deque[Step]]:
    """The first steps of every influencer by id, in the order in which they start; no coin occurs under two of them."""
    coins = rng.sample([coin.name for coin in COINS], 2 * len(INFLUENCERS))
    starts = rng.sample(INFLUENCERS, len(INFLUENCERS))
    return {
        who.id: deque((coins[2 * place + "ab".index(lane)], effect) for lane, effect in steps)
        for place, (who, steps) in enumerate(zip(starts, _SCRIPTS, strict=True))
    }


@dataclass(frozen=True)
class TraderAction:
    """What an influencer wants: to trade `size` base units (positive) of `coin`, as a buyer or as a seller."""

    coin: Coin
    effect: Effect
    buying: bool
    size: Decimal


class TraderView:
    """The positions of the influencers and the times of their last actions, while a flow is being made."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._addresses = {who.id: who.address for who in INFLUENCERS}
        self._positions: dict[str, dict[str, Decimal]] = {who.id: {} for who in INFLUENCERS}
        self._last_ms: dict[str, int] = {}

    def address(self, actor: str) -> str:
        return self._addresses[actor]

    def quiet_from(self, coin: str) -> int:
        """The first offset in ms at which an influencer may act on `coin` again."""
        return self._last_ms.get(coin, -QUIET_MS) + QUIET_MS

    def quiet(self, coin: str, at: int) -> bool:
        return at >= self.quiet_from(coin)

    def choose(self, actor: str, at: int, books: Mapping[str, Book], reserved: Collection[str]) -> TraderAction | int:
        """A random choice among the quiet coins, or the offset in ms from which there is one."""
        allowed = [coin.name for coin in COINS if coin.name not in reserved]
        quiet = [coin for coin in allowed if self.quiet(coin, at)]
        if not quiet:
            return min(self.quiet_from(coin) for coin in allowed)
        steps: dict[Step, float] = {}
        for coin in quiet:
            steps |= {(coin, effect): weight for effect, weight in self._weights(actor, coin, books).items()}
        coin, effect = self._rng.choices(list(steps), list(steps.values()))[0]
        return self.sized(actor, coin, effect, books)

    def _weights(self, actor: str, coin: str, books: Mapping[str, Book]) -> dict[Effect, float]:
        held = self._usd_held(actor, coin, books)
        if not held:
            return {"open": _OPEN_LIGHT if len(self._positions[actor]) < _MANY else _OPEN_HEAVY}
        weights: dict[Effect, float] = {"close": 1.5, "flip": 1.0}
        if held < _NO_ADD_ABOVE:
            weights["add"] = 2.0
        if held > _NO_REDUCE_BELOW:
            weights["reduce"] = 2.0
        return weights

    def sized(self, actor: str, coin_name: str, effect: Effect, books: Mapping[str, Book]) -> TraderAction:
        """`effect` with a direction and a size that really cause it, given the position."""
        coin, px = BY_NAME[coin_name], _mid(books[coin_name])
        position = self._positions[actor].get(coin_name, Decimal(0))
        usd = self._usd()
        most_usd = max(_SMALLEST, _LARGEST - abs(position) * px)
        match effect:
            case "open":
                return TraderAction(coin, effect, self._rng.random() < 0.5, coin.size(usd, px))
            case "add":
                return TraderAction(coin, effect, position > 0, coin.size(min(usd, most_usd), px))
            case "reduce":
                most = (abs(position) * Decimal("0.85")).quantize(coin.lot, rounding=ROUND_DOWN)
                return TraderAction(coin, effect, position < 0, max(coin.lot, min(coin.size(usd, px), most)))
            case "close":
                return TraderAction(coin, effect, position < 0, abs(position))
            case "flip":
                return TraderAction(coin, effect, position < 0, abs(position) + coin.size(min(usd, most_usd), px))

    def done(self, actor: str, at: int, choice: TraderAction) -> None:
        """Record that `actor` traded `choice` at offset `at`."""
        positions, coin = self._positions[actor], choice.coin.name
        self._last_ms[coin] = at
        positions[coin] = positions.get(coin, Decimal(0)) + (choice.size if choice.buying else -choice.size)
        if not positions[coin]:
            del positions[coin]

    def _usd_held(self, actor: str, coin: str, books: Mapping[str, Book]) -> Decimal:
        return abs(self._positions[actor].get(coin, Decimal(0))) * _mid(books[coin])

    def _usd(self) -> Decimal:
        if self._rng.random() < _TINY_SHARE:
            return Decimal(self._rng.randint(*_TINY))
        return _SMALLEST * Decimal(round(1_000_000 * float(_LARGEST / _SMALLEST) ** self._rng.random())) / 1_000_000


def _mid(book: Book) -> Decimal:
    return (book.bids[0].px + book.asks[0].px) / 2
