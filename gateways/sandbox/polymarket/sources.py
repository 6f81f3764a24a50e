"""What a venue can play: the seeded flow here, recorded pages in `recording.py`."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from typing import Final, Protocol

from gateways.sandbox.polymarket.actions import Action
from gateways.sandbox.polymarket.data_api_index import Pending
from gateways.sandbox.polymarket.flow import HISTORY_FROM_MS, Script, flow, opening_books
from gateways.sandbox.polymarket.market_state import MarketState
from gateways.sandbox.polymarket.markets import MARKETS

_MS: Final = 1_000_000
_OPENED_NS: Final = 30 * 86_400 * 1_000_000_000
_FAR_NS: Final = 45 * 86_400 * 1_000_000_000
_TIE_AFTER_MS: Final = 3_000


class Source(Protocol):
    """Where the actions of a venue come from; `seed` names its chain. `origin_ns` is None until the venue knows it."""

    seed: int
    origin_ns: int | None
    horizon_ms: int | None
    drift: int

    def markets(self, origin_ns: int) -> dict[str, MarketState]:
        """The markets as they are before the first action, by name."""

    def actions(self) -> Iterator[Action]:
        """In the order of their offsets from the origin."""

    def rows(self, origin_ns: int) -> Iterator[Pending]:
        """Rows that do not come from an action, in the order in which they come."""


class FlowSource:
    """Plays `flow(seed)` from `origin_ns` on (None: the clock when the venue starts).

    With `horizon_s` no action at or after that offset is ever played. The brief market closes `resolves_s` less two
    seconds after the origin; with `tie` another market ends 50/50 three seconds after the brief one.
    """

    drift = 0

    def __init__(
        self,
        seed: int,
        *,
        origin_ns: int | None = None,
        horizon_s: float | None = None,
        resolves_s: float = 12.0,
        tie: bool = False,
    ) -> None:
        self.seed = seed
        self.origin_ns = origin_ns
        self.horizon_ms = None if horizon_s is None else round(horizon_s * 1_000)
        resolves_ms = round(resolves_s * 1_000)
        self.script = Script(closes_ms=max(0, resolves_ms - 2_000), resolves_ms=resolves_ms)
        if tie:
            self.script = replace(self.script, cancelled_ms=resolves_ms + _TIE_AFTER_MS)

    def markets(self, origin_ns: int) -> dict[str, MarketState]:
        books = opening_books(self.seed)
        opened_ms = origin_ns // _MS + HISTORY_FROM_MS - 60_000
        return {
            listing.name: MarketState(
                listing,
                books[listing.name],
                opened_ns=origin_ns - _OPENED_NS,
                closes_ns=origin_ns + (self.script.closes_ms * _MS if listing.brief else _FAR_NS),
                updated_ms=opened_ms,
            )
            for listing in MARKETS
        }

    def actions(self) -> Iterator[Action]:
        horizon = self.horizon_ms
        played = flow(self.seed, self.script)
        return played if horizon is None else takewhile(lambda action: action.offset_ms < horizon, played)

    def rows(self, origin_ns: int) -> Iterator[Pending]:
        return iter(())
