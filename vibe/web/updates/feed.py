"""Following the log for all clients of live updates: each message is decoded once, and only what a client wants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import structlog

from handlers.live.event_codec import codec, readable
from handlers.live.stream_follower import StreamFollower
from streams.envelope import Recorded
from streams.errors import LogError
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
"""How often rows that wait for their read models are named in the log: what is shown and what is asked for agree, so
they wait for as long as it takes."""
_AGAIN_SECONDS = 1.0


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
        follower = await self._follower(topic.stream)
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
            if wanted_until:
                await self.held(topic, wanted_until[-1].sequence)
            self._put_history(wanted, wanted_until, now)
            client.waiting.set()
            if batch[-1].sequence >= now:
                break
        newer, wanted.history = wanted.history, None
        wanted.sent = max(wanted.sent, now)
        wanted.put(newer, wanted.sent)
        client.waiting.set()

    async def _follower(self, stream: Stream) -> _StreamFeed:
        """The one that follows a stream; raises LogError, and forgets it, when it cannot begin."""
        follower = self._followers.get(stream.name)
        if follower is None:
            follower = self._followers[stream.name] = _StreamFeed(self._site, self, stream)
        try:
            await follower.started
        except BaseException:
            if self._followers.get(stream.name) is follower:
                del self._followers[stream.name]
            raise
        return follower

    async def follow_again(self, follower: _StreamFeed) -> None:
        """A follower has ended: its clients go on behind what they were sent, with another one."""
        if self._followers.get(follower.stream.name) is not follower:
            return
        del self._followers[follower.stream.name]
        await follower.close()
        for client in list(self.clients):
            for (name, key), wanted in list(client.wanted.items()):
                while wanted.topic.stream is follower.stream and client in self.clients:
                    try:
                        await self.subscribe(client, TOPICS[name], key, wanted.sent)
                        break
                    except LogError as error:
                        log.warning("updates.not_followed", stream=follower.stream.name, why=str(error))
                        await asyncio.sleep(_AGAIN_SECONDS)

    async def held(self, topic: Topic, sequence: int) -> None:
        """Return once the read models of a topic hold its stream up to a sequence: a page that gets a row may read it
        from them at once."""
        while not await self._site.freshness.reached(topic.read_models, topic.stream.name, sequence, _HELD_SECONDS):
            log.warning("updates.wait_for_read_models", topic=topic.name, sequence=sequence)

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
        self.stream = stream
        self.delivered = 0
        self._watching: asyncio.Task[None] | None = None
        subscription = SharedSubscription(site.connection, stream.name, [], description="live updates of the pages")
        self._following = StreamFollower(subscription, self._appended)
        self.started: asyncio.Future[None] = asyncio.ensure_future(self._start())

    async def close(self) -> None:
        await asyncio.gather(self.started, return_exceptions=True)
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._following.close()

    async def _start(self) -> None:
        found = await info(self._site.connection, self.stream.name)
        self.delivered = int(found["state"]["last_seq"]) if found else 0
        await self._following.start(self.delivered)
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            await self._following.watch(asyncio.Event())
        except Exception as error:
            log.warning("updates.follower_ended", stream=self.stream.name, why=str(error))
            await self._feed.follow_again(self)

    async def _appended(self, batch: list[Stored]) -> None:
        made: dict[str, list[Made]] = {}
        for name in {one.topic.name for _, one in self._wanted()}:
            rows = made[name] = self._feed.rows(TOPICS[name], batch)
            if rows:
                await self._feed.held(TOPICS[name], rows[-1].sequence)
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
            if one.topic.stream.name == self.stream.name
        ]
