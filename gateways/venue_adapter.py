"""The port to a venue: everything the stages need of one. gateways/registry.py lists the adapters, one per venue."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol, TypeVar

from msgspec import Raw

from domain.events import RawReceived, Terms
from gateways.live_books import LiveBooks
from gateways.live_orders import LiveOrders
from gateways.rate_limit import MakeLimiter, alone
from gateways.venue_clock import VenueClock
from gateways.venue_types import Captured, DecodedRaw, ListedMarket, Price

Settings = TypeVar("Settings", contravariant=True)


class Purpose(StrEnum):
    """What a process asks a venue for. The venue's request limit is split between these."""

    INGEST = "ingest"
    QUOTE = "quote"
    EXECUTE = "execute"
    MARK = "mark"
    RESOLVE = "resolve"


class Books(Protocol):
    """The order books of a venue."""

    async def capture(self, asset: str) -> Captured | None:
        """The book now with its terms; None when the venue has none. Raises VenueUnavailableError or WireError."""

    async def terms(self, asset: str) -> Terms | None:
        """The limits for an order, which change seldom; None when the venue does not list the asset.

        Raises VenueUnavailableError or WireError.
        """

    async def affordable(self) -> None:
        """Wait until a capture could be requested at once, so that its turn can still be given to another one."""


class Prices(Protocol):
    """The current prices of a venue."""

    async def prices(self, assets: Iterable[str]) -> dict[str, Price]:
        """Prices of these assets; those without one are absent. Raises VenueUnavailableError or WireError."""


class Markets(Protocol):
    """The markets of a venue: what they are, and how they ended."""

    async def markets(self, ids: Sequence[str], /) -> dict[str, Raw]:
        """The markets with these ids, by id; unknown ones are absent. Raises VenueUnavailableError or WireError."""

    async def market_of(self, asset: str, /) -> Raw | None:
        """The market of an asset, or None. Raises VenueUnavailableError or WireError."""

    def read(self, payload: Raw, now: int) -> ListedMarket:
        """A market that one of these returned, as of `now` (ns). Raises WireError."""


class VenueClients(Protocol):
    """Open clients of one venue, for one purpose."""

    @property
    def clock(self) -> VenueClock:
        """How far this machine's clock is from the venue's, by its answers."""

    def books(self) -> Books: ...

    def live_books(self) -> LiveBooks | None:
        """The venue's books as it sends them; None when the settings turn them off."""

    def prices(self, clock: Callable[[], int]) -> Prices: ...

    def markets(self) -> Markets | None:
        """None where markets do not end and carry no description."""

    def live_orders(self, clock: Callable[[], int]) -> LiveOrders | None:
        """None where the system takes part on paper only. To be used in `async with`."""


class VenueAdapter(Protocol[Settings]):
    """How the system reads one venue. `Settings` are the settings that this venue needs."""

    def decode_raw(self, raw: RawReceived) -> DecodedRaw:
        """What a stored RAW event holds; None for what changes no position. Raises WireError."""

    def connect(
        self, settings: Settings, purpose: Purpose, limiter_of: MakeLimiter = alone
    ) -> AbstractAsyncContextManager[VenueClients]:
        """Clients that share one request limit, open until the context ends. `limiter_of` makes the limiter of a
        budget: one that other processes share, or one of this process alone."""
