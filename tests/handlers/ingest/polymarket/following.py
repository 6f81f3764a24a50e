"""An ingest that follows Polymarket wallets with the short intervals of a test, and what it has stored."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

from prometheus_client import Counter

from domain.events import InfluencerConfigured, OnClose, RawReceived, Status, Venue
from gateways.http_client import HttpClient
from gateways.polymarket.data_api import DataApi
from gateways.polymarket.gamma import Gamma
from gateways.polymarket.polygon_rpc import PolygonRpc
from gateways.rate_limit import RateLimiter
from handlers.ingest.polymarket.ingest import PolymarketIngest
from handlers.ingest.polymarket.wallet_state import PollSettings
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.dead_letters import DeadLettered, decode
from streams.reader import read_all
from tests.streams.deadlines import settled

CODEC = codec()
QUICK = PollSettings(
    active_interval=0.1,
    idle_interval=0.2,
    row_after=0.1,
    row_again=0.1,
    row_within=1.0,
    failed_again=0.1,
    hold=1.0,
    reorg_hold=0.3,
    snapshot_again=0.3,
    resolve_again=0.2,
    no_wallet_again=0.3,
    reconcile_every=0.5,
    status_every=0.1,
)

SWIFT = replace(QUICK, start_back=7_200, hold=3.0, row_within=10.0, stalled_after=1_000.0)
"""For a venue whose clock runs several times as fast as the machine's and that has a history."""


def influencer(
    name: str, *addresses: str, status: Status = Status.ACTIVE, on_close: OnClose = OnClose.FOLLOW_EXITS
) -> InfluencerConfigured:
    return InfluencerConfigured(
        id=name,
        venue=Venue.POLYMARKET,
        addresses=addresses,
        label=name,
        status=status,
        actor="tests",
        on_close=on_close,
    )


async def configure(log: Connection, *influencers: InfluencerConfigured) -> None:
    for each in influencers:
        payload = CODEC.encode(each, id=f"{each.id}.{time.time_ns()}", source="tests", time_ns=time.time_ns())
        await append(log, [Record(subjects.config("influencer", each.id), payload)])


class Following:
    """A running ingest, and RAW behind it."""

    def __init__(self, log: Connection, ingest: PolymarketIngest, task: "asyncio.Task[None]") -> None:
        self.log = log
        self.ingest = ingest
        self.task = task

    async def raw(self, channel: str | None = None) -> list[RawReceived]:
        """What is in RAW, in order."""
        assert not self.task.done(), f"ingest has ended: {self.task}"
        return await recorded(self.log, channel)

    async def until(
        self, accept: Callable[[list[RawReceived]], bool], channel: str | None = None, within: float = 10.0
    ) -> list[RawReceived]:
        """What is in RAW, once `accept` returns True for it."""
        return await settled(lambda: self.raw(channel), accept, within)

    async def dead_letters(self, count: int = 1, within: float = 10.0) -> list[DeadLettered]:
        return await settled(lambda: dead_letters(self.log), lambda found: len(found) >= count, within)


async def recorded(log: Connection, channel: str | None = None) -> list[RawReceived]:
    """RAW in order; of one channel only, when one is named."""
    events = [
        event
        async for batch in read_all(log, "RAW")
        for each in batch
        for event in CODEC.decode("RAW", each.sequence, each.subject, each.payload)
    ]
    assert all(event.id == event.data.raw_id for event in events)
    return [event.data for event in events if channel in (None, event.data.channel)]


async def dead_letters(log: Connection) -> list[DeadLettered]:
    return [decode(each.payload) async for batch in read_all(log, "DEAD") for each in batch]


@asynccontextmanager
async def following(
    log: Connection,
    url: str,
    *,
    settings: PollSettings = QUICK,
    clock: Callable[[], int] = time.time_ns,
    client_attempts: int = 2,
) -> AsyncIterator[Following]:
    """Follow the configured influencers at the venue under `url`; everything is stored when it ends."""
    configuration = LiveConfiguration(log, CODEC)
    await configuration.start()
    stop = asyncio.Event()
    async with HttpClient(RateLimiter(500, 500), attempts=client_attempts, first_wait_seconds=0.05) as client:
        chain = PolygonRpc(client, f"{url}/polygon")
        gamma, data_api = Gamma(client, f"{url}/gamma"), DataApi(client, f"{url}/data")
        ws_url = f"{url.replace('http', 'ws', 1)}/polygon"
        ingest = PolymarketIngest(log, configuration, data_api, gamma, chain, ws_url, clock, settings=settings)
        task = asyncio.create_task(ingest.run(stop))
        try:
            await asyncio.wait_for(ingest.ready.wait(), 10)
            yield Following(log, ingest, task)
        finally:
            stop.set()
            _, late = await asyncio.wait([task], timeout=10)
            task.cancel()
            await configuration.close()
            assert not late, "ingest did not stop"
    task.result()


def ids(events: Iterable[RawReceived]) -> list[str]:
    return [event.raw_id for event in events]


async def quiet(look: Callable[[], Awaitable[object]], seconds: float = 0.5) -> None:
    """Make sure that what `look` sees does not change for so long."""
    before = await look()
    await asyncio.sleep(seconds)
    assert await look() == before


def transactions(events: list[RawReceived]) -> list[int]:
    """The numbers of the rows behind activity events, in the order of RAW."""
    return [int(event.raw_id.split(":")[3], 16) for event in events if event.channel == "activity"]


def count(counter: Counter) -> float:
    return float(counter._value.get())
