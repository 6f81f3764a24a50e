"""The seeded order flow: an endless, pure sequence of actions. The same seed gives the same flow, bit for bit.

Four followed wallets trade, each with a behaviour of its own (`trader_behaviour.py`), a crowd that no one follows
trades in between, quotes change, one market closes and is resolved. A short history lies before the origin, so that a
follower finds positions.
"""

import hashlib
import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateways.sandbox.polymarket.actions import Action, Close, Match, Move, Quote, Resolve
from gateways.sandbox.polymarket.books import Book, book_after
from gateways.sandbox.polymarket.ledger import HALF, Entry, Kind, Ledger
from gateways.sandbox.polymarket.markets import BRIEF, CANCELLED, MARKETS, ONE, Listing
from gateways.sandbox.polymarket.matching import Matcher, Part, parts
from gateways.sandbox.polymarket.trader_behaviour import BEHAVIOURS, TraderView
from gateways.sandbox.polymarket.trader_intents import Hit, Idle, Regroup, Take
from gateways.sandbox.polymarket.traders import (
    CROWD,
    DRIPPER,
    INFLUENCERS,
    MAKER,
    MAKERS,
    SCENERY,
    SPLITTER,
    TAKER,
    deposits,
)

NOISE: Final = "noise"
_QUOTES: Final = "quotes"
_NOISE_GAP_MS: Final = 420
_QUOTE_GAP_MS: Final = 260

_SETS: Final = 500_000 * ONE

HISTORY_FROM_MS: Final = -1_800_000
_HISTORY: Final = (TAKER, SPLITTER, MAKER, TAKER, DRIPPER, MAKER, DRIPPER, SPLITTER, TAKER, MAKER)
_HISTORY_GAP_MS: Final = 120_000
_REBATE_MS: Final = -300_000
_REBATE_MICROS: Final = 12_345_600

# The latent price of a market moves by so many micros at most with every match, and is pulled back home.
_WANDER: Final = 1_400
_IMPACT: Final = 500
_HOMEWARD: Final = 60
_ADVERSE_SHARE: Final = 0.07
_ADVERSE: Final = (8_000, 22_000)
_LOWEST, _HIGHEST = 80_000, 920_000


@dataclass(frozen=True)
class Script:
    """When the brief market closes and is resolved, in ms; whether another ends 50/50 and when."""

    closes_ms: int = 10_000
    resolves_ms: int = 12_000
    cancelled_ms: int | None = None


def opening_books(seed: int) -> dict[str, Book]:
    """The book of every market before the first action, by the market's name."""
    return {listing.name: book_after(seed, listing, -1, listing.opening_micros) for listing in MARKETS}


def flow(seed: int, script: Script | None = None) -> Iterator[Action]:
    """The actions of `seed` in the order of their offsets, without end."""
    return _Flow(seed, script or Script()).actions()


class _Flow:
    def __init__(self, seed: int, script: Script) -> None:
        self.seed = seed
        self.script = script
        self.rng = random.Random(f"pm flow:{seed}")
        self.ledger = Ledger()
        self.books = opening_books(seed)
        self.mids = {listing.name: listing.opening_micros for listing in MARKETS}
        self.open = list(MARKETS)
        self.view = TraderView(self.rng, self.ledger, self.books, self.open)
        self.matcher = Matcher(seed, self.rng, self.ledger)
        self.index = 0

    def actions(self) -> Iterator[Action]:
        yield from self._history()
        due = self._first_turns()
        clock_ms = -1
        while True:
            at, _, actor = heapq.heappop(due)
            at = max(at, clock_ms + 1)
            clock_ms = at
            if isinstance(actor, Listing):
                yield self._ended(at, actor, due)
                continue
            action, gap_ms = self._turn(at, actor)
            heapq.heappush(due, (at + gap_ms, self._tie(), actor))
            if action is not None:
                yield action

    def _tie(self) -> int:
        self.index += 1
        return self.index

    def _first_turns(self) -> list[tuple[int, int, str | Listing]]:
        turns: list[tuple[int, int, str | Listing]] = [
            (self.rng.randint(50, 300), self._tie(), NOISE),
            (self.rng.randint(50, 300), self._tie(), _QUOTES),
        ]
        for place, who in enumerate(self.rng.sample(INFLUENCERS, len(INFLUENCERS))):
            turns.append((self.rng.randint(300, 500) + 350 * place, self._tie(), who.address))
        turns.append((self.script.closes_ms, self._tie(), BRIEF))
        turns.append((self.script.resolves_ms, self._tie(), BRIEF))
        if self.script.cancelled_ms is not None:
            turns.append((self.script.cancelled_ms, self._tie(), CANCELLED))
        heapq.heapify(turns)
        return turns

    def _history(self) -> Iterator[Action]:
        for number, (wallet, amount) in enumerate(deposits().items()):
            entries = [Entry(wallet, Kind.DEPOSIT, None, None, True, amount, amount)]
            if wallet in SCENERY:
                # From the first second on there must be shares for sale to the followed wallets.
                entries += [Entry(wallet, Kind.SPLIT, market, None, True, _SETS, _SETS) for market in MARKETS]
            yield self._moved(HISTORY_FROM_MS - 60_000 + number, wallet, *entries)
        self.view.open = [listing for listing in self.open if not listing.brief]
        at = HISTORY_FROM_MS
        for number, who in enumerate(_HISTORY):
            at = HISTORY_FROM_MS + _HISTORY_GAP_MS * number + self.rng.randint(0, 30_000)
            action, _ = self._turn(at, who.address)
            if action is not None:
                yield action
        rebate = Entry(MAKER.address, Kind.MAKER_REBATE, None, None, True, _REBATE_MICROS, _REBATE_MICROS)
        yield self._moved(max(at + 1, _REBATE_MS), MAKER.address, rebate)
        self.view.open = self.open

    def _ended(self, at: int, listing: Listing, due: list[tuple[int, int, str | Listing]]) -> Action:
        if listing in self.open:
            self.open.remove(listing)
            if listing.brief:
                return Close(at, listing)
        half = listing == CANCELLED
        first = HALF if half else self.rng.choice((0, ONE))
        self.view.forget(listing)
        return Resolve(at, listing, (first, ONE - first))

    def _turn(self, at: int, actor: str) -> tuple[Action | None, int]:
        if actor == _QUOTES:
            return self._quote(at), 1 + round(self.rng.expovariate(1 / _QUOTE_GAP_MS))
        if actor == NOISE:
            return self._noise(at), 1 + round(self.rng.expovariate(1 / _NOISE_GAP_MS))
        if at >= 0:
            self.view.steps[actor] += 1
        intent, gap_ms = BEHAVIOURS[actor](self.view)
        match intent:
            case Idle():
                return None, gap_ms
            case Regroup(kind, listing, shares):
                entry = Entry(actor, kind, listing, None, True, shares, shares)
                return self._moved(at, actor, entry), gap_ms
            case Take(listing, outcome, buying, shares):
                book = self._book(listing, outcome)
                found = parts(book, buying, shares, self.rng.choices(MAKERS, k=len(book.asks) + len(book.bids)))
                return self._matched(at, actor, actor, listing, outcome, buying, found), gap_ms
            case Hit(listing, outcome, maker_buys, sizes):
                found = self._resting(listing, outcome, not maker_buys, actor, sizes)
                crowd = self.rng.choice(CROWD)
                if maker_buys and self.ledger.account(crowd).shares(listing, outcome) < sum(sizes):
                    return None, gap_ms
                return self._matched(at, actor, crowd, listing, outcome, not maker_buys, found), gap_ms

    def _book(self, listing: Listing, outcome: int) -> Book:
        book = self.books[listing.name]
        return book.mirrored() if outcome else book

    def _resting(self, listing: Listing, outcome: int, buying: bool, maker: str, sizes: tuple[int, ...]) -> list[Part]:
        """Several resting orders of one maker at the best price, as they are met by one taker."""
        book = self._book(listing, outcome)
        levels = book.asks if buying else book.bids
        return [Part(maker, levels[0][0], share, followed=True) for share in sizes] if levels else []

    def _noise(self, at: int) -> Action | None:
        listing, outcome, buying = self.rng.choice(self.open), self.rng.randrange(2), self.rng.random() < 0.6
        crowd = self.rng.choice(CROWD)
        book = self._book(listing, outcome)
        shares = self.rng.randint(500, 40_000) * 10_000
        held = self.ledger.account(crowd).shares(listing, outcome)
        if not buying:
            shares = min(shares, held // 10_000 * 10_000)
        found = parts(book, buying, shares, self.rng.choices(MAKERS, k=len(book.asks) + len(book.bids)))
        return self._matched(at, NOISE, crowd, listing, outcome, buying, found)

    def _matched(
        self, at: int, actor: str, taker: str, listing: Listing, outcome: int, buying: bool, found: list[Part]
    ) -> Action | None:
        if not found:
            return None
        index = self._tie()
        makers, taken = self.matcher.match(index, taker, listing, outcome, buying, found)
        rising = buying == (outcome == 0)
        self.mids[listing.name] = mid = self._wandered(listing, rising, followed=taker == actor)
        self.books[listing.name] = book = book_after(self.seed, listing, index, mid)
        return Match(at, actor, listing, makers, taken, found[0].price_micros, book, self._hash(index))

    def _wandered(self, listing: Listing, rising: bool, *, followed: bool) -> int:
        mid = self.mids[listing.name]
        step = self.rng.randint(-_WANDER, _WANDER) + (listing.opening_micros - mid) // _HOMEWARD
        step += _IMPACT if rising else -_IMPACT
        if followed and self.rng.random() < _ADVERSE_SHARE:
            step += self.rng.randint(*_ADVERSE) * (1 if rising else -1)
        return max(_LOWEST, min(_HIGHEST, mid + step))

    def _quote(self, at: int) -> Action:
        listing, buying = self.rng.choice(self.open), self.rng.random() < 0.5
        book = self.books[listing.name]
        levels = book.bids if buying else book.asks
        # The best level stays, so that a quote never moves the price.
        price = self.rng.choice(levels[1:] or levels)[0]
        shares = 0 if len(levels) > 6 and self.rng.random() < 0.3 else self.rng.randint(30_000, 600_000) * 10_000
        self.books[listing.name] = book.with_level(buying, price, shares)
        return Quote(at, listing, buying, price, shares)

    def _moved(self, at: int, actor: str, *entries: Entry) -> Move:
        for entry in entries:
            self.ledger.apply(entry)
        return Move(at, actor, entries, self._hash(self._tie()))

    def _hash(self, index: int) -> str:
        return "0x" + hashlib.blake2b(f"pm transaction {self.seed}:{index}".encode(), digest_size=32).hexdigest()
