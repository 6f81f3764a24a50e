"""Polymarket -> RAW against the sandbox: every row and log of the followed wallets once, whatever happens on the way.

The venue's clock runs several times as fast as ours, so that a minute of trading fits into a few seconds.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from msgspec import Raw

from domain import influencer_account
from domain.events import RawReceived
from domain.influencer_account import Account
from domain.signals import REMOVED
from gateways.embedded import Addresses
from gateways.polymarket.activity import numbered
from gateways.polymarket.log_parsing import EXCHANGES, FILLED, parse_log
from gateways.sandbox.polymarket import INFLUENCERS, MARKETS, FlowSource, PolymarketSandbox, RecordingSource
from gateways.sandbox.polymarket.chain import Filter
from handlers.ingest.polymarket import metrics as metrics
from handlers.live.configuration import LiveConfiguration
from handlers.normalize import Normalize
from streams.connection import Connection
from streams.processing.processor import LaneWorker
from streams.reader import read_all
from streams.subjects import Lane
from tests.handlers.ingest.polymarket.follower import hurried
from tests.handlers.ingest.polymarket.following import (
    CODEC,
    SWIFT,
    Following,
    configure,
    dead_letters,
    following,
    influencer,
    recorded,
)
from tests.streams.deadlines import eventually, settled

SPEED = 8
WALLETS = [who.address for who in INFLUENCERS]


@asynccontextmanager
async def running_venue(seconds: float, seed: int = 7) -> AsyncIterator[PolymarketSandbox]:
    """A venue that trades for so many of its own seconds."""
    origin = time.time_ns()
    source = FlowSource(seed, origin_ns=origin, horizon_s=seconds, resolves_s=seconds / 2)
    async with PolymarketSandbox(source, clock=hurried(origin, SPEED)) as sandbox:
        yield sandbox


async def follow_all(log: Connection) -> None:
    """Follow two traders by wallet, two by the address that signs for it."""
    addresses = [who.signer if number % 2 else who.address for number, who in enumerate(INFLUENCERS)]
    configured = zip(INFLUENCERS, addresses, strict=True)
    await configure(log, *(influencer(trader.id, address) for trader, address in configured))


async def order(sandbox: PolymarketSandbox, **faults: object) -> None:
    async with aiohttp.ClientSession() as http, http.post(f"{sandbox.url}/sandbox/faults", json=faults) as response:
        assert response.status == 200, await response.text()


def rows_of(sandbox: PolymarketSandbox) -> Counter[str]:
    """Every activity row of the followed wallets that the Data API shows."""
    return Counter(canonical(row.activity_v2()) for wallet in WALLETS for row in sandbox.venue.feed.of(wallet))


def logs_of(sandbox: PolymarketSandbox) -> Counter[str]:
    """Every fill of the followed wallets that the chain has since four minutes before the origin."""
    topics = ["0x" + "0" * 24 + wallet[2:] for wallet in WALLETS]
    wanted = Filter({"address": list(EXCHANGES), "topics": [FILLED, None, topics]})
    chain = sandbox.venue.chain
    return Counter(canonical(each.wire()) for each in chain.logs(chain.first - 120, chain.head, wanted))


def waiting(running: Following) -> bool:
    return any(wallet.fills.waiting for wallet in running.ingest._active.values())


def canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def stored(events: list[RawReceived], channel: str) -> Counter[str]:
    return Counter(canonical(json.loads(bytes(e.payload))) for e in events if e.channel == channel)


def check(sandbox: PolymarketSandbox, events: list[RawReceived]) -> None:
    """Once each, oldest first, the snapshot before the trades, markets before rows that name no asset."""
    assert stored(events, "activity") == rows_of(sandbox)
    assert len({event.raw_id for event in events}) == len(events)
    fills = confirmed_fills(events)
    for key, count in Counter(fill_of(text.encode()) for text in logs_of(sandbox)).items():
        assert fills[key] == count, "a log that is mined again in another block is the same fill"
    for wallet in WALLETS:
        mine = [event for event in events if event.address == wallet and event.channel != "profile"]
        times = [json.loads(bytes(e.payload))["timestamp"] for e in mine if e.channel == "activity"]
        assert times == sorted(times), wallet
        assert mine[0].channel == "positions"
        described: set[str] = set()
        for event in mine:
            row = json.loads(bytes(event.payload))
            if event.channel == "market":
                described.add(row["conditionId"])
            elif event.channel == "activity" and row["condition_id"] and not row["token_id"]:
                assert row["condition_id"] in described


def fill_of(payload: bytes) -> tuple[object, ...]:
    """What a log is, in whichever block it was mined; fills of one order are a log each."""
    fill = parse_log(payload)
    return fill.wallet, fill.transaction, fill.asset, fill.side, fill.share_micros, fill.notional_micros


def confirmed_fills(events: list[RawReceived]) -> Counter[tuple[object, ...]]:
    """How often each fill on chain is stored, less its removals; one of a log that is not stored takes nothing back."""
    fills: Counter[tuple[object, ...]] = Counter()
    logs = {event.raw_id: event for event in events if event.channel == "chain"}
    for raw_id, event in logs.items():
        if not raw_id.endswith(REMOVED):
            fills[fill_of(bytes(event.payload))] += 0 if f"{raw_id}{REMOVED}" in logs else 1
    return fills


def missing_fills(sandbox: PolymarketSandbox, events: list[RawReceived]) -> Counter[tuple[object, ...]]:
    return Counter(fill_of(text.encode()) for text in logs_of(sandbox)) - confirmed_fills(events)


async def complete(sandbox: PolymarketSandbox, log: Connection, within: float = 20.0) -> list[RawReceived]:
    """RAW once the venue has made all its trades and all of them have arrived."""
    await asyncio.wait_for(sandbox.done.wait(), within)

    async def enough() -> list[RawReceived]:
        return await recorded(log)

    def all_there(events: list[RawReceived]) -> bool:
        return not rows_of(sandbox) - stored(events, "activity") and not missing_fills(sandbox, events)

    try:
        return await settled(enough, all_there, within, every=0.1)
    except AssertionError:
        events = await recorded(log)
        missing = {
            "rows": sorted((rows_of(sandbox) - stored(events, "activity")).elements()),
            "logs": sorted(map(str, missing_fills(sandbox, events).elements())),
        }
        pytest.fail(f"missing after {within} s: {json.dumps(missing)[:3_000]}")


async def test_every_row_and_log_is_stored_once_through_many_faults(log: Connection) -> None:
    before, unmatched = metrics.RECONNECTS._value.get(), metrics.UNMATCHED._value.get()
    moved = metrics.LOGS.labels("moved")._value.get()
    await follow_all(log)
    async with running_venue(48) as sandbox:
        clock = hurried(sandbox.venue.origin_ns, SPEED)
        async with following(log, sandbox.url, settings=SWIFT, clock=clock) as running:
            await running.until(lambda found: len({e.address for e in found if e.channel == "positions"}) == 4)
            await running.until(lambda found: len(found) > 5, "chain")
            await order(sandbox, reorg=3)
            await eventually(lambda: metrics.LOGS.labels("moved")._value.get() > moved, what="logs mined again")
            await order(sandbox, duplicate=True, http_429=6, retry_after_s=0, route="/data")
            await asyncio.sleep(0.6)
            await order(sandbox, drop_connections=True, refuse_connections_s=0.4, rpc_errors=3)
            await asyncio.sleep(0.6)
            await order(sandbox, reorg=2)
            await asyncio.sleep(0.4)
            await order(sandbox, http_5xx=8, malformed=3, route="/data")
            await asyncio.sleep(0.6)
            await order(sandbox, close_connections=1006, only="polygon", data_lag_s=4)
        assert metrics.RECONNECTS._value.get() - before >= 1
        await asyncio.sleep(0.8)
        async with following(log, sandbox.url, settings=SWIFT, clock=clock) as running:
            await order(sandbox, reorg=1, data_lag_s=0, duplicate=False)
            await asyncio.sleep(0.5)
            await order(sandbox, http_5xx=4, route="/gamma")
            events = await complete(sandbox, log)
            await eventually(lambda: not waiting(running), what="every log to find its row")
            await asyncio.sleep(0.3)
            events = await running.raw()
    check(sandbox, events)
    assert metrics.UNMATCHED._value.get() == unmatched
    assert all(":poll:" in dead.dead_id for dead in await dead_letters(log)), "half a body, once a wallet"
    kinds = Counter(json.loads(bytes(e.payload))["type"] for e in events if e.channel == "activity")
    assert {"TRADE", "SPLIT", "MERGE", "REDEEM", "DEPOSIT"} <= kinds.keys()
    assert max(int(e.raw_id.rpartition(":")[2]) for e in events if e.channel == "activity") >= 1, "equal fills occur"


async def test_positions_folded_from_both_sources_are_those_of_the_venue(log: Connection) -> None:
    await follow_all(log)
    async with running_venue(36, seed=3) as sandbox, normalizing(log):
        clock = hurried(sandbox.venue.origin_ns, SPEED)
        async with following(log, sandbox.url, settings=replace(SWIFT, active_interval=1.0), clock=clock):
            await complete(sandbox, log)
            held = sandbox.venue.feed.ledger.accounts
            tokens = [(one, outcome) for one in MARKETS for outcome in (0, 1)]
            venue = {(w, one.tokens[o]): held[w].shares(one, o) for w in WALLETS for one, o in tokens}
            await settled(lambda: folded(log), lambda found: {key: found.get(key, 0) for key in venue} == venue, 10)
    assert await dead_letters(log) == []


async def folded(log: Connection) -> dict[tuple[str, str], int]:
    """Shares by wallet and token, as the signals add up."""
    found: dict[str, Account] = {}
    async for batch in read_all(log, "SIGNALS"):
        events = (event for one in batch for event in CODEC.decode("SIGNALS", one.sequence, one.subject, one.payload))
        for event in (each.data for each in events):
            if hasattr(event, "address"):
                influencer_account.evolve(found.setdefault(event.address, Account()), event)
    return {(wallet, token): one.share_micros for wallet, of in found.items() for token, one in of.holdings.items()}


@asynccontextmanager
async def normalizing(log: Connection) -> AsyncIterator[None]:
    stop = asyncio.Event()
    normalize = Normalize(LiveConfiguration(log, CODEC))
    task = asyncio.create_task(LaneWorker(log, CODEC, normalize, Lane(0, 63), time.time_ns).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 15)


async def test_killed_at_any_time_it_loses_and_duplicates_nothing(log: Connection, running: Addresses) -> None:
    await follow_all(log)
    async with running_venue(40) as sandbox:
        origin = sandbox.venue.origin_ns
        for seconds in (0.7, 1.1, 0.4):
            follower = await follower_process(running.nats_url, sandbox.url, origin)
            await asyncio.sleep(seconds)
            follower.send_signal(signal.SIGKILL)
            await follower.wait()
        async with following(log, sandbox.url, settings=SWIFT, clock=hurried(origin, SPEED)):
            await complete(sandbox, log)
            await asyncio.sleep(0.3)
        check(sandbox, await recorded(log))
    assert await dead_letters(log) == []


async def follower_process(nats_url: str, url: str, origin: int) -> asyncio.subprocess.Process:
    arguments = ["-m", "tests.handlers.ingest.polymarket.follower", nats_url, url, str(origin), str(SPEED)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[4]
    )
    assert process.stdout is not None
    while b"ready" not in await asyncio.wait_for(process.stdout.readline(), 10):
        assert process.returncode is None
    return process


RECORDINGS = os.environ.get("VIBE_TEST_RECORDINGS")


@pytest.mark.skipif(not RECORDINGS, reason="VIBE_TEST_RECORDINGS names no folder of recorded payloads")
@pytest.mark.parametrize("version", [2, 1])
async def test_two_recorded_pages_that_overlap_hold_each_fill_once(log: Connection, version: int) -> None:
    folder = Path(RECORDINGS or "") / "polymarket"
    pages = [json.loads((folder / f"trades_page{number}.json").read_bytes()) for number in (0, 1)]
    newest = max(row["timestamp"] for page in pages for row in page)
    origin = time.time_ns()

    def clock() -> int:
        return int(newest) * 1_000_000_000 + time.time_ns() - origin

    source = RecordingSource(folder, origin_ns=clock(), held_back=300, drift=40)
    await configure(log, influencer("bees", source.wallet))
    async with PolymarketSandbox(source, clock=clock) as sandbox:
        if version == 1:
            await order(sandbox, http_5xx=1_000_000, status_5xx=404, route="/data/v2")
        settings = replace(SWIFT, start_back=24 * 3_600, active_interval=0.1)
        async with following(log, sandbox.url, settings=settings, clock=clock) as running:
            found = await running.until(lambda found: len(found) >= 1_974, "activity", within=15)
            await asyncio.sleep(0.3)
            assert await running.raw("activity") == found
        without_v2 = sandbox.venue.faults.state()["http_5xx"]
        assert without_v2 == 0 if version == 2 else 0 < int(str(without_v2)) < 1_000_000
    union = {canonical(row): row for page in pages for row in page}
    # 2 x 1,000 rows, of which the 26 that end the first page begin the second: rows had come in between.
    assert (len(union), len(found)) == (1_974, 1_974)
    assert all(event.raw_id.endswith(":0") for event in found)
    keys = {key for key, _ in numbered(Raw(json.dumps(row).encode()) for row in union.values())}
    assert {event.raw_id for event in found} == keys
