"""The seeded order flow: an endless, pure sequence of actions. The same seed gives the same flow, bit for bit.

Five influencers act about every two seconds each, and a crowd that no one follows trades in between. The first seconds
are scripted so that every seed shows an open, an add, a reduce, a close and a flip early; later choices are random
among those that the positions allow. Two influencer actions on one coin are at least `QUIET_MS` apart, so the book that
an action leaves stays long enough to be compared with it.
"""

import hashlib
import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from gateways.sandbox.hyperliquid.books import book_after
from gateways.sandbox.hyperliquid.coins import COINS, Coin
from gateways.sandbox.hyperliquid.market_data import ZERO_HASH, Book
from gateways.sandbox.hyperliquid.trader_behaviour import TraderAction, TraderView, script
from gateways.sandbox.hyperliquid.traders import CROWD, INFLUENCERS, MAKERS

NOISE: Final = "noise"
Effect = Literal["open", "add", "reduce", "close", "flip", "noise"]

_NOISE_GAP_MS: Final = 400
# Mean gap between the actions of an influencer, in ms; shuffled among them by the seed.
_MEAN_GAPS_MS: Final = (1_650, 1_850, 2_000, 2_150, 2_350)
_MAKER_SHARE: Final = 0.12
_TWAP_SHARE: Final = 0.015
_TRADES_WEIGHTS: Final = (45, 25, 15, 10, 5)


@dataclass(frozen=True)
class Print:
    """One match of an action; `side` is the aggressor's, `tid` has 50 bits, the taker's oid is the newer one."""

    side: str
    px: Decimal
    sz: Decimal
    tid: int
    buyer: str
    seller: str
    buyer_oid: int
    seller_oid: int


@dataclass(frozen=True)
class Action:
    """What one actor does in one block, `offset_ms` after the start; no two actions share a millisecond.

    `actor` is an influencer's id or `noise`. `book` is the coin's book afterwards, None when it stays (noise).
    """

    index: int
    offset_ms: int
    coin: str
    actor: str
    effect: Effect
    hash: str
    twap_id: int | None
    prints: tuple[Print, ...]
    book: Book | None


def opening_books(seed: int) -> dict[str, Book]:
    """The book of every coin before the first action, by coin."""
    return {coin.name: book_after(seed, coin, -1, px=coin.opening_px, buying=None) for coin in COINS}


def flow(seed: int) -> Iterator[Action]:
    """The actions of `seed` in the order of their offsets, without end."""
    return _Flow(seed).actions()


class _Flow:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(f"flow:{seed}")
        self.books = opening_books(seed)
        self.view = TraderView(self.rng)
        self.scripts = script(self.rng)
        self.oids = 400_000_000_000 + self.rng.randrange(100_000_000_000)
        self.block = 900_000_000 + self.rng.randrange(100_000_000)
        gaps = self.rng.sample(_MEAN_GAPS_MS, len(_MEAN_GAPS_MS))
        self.mean_gap_ms = {who.id: gap for who, gap in zip(INFLUENCERS, gaps, strict=True)}

    def actions(self) -> Iterator[Action]:
        due = self._first_turns()
        index, clock_ms = 0, 0
        while True:
            at, actor = heapq.heappop(due)
            at = max(at, clock_ms + 1)
            if actor == NOISE:
                heapq.heappush(due, (at + 1 + round(self.rng.expovariate(1 / _NOISE_GAP_MS)), actor))
                action = self._noise(index, at)
            else:
                choice = self._choose(actor, at)
                if isinstance(choice, int):
                    heapq.heappush(due, (choice, actor))
                    continue
                heapq.heappush(due, (at + self._gap(actor), actor))
                action = self._act(index, at, actor, choice)
            index, clock_ms = index + 1, at
            yield action

    def _first_turns(self) -> list[tuple[int, str]]:
        turns: list[tuple[int, str]] = [(self.rng.randint(50, 500), NOISE)]
        at = self.rng.randint(300, 600)
        for who in self.scripts:
            turns.append((at, who))
            at += self.rng.randint(400, 650)
        heapq.heapify(turns)
        return turns

    def _gap(self, actor: str) -> int:
        if actor in self.scripts:
            return self.rng.randint(1_400, 2_200)
        return round(self.mean_gap_ms[actor] * self.rng.uniform(0.5, 1.5))

    def _choose(self, actor: str, at: int) -> TraderAction | int:
        """What the influencer does now, or the offset in ms at which it may try again."""
        steps = self.scripts.get(actor)
        if steps is None:
            reserved = {coin for pending in self.scripts.values() for coin, _ in pending}
            return self.view.choose(actor, at, self.books, reserved)
        coin, effect = steps[0]
        if not self.view.quiet(coin, at):
            return self.view.quiet_from(coin)
        steps.popleft()
        if not steps:
            del self.scripts[actor]
        return self.view.sized(actor, coin, effect, self.books)

    def _act(self, index: int, at: int, actor: str, choice: TraderAction) -> Action:
        coin, buying = choice.coin, choice.buying
        making = self.rng.random() < _MAKER_SHARE
        slicing = not making and self.rng.random() < _TWAP_SHARE
        prints = self._take_levels(
            index,
            coin,
            aggressor="B" if buying != making else "A",
            size=choice.size,
            most=2 if making or slicing else 5,
            resting=self.view.address(actor) if making else None,
            taking=self.rng.choice(CROWD) if making else self.view.address(actor),
        )
        mean_px = sum((p.px * p.sz for p in prints), Decimal(0)) / choice.size
        book = book_after(self.seed, coin, index, px=mean_px, buying=buying)
        self.books[coin.name] = book
        self.view.done(actor, at, choice)
        return Action(
            index=index,
            offset_ms=at,
            coin=coin.name,
            actor=actor,
            effect=choice.effect,
            hash=ZERO_HASH if slicing else self._hash(index, at),
            twap_id=1_000_000 + index if slicing else None,
            prints=prints,
            book=book,
        )

    def _noise(self, index: int, at: int) -> Action:
        coin = self.rng.choice(COINS)
        aggressor = self.rng.choice("AB")
        usd = Decimal(round(50 * 100 ** self.rng.random()))
        size = coin.size(usd, coin.opening_px)
        taking = self.rng.choice(CROWD)
        prints = self._take_levels(index, coin, aggressor=aggressor, size=size, most=3, resting=None, taking=taking)
        return Action(index, at, coin.name, NOISE, "noise", self._hash(index, at), None, prints, None)

    def _take_levels(
        self, index: int, coin: Coin, *, aggressor: str, size: Decimal, most: int, resting: str | None, taking: str
    ) -> tuple[Print, ...]:
        """Split `size` over the first levels of the book; `resting` None takes a market maker at every level."""
        book = self.books[coin.name]
        levels = book.asks if aggressor == "B" else book.bids
        prints: list[Print] = []
        taker_oid = self.oids + index * 8 + 7
        for depth, part in enumerate(self._parts(size, coin, most)):
            maker = resting or self.rng.choice(MAKERS)
            parties = ((taking, taker_oid), (maker, self.oids + index * 8 + depth))
            (buyer, buyer_oid), (seller, seller_oid) = parties if aggressor == "B" else parties[::-1]
            tid = int.from_bytes(self._digest(f"{index}:{depth}", 8)) >> 14
            px = levels[depth].px
            prints.append(Print(aggressor, px, part, tid, buyer, seller, buyer_oid, seller_oid))
        return tuple(prints)

    def _parts(self, size: Decimal, coin: Coin, most: int) -> list[Decimal]:
        lots = int(size / coin.lot)
        weights = _TRADES_WEIGHTS[:most]
        count = min(lots, self.rng.choices(range(1, most + 1), weights)[0])
        boundaries = [0, *sorted(self.rng.sample(range(1, lots), count - 1)), lots]
        return [(end - start) * coin.lot for start, end in itertools.pairwise(boundaries)]

    def _hash(self, index: int, at: int) -> str:
        # As on the venue, hex digits 22-29 hold the L1 block number and 30-37 the place in the block.
        digits = self._digest(str(index), 32).hex()
        return f"0x{digits[:22]}{self.block + at:08x}{self.rng.randrange(1, 4096):08x}{digits[38:]}"

    def _digest(self, what: str, size: int) -> bytes:
        return hashlib.blake2b(f"{self.seed}:{what}".encode(), digest_size=size).digest()
