"""One reader of a stream for all subscriptions of a process: each message comes once and is sorted without decoding.

Subscriptions come, go and differ in how far they are, so there may be several readers for a while: one that is far
behind reads by itself, and so does one that has held the others up. A subscription joins a reader that is ahead in two
steps, so that it has neither a gap nor a duplicate: from now on the reader ahead keeps messages for it, and its own
reader goes on exactly as far as where that began.
"""

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import structlog

from streams.connection import Connection
from streams.errors import LogError
from streams.subscription import Stored, Subscription
from streams.temporary_reader import TemporaryReader

log = structlog.get_logger()

_BATCH = 2_000
_NEAR = 10_000
"""Messages between two readers from which one of them is enough."""
_HELD_SECONDS = 1.0
"""How long one subscription may keep others waiting before it has to read by itself."""
_CHECK_SECONDS = 0.25
_MAX_BYTES = 64 * 1024 * 1024
_MAX_ROUTES = 65_536
_END = 1 << 63
_BY_TWO_TOKENS = re.compile(rb"[^.*>]+\.([^.*>]+\.)?>")


class SharedSubscription(Subscription):
    """The messages of a stream that match, in stream order, each once, from `after` + 1 on, by the process's reader.

    Subscriptions of one connection to one stream share a reader; it reads the whole stream and checks that its
    sequences are contiguous, unless all of them name the same `server_filters`, which must let through what `filters`
    match. At most `batch` messages are taken at once, and a few times as many wait in memory: a subscription that takes
    nothing for a second while others wait for it goes on with a reader of its own until it has caught up.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: Sequence[str] = (),
        *,
        name: str | None = None,
        description: str = "",
        metadata: dict[str, str] | None = None,
        batch: int = 500,
        wake: asyncio.Event | None = None,
        server_filters: Sequence[str] = (),
    ) -> None:
        super().__init__(connection, stream, filters, name, description, metadata, wake)
        self._connection = connection
        self._server_filters = tuple(server_filters)
        self._group: _Readers | None = None
        self._limit = 4 * batch
        self._batch = batch
        self.filters = [one.encode() for one in filters]
        self.arriving: _Share | None = None
        """What arrives now."""
        self.joining: _Share | None = None
        """What a reader ahead keeps for later."""
        self.size = 0
        """Bytes of the messages that wait."""

    @property
    def position(self) -> int:
        share = self.arriving
        return 0 if share is None else max(share.after, share.reader.position)

    @property
    def has_space(self) -> bool:
        """False when so much waits to be taken that nothing more may be asked for."""
        return self._count <= self._limit and self.size <= _MAX_BYTES

    @property
    def is_behind(self) -> bool:
        """True when what waits is so much that other subscriptions may have to wait for it."""
        return self._count > self._limit // 2 or self.size > _MAX_BYTES // 2

    @property
    def is_nearly_done(self) -> bool:
        """True when little waits: it keeps up."""
        return self._count <= self._batch

    async def open(self, after: int) -> "SharedSubscription":
        """Start behind sequence `after`; returns self. Raises LogError."""
        self._group = _readers(self._connection, self._stream, self._server_filters)
        await self._group.join(self, after)
        if self._lag is not None:
            await self._lag.open(after)
        return self

    async def close(self) -> None:
        if self._group is not None:
            await self._group.leave(self)
        if self._lag is not None:
            await self._lag.close()

    def fail(self, failure: LogError) -> None:
        """`take` raises this once everything before was taken."""
        self._failure = failure
        self.wake.set()

    def wake_if_due(self) -> None:
        """Set `wake` when there is something to take."""
        self._wake_if_due()

    def expired(self, first: int, last: int) -> None:
        """The stream's age limit has removed what was to be read next."""
        self._report_expired(first, last)

    def arrives_from(self, share: "_Share") -> None:
        """What the share has kept is next, then what its reader delivers from now on."""
        self._buffer.extend(share.arrived)
        share.arrived = self._buffer
        self.arriving, self.joining = share, None

    @property
    def _count(self) -> int:
        return len(self._buffer) + (0 if self.joining is None else len(self.joining.arrived))

    def _on_taken(self, taken: list[Stored]) -> None:
        self.size -= sum(len(stored.payload) for stored in taken)
        for share in (self.arriving, self.joining):
            if share is not None:
                share.reader.has_space_again()


class _Share:
    """What one reader delivers to one subscription: messages behind `after` and up to `until` go to `arrived`."""

    __slots__ = ("after", "arrived", "reader", "subscription", "until")

    def __init__(self, subscription: SharedSubscription, reader: "_Reader", after: int) -> None:
        self.subscription = subscription
        self.reader = reader
        self.after = after
        self.until = _END
        self.arrived: deque[Stored] = deque()


class _Reader:
    """Reads for its shares. The server sends no more while one of their subscriptions has no space."""

    def __init__(self, group: "_Readers", connection: Connection, after: int) -> None:
        self._group = group
        self._reader = TemporaryReader(
            connection,
            group.stream,
            group.filters,
            self,
            reader=f"{connection.name}{' catching up' if group.all else ''}",
            description="read once for all lanes of a process" if not group.all else "catches up with the other lanes",
            batch=_BATCH,
        )
        self._reader.position = after
        self._routes: dict[bytes, tuple[_Share, ...]] = {}
        self._by_two_tokens = True
        self._held_since: float | None = None
        self._opening: asyncio.Task[None] | None = None
        self._checking = asyncio.create_task(self._check())
        self.shares: list[_Share] = []

    @property
    def position(self) -> int:
        return self._reader.position

    async def open(self) -> None:
        """Begin to read; every caller waits until it has begun. Raises LogError."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._reader.open(self.position))
        await asyncio.shield(self._opening)

    def open_in_background(self) -> None:
        self._opening = asyncio.create_task(asyncio.sleep(0))
        self._reader.open_in_background(self.position)

    async def close(self) -> None:
        tasks = [self._checking] + ([self._opening] if self._opening is not None else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._reader.close()

    def add(self, share: _Share) -> None:
        self.shares.append(share)
        self._on_shares_changed()

    def remove(self, share: _Share) -> None:
        self.shares.remove(share)
        self._on_shares_changed()
        self.has_space_again()

    def has_space_again(self) -> None:
        self._reader.has_space_again()

    def on_messages(self, sequences: Sequence[int], subjects: list[bytes], payloads: list[bytes]) -> None:
        # This loop runs once a message: a subject is looked up by its first two tokens, the partition is the second.
        routes, by_two_tokens = self._routes, self._by_two_tokens
        for sequence, subject, payload in zip(sequences, subjects, payloads, strict=True):
            key = subject
            if by_two_tokens:
                key = subject[: subject.find(b".", subject.find(b".") + 1) + 1] or subject
            shares = routes.get(key)
            if shares is None:
                shares = self._route(key)
            if shares:
                stored, size = Stored(sequence, subject.decode(), payload), len(payload)
                for share in shares:
                    if share.after < sequence <= share.until:
                        share.arrived.append(stored)
                        share.subscription.size += size

    def on_read(self) -> None:
        if self._reader.failure is not None:
            self._group.on_failure(self, self._reader.failure)
            return
        self._group.bring_together()
        for share in self.shares:
            share.subscription.wake_if_due()

    def on_expired(self, first: int, last: int) -> None:
        for share in self.shares:
            share.subscription.expired(max(first, share.after + 1), last)

    def has_space(self) -> bool:
        return all(share.subscription.has_space for share in self.shares)

    def _has_idle(self) -> bool:
        return not all(share.subscription.waiting for share in self.shares)

    def _on_shares_changed(self) -> None:
        self._routes.clear()
        filters = [one for share in self.shares for one in share.subscription.filters]
        self._by_two_tokens = all(_BY_TWO_TOKENS.fullmatch(one) for one in filters)

    def _route(self, key: bytes) -> tuple[_Share, ...]:
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        found = tuple(share for share in self.shares if _wants(share.subscription.filters, key))
        self._routes[key] = found
        return found

    async def _check(self) -> None:
        """Set subscriptions apart that keep the others waiting."""
        while self._reader.failure is None:
            await asyncio.sleep(_CHECK_SECONDS)
            now = asyncio.get_running_loop().time()
            behind = [share for share in self.shares if share.subscription.is_behind]
            if not behind:
                self._held_since = None
            elif self._held_since is None:
                self._held_since = None if self.has_space() else now
            elif now - self._held_since >= _HELD_SECONDS and self._has_idle():
                self._held_since = None
                self._group.set_apart(self, behind)
            self._group.bring_together()


class _Readers:
    """The readers of one stream on one connection: one, but for subscriptions that are behind."""

    def __init__(self, connection: Connection, stream: str, filters: tuple[str, ...]) -> None:
        self._connection = connection
        self._ending: set[asyncio.Task[None]] = set()
        self.stream = stream
        self.filters = filters
        self.all: list[_Reader] = []

    async def join(self, subscription: SharedSubscription, after: int) -> None:
        """Deliver to the subscription what is behind `after`, by a reader that is about there. Raises LogError."""
        near = [reader for reader in self.all if 0 <= after - reader.position <= _NEAR]
        reader = max(near, key=lambda each: each.position, default=None) or self._new(after)
        share = _Share(subscription, reader, after)
        reader.add(share)
        subscription.arrives_from(share)
        try:
            await reader.open()
        except LogError:
            self._forget(reader)
            raise

    async def leave(self, subscription: SharedSubscription) -> None:
        """Deliver nothing more; a reader without any subscription ends."""
        for share in (subscription.arriving, subscription.joining):
            if share is not None:
                share.reader.remove(share)
                if not share.reader.shares:
                    self._forget(share.reader)
                    await share.reader.close()
        subscription.arriving = subscription.joining = None

    def on_failure(self, reader: _Reader, failure: LogError) -> None:
        """A reader has met a hole: later subscriptions use another one."""
        self._forget(reader)
        for share in list(reader.shares):
            if share is share.subscription.joining:
                self._stop_joining(share.subscription)
            else:
                share.subscription.fail(failure)

    def bring_together(self) -> None:
        """Let subscriptions go on with a reader that is ahead of theirs, where the two are near."""
        if len(self.all) < 2:
            return
        for reader in list(self.all):
            target = self._target(reader)
            for share in list(reader.shares):
                subscription = share.subscription
                if target is not None and subscription.joining is None and subscription.is_nearly_done:
                    share.until = max(target.position, share.after)
                    subscription.joining = _Share(subscription, target, share.until)
                    target.add(subscription.joining)
                if subscription.joining is not None and reader.position >= share.until:
                    subscription.arrives_from(subscription.joining)
                    reader.remove(share)
            if not reader.shares:
                self._end(reader)

    def set_apart(self, reader: _Reader, behind: Sequence[_Share]) -> None:
        """Give a reader of their own to subscriptions that keep the others of this one waiting."""
        log.info("reader.set_apart", stream=self.stream, at=reader.position, subscriptions=len(behind))
        apart = None
        for share in behind:
            subscription = share.subscription
            if subscription.joining is not None:
                self._stop_joining(subscription)
            if share is not subscription.arriving:
                continue
            apart = apart or self._new(reader.position)
            own = _Share(subscription, apart, max(share.after, reader.position))
            apart.add(own)
            reader.remove(share)
            subscription.arrives_from(own)
        if apart is not None:
            apart.open_in_background()

    def _new(self, after: int) -> _Reader:
        reader = _Reader(self, self._connection, after)
        self.all.append(reader)
        return reader

    def _target(self, reader: _Reader) -> _Reader | None:
        """The reader that this one's subscriptions may join: ahead, near, and not being left itself."""
        if any(share is share.subscription.joining for share in reader.shares):
            return None
        place = self.all.index(reader)
        targets = [
            other
            for at, other in enumerate(self.all)
            if other is not reader
            and 0 <= other.position - reader.position <= _NEAR
            and (other.position > reader.position or at < place)
            and not any(share.until < _END for share in other.shares)
        ]
        return max(targets, key=lambda each: each.position, default=None)

    def _stop_joining(self, subscription: SharedSubscription) -> None:
        """Go on with the present reader alone: it has not come to where the reader ahead began to keep messages."""
        joining, subscription.joining = subscription.joining, None
        assert joining is not None
        assert subscription.arriving is not None
        joining.reader.remove(joining)
        subscription.size -= sum(len(stored.payload) for stored in joining.arrived)
        subscription.arriving.until = _END

    def _end(self, reader: _Reader) -> None:
        """Close a reader that has no share left, in the background."""
        self._forget(reader)
        ending = asyncio.create_task(reader.close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def _forget(self, reader: _Reader) -> None:
        if reader in self.all:
            self.all.remove(reader)
        of, key = _OF.get(self._connection, {}), (self.stream, self.filters)
        if not self.all and of.get(key) is self:
            del of[key]


_OF: WeakKeyDictionary[Connection, dict[tuple[str, tuple[str, ...]], _Readers]] = WeakKeyDictionary()


def _readers(connection: Connection, stream: str, filters: tuple[str, ...]) -> _Readers:
    of = _OF.setdefault(connection, {})
    return of.setdefault((stream, filters), _Readers(connection, stream, filters))


def _wants(filters: Sequence[bytes], subject: bytes) -> bool:
    """True when a subject, or its first two tokens with a dot behind them, matches one of the filters."""
    return not filters or any(_matches(one, subject) for one in filters)


def _matches(pattern: bytes, subject: bytes) -> bool:
    if _BY_TWO_TOKENS.fullmatch(pattern):
        return subject.startswith(pattern[:-1])
    wanted, found = pattern.split(b"."), subject.split(b".")
    if wanted[-1] == b">":
        wanted.pop()
        if len(found) <= len(wanted):
            return False
    elif len(found) != len(wanted):
        return False
    return all(one in (b"*", token) for one, token in zip(wanted, found, strict=False))
