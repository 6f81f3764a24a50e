"""Following the log for all clients of live updates: each message is decoded once, and only what a client wants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import structlog

from handlers.live.event_codec import codec, readable
from handlers.live.stream_follower import StreamFollower
from streams.envelope import Recorded
from streams.reader import Stored, read_all
from streams.shared_reader import SharedSubscription
from streams.topology import Stream, info
from vibe.app import pipeline_lag
from vibe.web.site import Site
from vibe.web.updates.client import Client, Made, Wanted, frame
from vibe.web.updates.topics import TOPICS, Topic

log = structlog.get_logger()

LONGEST_HISTORY = 20_000
"""Messages that are read for a client that was away; one that missed more reads the read models again."""
_LAG_SECONDS = 5.0
_HELD_SECONDS = 30.0
"""How long rows wait for their read model; one that has stopped does not stop the updates."""


class Feed:
    """The clients of one process, and the streams that are followed for them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._codec = codec()
        self.clients: set[Client] = set()
        self._followers: dict[str, _StreamFeed] = {}
        self._lags: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop following."""
        if self._lags is not None:
            self._lags.cancel()
            await asyncio.gather(self._lags, return_exceptions=True)
        for follower in self._followers.values():
            await follower.close()

    async def subscribe(self, client: Client, topic: Topic, key: str, after: int | None) -> None:
        """Send rows of a topic from now on, or from behind the sequence `after`, without a gap and without repeating
        one."""
        follower = self._followers.get(topic.stream.name)
        if follower is None:
            follower = self._followers[topic.stream.name] = _StreamFeed(self._site, self, topic.stream)
        await follower.started
        wanted = client.wanted[topic.name, key] = Wanted(topic, key)
        now = follower.delivered
        if after is None or after >= now:
            wanted.sent = max(now, after or 0)
            client.send(frame(op="subscribed", topic=topic.name, key=key, seq=wanted.sent))
            return
        client.send(frame(op="subscribed", topic=topic.name, key=key, seq=after))
        wanted.sent = after
        if now - after > LONGEST_HISTORY:
            wanted.miss(now)
            client.waiting.set()
            return
        wanted.history = []
        async for batch in read_all(self._site.connection, topic.stream.name, list(topic.patterns), after=after):
            wanted_until = [stored for stored in batch if stored.sequence <= now]
            self._put_history(wanted, wanted_until, now)
            client.waiting.set()
            if batch[-1].sequence >= now:
                break
        newer, wanted.history = wanted.history, None
        wanted.sent = max(wanted.sent, now)
        wanted.put(newer, wanted.sent)
        client.waiting.set()

    def _put_history(self, wanted: Wanted, batch: list[Stored], upto: int) -> None:
        newer, wanted.history = wanted.history, None
        wanted.put(self.rows(wanted.topic, batch), wanted.sent)
        if batch:
            wanted.sent = max(wanted.sent, batch[-1].sequence)
        wanted.history = newer

    def rows(self, topic: Topic, batch: Iterable[Stored]) -> list[Made]:
        """The rows of a topic in these messages."""
        return [
            _made(topic, event)
            for stored in batch
            for event in readable(self._codec, topic.stream.name, stored)
            if event.type in topic.types
        ]

    def watch_lag(self, client: Client) -> None:
        """Send the lag of every consumer every few seconds."""
        client.lag = True
        if self._lags is None:
            self._lags = asyncio.create_task(self._send_lags())

    async def _send_lags(self) -> None:
        while True:
            watching = [client for client in self.clients if client.lag]
            if watching:
                try:
                    lags = await pipeline_lag.lags(self._site.connection)
                except Exception as error:
                    log.warning("updates.no_lag", why=str(error))
                else:
                    rows = [{"stream": one.stream, "consumer": one.consumer, "waiting": one.waiting} for one in lags]
                    sent = frame(topic="lag", key="", seq=None, rows=rows)
                    for client in watching:
                        client.send(sent)
            await asyncio.sleep(_LAG_SECONDS)


def _made(topic: Topic, event: Recorded) -> Made:
    row = {"seq": event.sequence, "index": event.index, **topic.row(event.data)}
    identity = None if topic.identity is None else topic.identity(event.data)
    return Made(event.sequence, topic.key(event.data), identity, msgspec.Raw(msgspec.json.encode(row)))


class _StreamFeed:
    """One stream, followed from now on. `delivered` is the sequence up to which all rows were given to the clients."""

    def __init__(self, site: Site, feed: Feed, stream: Stream) -> None:
        self._site = site
        self._feed = feed
        self._stream = stream
        self.delivered = 0
        subscription = SharedSubscription(site.connection, stream.name, [], description="live updates of the pages")
        self._following = StreamFollower(subscription, self._appended)
        self.started: asyncio.Future[None] = asyncio.ensure_future(self._start())

    async def close(self) -> None:
        await asyncio.gather(self.started, return_exceptions=True)
        await self._following.close()

    async def _start(self) -> None:
        found = await info(self._site.connection, self._stream.name)
        self.delivered = int(found["state"]["last_seq"]) if found else 0
        await self._following.start(self.delivered)

    async def _appended(self, batch: list[Stored]) -> None:
        made: dict[str, list[Made]] = {}
        for name in {one.topic.name for _, one in self._wanted()}:
            rows = made[name] = self._feed.rows(TOPICS[name], batch)
            if rows:
                # A page that gets a row may read it from the read models at once.
                held, last = TOPICS[name].read_models, rows[-1].sequence
                await self._site.freshness.reached(held, self._stream.name, last, _HELD_SECONDS)
        # Nothing is awaited from here on: a subscription that was added meanwhile begins behind what was delivered.
        for client, one in self._wanted():
            name = one.topic.name
            if name not in made:
                made[name] = self._feed.rows(one.topic, batch)
            if one.put(made[name], batch[-1].sequence):
                client.waiting.set()
        self.delivered = batch[-1].sequence

    def _wanted(self) -> list[tuple[Client, Wanted]]:
        return [
            (client, one)
            for client in self._feed.clients
            for one in client.wanted.values()
            if one.topic.stream.name == self._stream.name
        ]
