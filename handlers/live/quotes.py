"""The book of an asset at a time: the venue's live book where there is one, else a request (book_requests).

What is about to be quoted is wanted at once, so that its book is live by the time that it is due.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from domain.events import Venue
from gateways.live_books import Lack, LiveBooks
from gateways.venue_adapter import Books
from gateways.venue_errors import VenueUnavailableError, WireError
from gateways.venue_types import Book, Captured
from handlers.live import metrics
from handlers.live.book_requests import BookRequests, ExpiredError, Priority

log = structlog.get_logger()

_SECOND = 1_000_000_000
_UNLISTED_SECONDS = 60.0
"""How long an asset that the venue does not list is not looked up again."""
_OFF, _SHALLOW, _ENDING = "off", "shallow", "ending"


class Quoted(NamedTuple):
    """A book with its terms, None when the venue has none; and when it was taken (ns).

    `current_at` is when a live book was last known to be the venue's (ns); None for the answer to a request.
    """

    captured: Captured | None
    captured_at: int
    current_at: int | None = None


class VenueQuotes:
    """The quotes of one venue. `live` is None when live books are turned off: then everything is requested."""

    def __init__(self, venue: Venue, books: Books, live: LiveBooks | None, clock: Callable[[], int]) -> None:
        self._venue = venue.value
        self._books = books
        self._live = live
        self._clock = clock
        self._requests = BookRequests(books, clock)
        self._listed: set[str] = set()
        self._unlisted_until: dict[str, float] = {}
        self._lookup_error = ""
        self._lookups: dict[str, asyncio.Task[None]] = {}

    @property
    def problem(self) -> str | None:
        """What an operator has to know: the live books are blind, or nothing can be subscribed."""
        if self._live is None:
            return None
        if self._live.blind:
            return f"no live book of {self._venue} comes: every quote is requested"
        if self._live.only_listed and self._lookup_error and not self._listed:
            return f"no asset of {self._venue} can be looked up: {self._lookup_error}"
        return None

    def want(self, asset: str) -> None:
        """Note that an asset is traded: its book should be live from now on."""
        if self._live is None:
            return
        if asset in self._listed or not self._live.only_listed:
            self._live.want(asset)
        else:
            self._look_up(asset)

    async def capture(
        self,
        asset: str,
        due_at: int,
        *,
        priority: Priority,
        expires_at: int | None = None,
        enough: Callable[[Book], bool] = lambda book: True,
    ) -> Quoted:
        """The book as of `due_at` (ns), or now when that has passed. Waits until then.

        `enough` is asked whether a live book that is truncated shows enough of the venue's. Raises ExpiredError
        when a request would have gone after `expires_at` (ns) only, VenueUnavailableError and WireError.
        """
        self.want(asset)
        wait = (due_at - self._clock()) / _SECOND
        if wait > 0:
            if self._live is not None:
                self._look_up(asset)  # its terms are known then
            await asyncio.sleep(wait)
        found = await self._from_socket(asset, enough)
        if isinstance(found, Quoted):
            metrics.QUOTES.labels(self._venue, "socket").inc()
            return found
        metrics.FALLBACKS.labels(self._venue, found).inc()
        try:
            requested = await self._requests.capture(asset, due_at, priority, expires_at)
        except ExpiredError:
            metrics.EXPIRED.labels(self._venue).inc()
            raise
        metrics.QUOTES.labels(self._venue, "shared" if requested.shared else "request").inc()
        if requested.captured is None and self._live is not None:
            self._live.forget(asset)
        return Quoted(requested.captured, requested.captured_at)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the live books until `stop`."""
        if self._live is not None:
            await self._live.run(stop)

    async def close(self) -> None:
        """Give up what is requested."""
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        await self._requests.close()

    async def _from_socket(self, asset: str, enough: Callable[[Book], bool]) -> Quoted | str:
        """The live book, or why there is none that can be used."""
        if self._live is None:
            return _OFF
        found = self._live.newest(asset)
        if isinstance(found, Lack):
            return found.value
        terms = await self._books.terms(asset)
        found = self._live.newest(asset)  # the terms may have been requested meanwhile
        if isinstance(found, Lack):
            return found.value
        if terms is None:
            return Lack.UNSUBSCRIBED.value
        if not terms.accepting or (terms.closes_at is not None and self._clock() >= terms.closes_at):
            return _ENDING  # a socket only falls silent when a market ends, a request says so
        if found.is_truncated and not enough(found.book):
            return _SHALLOW
        metrics.AGE.labels(self._venue).observe(found.age_seconds)
        now = self._clock()
        return Quoted(Captured(found.book, terms), now, now - round(found.age_seconds * _SECOND))

    def _look_up(self, asset: str) -> None:
        if asset not in self._lookups and self._unlisted_until.get(asset, 0.0) <= time.monotonic():
            self._lookups[asset] = asyncio.create_task(self._load_terms(asset))

    async def _load_terms(self, asset: str) -> None:
        """Load the terms of an asset, and subscribe what the venue lists: some hang up over an unknown name."""
        assert self._live is not None
        try:
            listed = await self._books.terms(asset) is not None
        except (VenueUnavailableError, WireError) as error:
            log.info("quote.terms_unknown", venue=self._venue, asset=asset, error=str(error))
            listed, self._lookup_error = False, str(error)
        finally:
            del self._lookups[asset]
        if not self._live.only_listed:
            return
        if listed:
            self._listed.add(asset)
            self._live.want(asset)
        else:
            now = time.monotonic()
            self._unlisted_until = {other: until for other, until in self._unlisted_until.items() if until > now}
            self._unlisted_until[asset] = now + _UNLISTED_SECONDS
