"""What a followed wallet does next: four behaviours, each a function from the view to an intent and a pause in ms.

The first steps of the taker and of the splitter are scripted, so that every seed shows a position opened, raised,
reduced and closed, a split, a merge and something to redeem; later choices are random among those there are.

The eager taker buys with orders that cross the spread and sometimes sells; the quiet maker is hit at his price, often
by one taker on several equal orders; the dripper collects fills far below the minimum order, several a second; the
splitter splits collateral, sells one leg, merges what is left, and holds to the end in the market that ends.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateways.sandbox.polymarket.books import Book
from gateways.sandbox.polymarket.ledger import Kind, Ledger
from gateways.sandbox.polymarket.markets import ONE, Listing
from gateways.sandbox.polymarket.trader_intents import Hit, Idle, Intent, Regroup, Take
from gateways.sandbox.polymarket.traders import DRIPPER, MAKER, SPLITTER, TAKER

_CENT: Final = 10_000
# Below this share of its deposit a wallet would rather sell than buy.
_POOR: Final = 4


@dataclass
class _Burst:
    """What the dripper is doing for a few fills."""

    listing: Listing
    outcome: int
    buying: bool
    left: int


@dataclass
class TraderView:
    """What the behaviours see. `open` are the markets that trade."""

    rng: random.Random
    ledger: Ledger
    books: Mapping[str, Book]
    open: list[Listing]
    burst: _Burst | None = field(default=None)
    steps: Counter[str] = field(default_factory=Counter)
    """Turns taken since the origin, by wallet."""
    stage: Listing | None = None
    """The market of the taker's script."""

    def forget(self, listing: Listing) -> None:
        """A market has ended: no wallet holds its shares any more as far as choices go."""
        for account in self.ledger.accounts.values():
            account.positions.pop((listing.name, 0), None)
            account.positions.pop((listing.name, 1), None)

    def held(self, wallet: str, least: int) -> list[tuple[Listing, int, int]]:
        """(market, outcome, shares) of what the wallet could sell, `least` shares at least."""
        account = self.ledger.account(wallet)
        return [
            (listing, outcome, account.shares(listing, outcome))
            for listing in self.open
            for outcome in (0, 1)
            if account.shares(listing, outcome) >= least
        ]

    def price(self, listing: Listing, outcome: int, buying: bool) -> int | None:
        """What a taker pays or gets for the first share; None while that side is empty."""
        book = self.books[listing.name]
        side = (book.mirrored() if outcome else book).asks if buying else (book.mirrored() if outcome else book).bids
        return side[0][0] if side else None


def _eager_taker(view: TraderView) -> tuple[Intent, int]:
    rng, gap_ms = view.rng, view.rng.randint(1_300, 2_300)
    scripted = _scripted_taker(view)
    if scripted is not None:
        return scripted, gap_ms
    held = view.held(TAKER.address, 10 * ONE)
    poor = view.ledger.account(TAKER.address).cash_micros < TAKER.deposit_micros // _POOR
    # In the history it only buys, so that a follower finds positions.
    if view.steps[TAKER.address] and held and (poor or rng.random() < 0.28):
        listing, outcome, shares = rng.choice(held)
        part = shares if rng.random() < 0.4 else max(_CENT, round(shares * rng.uniform(0.2, 0.8)) // _CENT * _CENT)
        return Take(listing, outcome, False, part), gap_ms
    listing, outcome = rng.choice(view.open), rng.randrange(2)
    if held and rng.random() < 0.4:
        listing, outcome, _ = rng.choice(held)
    price = view.price(listing, outcome, True)
    if price is None or poor:
        return Idle(), gap_ms
    return _buy(rng, listing, outcome, price), gap_ms


def _buy(rng: random.Random, listing: Listing, outcome: int, price: int) -> Take:
    usd = round(40 * 37.5 ** rng.random())
    shares = usd * ONE * ONE // price
    # An order in dollars gets shares with six decimals, one in shares whole cents of a share.
    return Take(listing, outcome, True, shares if rng.random() < 0.5 else shares // _CENT * _CENT)


def _scripted_taker(view: TraderView) -> Intent | None:
    """Buy in the brief market; then open, raise, reduce and close in one where nothing was held."""
    account = view.ledger.account(TAKER.address)
    step = view.steps[TAKER.address]
    if step > 5:
        return None
    if step == 1:
        fresh = [
            one for one in view.open if not one.brief and not account.shares(one, 0) and not account.shares(one, 1)
        ]
        view.stage = view.rng.choice(fresh or view.open)
    brief = next((listing for listing in view.open if listing.brief), None)
    listing = brief if step == 1 else view.stage
    if listing is None or listing not in view.open:
        return None
    outcome = view.rng.randrange(2) if step == 1 else 0
    price, shares = view.price(listing, outcome, True), account.shares(listing, 0)
    if step <= 3:
        return None if price is None else _buy(view.rng, listing, outcome, price)
    return Take(listing, 0, False, shares // 2 // _CENT * _CENT if step == 4 else shares)


def _quiet_maker(view: TraderView) -> tuple[Intent, int]:
    rng, gap_ms = view.rng, view.rng.randint(1_200, 2_000)
    account = view.ledger.account(MAKER.address)
    poor = account.cash_micros < MAKER.deposit_micros // _POOR
    sets = [(listing, account.both(listing)) for listing in view.open if account.both(listing) > 400 * ONE]
    if sets and poor:
        listing, shares = rng.choice(sets)
        return Regroup(Kind.MERGE, listing, shares // ONE * ONE), gap_ms
    if poor:
        return Idle(), gap_ms
    size = rng.randint(2_000, 22_000) * _CENT
    shape = rng.random()
    if shape < 0.55:
        sizes: tuple[int, ...] = (size,)
    elif shape < 0.8:
        # Equal resting orders, taken whole by one taker: rows that are all the same.
        sizes = (size,) * rng.choice((2, 2, 3))
    else:
        sizes = (size, rng.randint(500, 15_000) * _CENT)
    return Hit(rng.choice(view.open), rng.randrange(2), rng.random() < 0.5, sizes), gap_ms


def _dripper(view: TraderView) -> tuple[Intent, int]:
    rng = view.rng
    burst = view.burst
    if burst is None or burst.left <= 0 or burst.listing not in view.open:
        view.burst = burst = _next_burst(view)
    burst.left -= 1
    gap_ms = rng.randint(110, 380) if burst.left else rng.randint(1_800, 3_400)
    price = view.price(burst.listing, burst.outcome, not burst.buying)
    if price is None:
        return Idle(), gap_ms
    if rng.random() < 0.06:
        shares = rng.randint(2, 9) * 1_000
    else:
        shares = rng.randint(25, 95) * _CENT * ONE // price // _CENT * _CENT
    if burst.buying:
        return Hit(burst.listing, burst.outcome, True, (shares,)), gap_ms
    shares = min(shares, view.ledger.account(DRIPPER.address).shares(burst.listing, burst.outcome))
    return (Take(burst.listing, burst.outcome, False, shares) if shares else Idle()), gap_ms


def _next_burst(view: TraderView) -> _Burst:
    rng = view.rng
    held = view.held(DRIPPER.address, 12 * ONE)
    fills = rng.randint(4, 7)
    if held and rng.random() < 0.55:
        listing, outcome, _ = rng.choice(held)
        return _Burst(listing, outcome, False, fills)
    return _Burst(rng.choice(view.open), rng.randrange(2), True, fills)


def _scripted_splitter(view: TraderView) -> Intent | None:
    """Split in the brief market and sell a leg of it; split elsewhere and merge a part back."""
    rng, step = view.rng, view.steps[SPLITTER.address]
    brief = next((listing for listing in view.open if listing.brief), None)
    account = view.ledger.account(SPLITTER.address)
    whole = [listing for listing in view.open if not listing.brief and account.both(listing) >= 100 * ONE]
    match step:
        case 1 if brief is not None:
            return Regroup(Kind.SPLIT, brief, rng.randint(200, 600) * ONE)
        case 2 if brief is not None:
            return Take(brief, rng.randrange(2), False, rng.randint(40, 180) * ONE)
        case 3:
            return Regroup(Kind.SPLIT, rng.choice(view.open), rng.randint(100, 500) * ONE)
        case 4 if whole:
            return Regroup(Kind.MERGE, rng.choice(whole), rng.randint(20, 90) * ONE)
    return None


def _tidy_splitter(view: TraderView) -> tuple[Intent, int]:
    rng, gap_ms = view.rng, view.rng.randint(1_700, 2_600)
    account = view.ledger.account(SPLITTER.address)
    scripted = _scripted_splitter(view)
    if scripted is not None:
        return scripted, gap_ms
    both = [(listing, account.both(listing)) for listing in view.open if account.both(listing) >= 20 * ONE]
    choice = rng.random()
    if both and choice < 0.4:
        listing, shares = rng.choice(both)
        outcome = rng.randrange(2)
        return Take(listing, outcome, False, round(shares * rng.uniform(0.2, 0.6)) // _CENT * _CENT), gap_ms
    if both and choice < 0.75:
        listing, shares = rng.choice(both)
        return Regroup(Kind.MERGE, listing, max(ONE, round(shares * rng.uniform(0.3, 1.0)) // ONE * ONE)), gap_ms
    if account.cash_micros > SPLITTER.deposit_micros // _POOR:
        return Regroup(Kind.SPLIT, rng.choice(view.open), rng.randint(100, 500) * ONE), gap_ms
    held = view.held(SPLITTER.address, ONE)
    if held:
        listing, outcome, shares = rng.choice(held)
        return Take(listing, outcome, False, shares), gap_ms
    return Idle(), gap_ms


BEHAVIOURS: Final[dict[str, Callable[[TraderView], tuple[Intent, int]]]] = {
    TAKER.address: _eager_taker,
    MAKER.address: _quiet_maker,
    DRIPPER.address: _dripper,
    SPLITTER.address: _tidy_splitter,
}
