"""Live books of one venue: one WebSocket that is subscribed to the books in demand, and the newest book of each.

Demand is by use. An asset that is wanted takes a subscription; when all are taken, it takes that of the asset that was
used least recently, unless that one was used a few seconds ago: more assets than subscriptions must not make the
subscriptions change all the time. What an asset cannot have here, its reader requests.

What one connection speaks is a `BookChannel` of the venue. A new connection begins with a new channel, so no book
outlives the connection that it came from.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from gateways import metrics
from gateways.rate_limit import RateLimiter
from gateways.reconnecting_websocket import Backoff, SessionLostError, reconnecting
from gateways.venue_errors import WireError
from gateways.venue_types import Book

log = structlog.get_logger()

_BACKOFF = Backoff(1.0, 10.0)
_LOOK_SECONDS = 1.0
"""How often subscriptions are compared with demand when nothing asks for it."""
_PINGS_UNANSWERED = 2.5
_USE_SECONDS = 300.0
"""How long after its last use a book is missed, where assets are listed or no connection can be made."""
_REFUSED_SECONDS = 10.0
"""How long nothing more is subscribed after the venue refused a subscription because there are too many."""
_SUSPECT_SECONDS = 60.0
"""How long an asset is not subscribed again whose subscription was the last thing before the venue hung up."""


class Heard(StrEnum):
    """What a frame was."""

    DATA = "data"
    ALIVE = "alive"
    """Nothing about a book, but the connection lives."""
    REFUSED = "refused"
    """The venue holds no more subscriptions for this client."""


class Newest(NamedTuple):
    """A book as the feed last sent it, and the monotonic time (s) up to which it is known to be current."""

    book: Book
    as_of: float


class BookChannel(Protocol):
    """What one connection speaks, and the books that it brought. Frames are the venue's texts."""

    ping: str
    ping_seconds: float
    fresh_seconds: float
    """A book that is known to be current up to longer ago than this is stale."""
    quiet_seconds: float
    """A connection with subscriptions that brings no data for this long has fallen silent."""
    only_listed: bool
    """True when the venue hangs up over a subscription of an asset that it does not list."""

    @property
    def levels(self) -> int | None:
        """The most levels a side that the feed sends; None when it sends all."""

    @property
    def assets(self) -> Collection[str]:
        """The assets that are subscribed, or asked for."""

    def missing(self, assets: Sequence[str], at: float) -> list[str]:
        """Frames that subscribe some of these assets which are not, or whose book has a hole; `at` in monotonic time.

        Not all at once: what the venue answers decides whether there are more.
        """

    def drop(self, assets: Sequence[str]) -> list[str]:
        """The frames that end these subscriptions."""

    def receive(self, frame: str, at: float) -> Heard:
        """Take a frame that came at this monotonic time. Raises WireError when no book can be trusted after it."""

    def newest(self, asset: str, at: float) -> Newest | None:
        """The newest book at this time; None before there is one, or while it has a hole.

        Raises WireError when it is unreadable.
        """

    def suspect(self) -> str | None:
        """The asset whose subscription the venue was to answer next, when it hung up instead."""


class Lack(StrEnum):
    """Why there is no live book of an asset."""

    UNSUBSCRIBED = "unsubscribed"
    DISCONNECTED = "disconnected"
    HOLE = "hole"
    STALE = "stale"


class LiveBook(NamedTuple):
    """A live book and its age in seconds: how long ago it is known to have been the venue's."""

    book: Book
    age_seconds: float
    is_truncated: bool
    """True when a side may have more levels than the feed sends."""


class LiveBooks:
    """The live books of a venue. `run` keeps the connection; everything else answers at once."""

    def __init__(
        self,
        venue: str,
        url: str,
        channel: Callable[[], BookChannel],
        messages: RateLimiter,
        *,
        capacity: int,
        keep_seconds: float = 10.0,
        idle_seconds: float = 900.0,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        """`capacity` assets at most; `messages` is the budget of messages to the venue.

        An asset used within `keep_seconds` is not given up for another one, and one not used for `idle_seconds` is
        given up in any case.
        """
        self._venue = venue
        self._url = url
        self.channel = channel
        self._messages = messages
        self._capacity = capacity
        self._keep = keep_seconds
        self._idle = idle_seconds
        self._backoff = backoff
        self._channel: BookChannel | None = None
        self._wanted: OrderedDict[str, float] = OrderedDict()
        """Assets with the monotonic time of their last use, the least recent first."""
        self._refused_until = 0.0
        self._suspects: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._data_at = 0.0
        self._used_at = 0.0
        self._connected_at = time.monotonic()
        spoken = channel()
        self.only_listed = spoken.only_listed
        self._blind_seconds = 2 * spoken.quiet_seconds
        metrics.LIVE_BOOKS.labels(venue).set_function(lambda: self.subscribed)
        metrics.LIVE_BOOKS_BLIND.labels(venue).set_function(lambda: self.blind)

    @property
    def subscribed(self) -> int:
        """Assets that are subscribed now, or asked for."""
        return 0 if self._channel is None else len(self._channel.assets)

    @property
    def blind(self) -> bool:
        """True when books are in use and none has come for a while: everything is requested instead."""
        return self._in_use() and time.monotonic() - self._data_at > self._blind_seconds

    def _in_use(self) -> bool:
        """False when nothing was wanted lately: where assets need not be listed, markets may be over, and silent."""
        now = time.monotonic()
        is_gone = self._channel is None and now - self._connected_at > self._blind_seconds
        within = _USE_SECONDS if self.only_listed or is_gone else self._blind_seconds
        return bool(self._wanted) and now - self._used_at < within

    def want(self, asset: str) -> None:
        """Note the use of an asset: its book should be live from now on, if there is a subscription for it."""
        now = time.monotonic()
        if not self._in_use():
            self._data_at = now  # what is wanted from now on cannot have been missing before
        self._used_at = now
        if asset in self._wanted:
            self._wanted[asset] = now
            self._wanted.move_to_end(asset)
            return
        if self._suspects.get(asset, 0.0) > now:
            return
        if len(self._wanted) >= self._capacity:
            least, used_at = next(iter(self._wanted.items()))
            if self._channel is not None and least in self._channel.assets and now - used_at < self._keep:
                return
            del self._wanted[least]
            metrics.LIVE_BOOKS_EVICTED.labels(self._venue).inc()
        self._wanted[asset] = now
        self._changed.set()

    def forget(self, asset: str) -> None:
        """Give up the subscription of an asset that has no book."""
        if self._wanted.pop(asset, None) is not None:
            self._changed.set()

    def newest(self, asset: str) -> LiveBook | Lack:
        """The live book of an asset now, or why there is none that can be used."""
        if self._channel is None:
            return Lack.DISCONNECTED
        if asset not in self._channel.assets:
            return Lack.UNSUBSCRIBED
        now = time.monotonic()
        try:
            found = self._channel.newest(asset, now)
        except WireError as error:
            log.warning("live_book.unreadable", venue=self._venue, asset=asset, error=str(error))
            return Lack.HOLE
        if found is None:
            return Lack.HOLE
        age = now - found.as_of
        if age > self._channel.fresh_seconds:
            return Lack.STALE
        levels = self._channel.levels
        is_truncated = levels is not None and max(len(found.book.bids), len(found.book.asks)) >= levels
        return LiveBook(found.book, age, is_truncated)

    async def run(self, stop: asyncio.Event) -> None:
        """Connect once a book is wanted, and again whenever the connection is lost, until `stop`."""
        wanted, stopped = asyncio.create_task(self._changed.wait()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({wanted, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wanted.cancel()
            stopped.cancel()
        if stop.is_set():
            return
        async for _ in reconnecting(self._url, self._session, stop=stop, backoff=self._backoff, ping_interval=None):
            metrics.LIVE_BOOK_CONNECTIONS.labels(self._venue).inc()

    async def _session(self, socket: ClientConnection, attempt: int) -> AsyncGenerator[int, None]:
        channel = self.channel()
        tasks = [asyncio.create_task(self._subscribe(socket, channel)), asyncio.create_task(_ping(socket, channel))]
        self._channel = channel
        try:
            yield attempt
            await self._receive(socket, channel)
        except ConnectionClosed:
            self._suspect(channel)
            raise
        except WireError as error:
            raise SessionLostError(f"books of {self._venue}: {error}") from error
        finally:
            self._channel, self._connected_at = None, time.monotonic()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self, socket: ClientConnection, channel: BookChannel) -> None:
        data_at = time.monotonic()
        updates = metrics.LIVE_BOOK_UPDATES.labels(self._venue)
        silence = _PINGS_UNANSWERED * channel.ping_seconds
        while True:
            try:
                async with asyncio.timeout(silence):
                    frame = await socket.recv(decode=True)
            except TimeoutError:
                raise SessionLostError(f"no frame for {silence:g} s") from None
            now = time.monotonic()
            heard = channel.receive(frame, now)
            if heard is Heard.DATA:
                data_at = self._data_at = now
                updates.inc()
            elif heard is Heard.REFUSED:
                self._refused_until = now + _REFUSED_SECONDS
                log.warning("live_books.refused", venue=self._venue, subscribed=self.subscribed)
            if self._in_use() and now - data_at > channel.quiet_seconds:
                raise SessionLostError(f"no book for {now - data_at:.0f} s")

    async def _subscribe(self, socket: ClientConnection, channel: BookChannel) -> None:
        """Keep the subscriptions what is wanted, the assets used last first."""
        while True:
            self._changed.clear()
            now = time.monotonic()
            while self._wanted and now - next(iter(self._wanted.values())) > self._idle:
                self._wanted.popitem(last=False)
            frames = channel.drop([asset for asset in channel.assets if asset not in self._wanted])
            if now >= self._refused_until:
                frames += channel.missing(list(reversed(self._wanted)), now)
            for frame in frames:
                await self._messages.spend()
                await socket.send(frame)
            if frames:
                continue
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _suspect(self, channel: BookChannel) -> None:
        asset = channel.suspect()
        if asset is not None:
            now = time.monotonic()
            self._suspects = {other: until for other, until in self._suspects.items() if until > now}
            self._suspects[asset] = now + _SUSPECT_SECONDS
            self._wanted.pop(asset, None)
            log.warning("live_book.hung_up", venue=self._venue, asset=asset)


async def _ping(socket: ClientConnection, channel: BookChannel) -> None:
    while True:
        await asyncio.sleep(channel.ping_seconds)
        await socket.send(channel.ping)
