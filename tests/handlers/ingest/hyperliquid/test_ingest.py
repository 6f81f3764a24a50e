"""Hyperliquid -> RAW against the sandbox: every followed trade once, in order, whatever the venue sends and drops."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from msgspec import structs
from prometheus_client import Counter

from domain.events import RawReceived, SignalRecorded, TradeSide
from gateways.hyperliquid.fill_parsing import FILLS_CHANNEL
from gateways.hyperliquid.info_client import Coins, InfoClient
from gateways.hyperliquid.parsing import TradeHead, raw_id
from gateways.hyperliquid.raw_events import TRADES_CHANNEL
from gateways.rate_limit import RateLimiter
from gateways.sandbox.hyperliquid import INFLUENCERS, FlowSource, Sandbox, serve
from handlers import metrics
from handlers.ingest.hyperliquid.account_snapshots import SnapshotSettings
from handlers.ingest.hyperliquid.ingest import HyperliquidIngest, IngestSettings
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from handlers.normalize import Normalize
from handlers.services.config_import import import_lines
from streams.connection import Connection
from streams.dead_letters import DeadLettered, decode
from streams.envelope import Recorded
from streams.processing.processor import LaneWorker
from streams.reader import read_all
from streams.subjects import Lane
from tests.gateways.test_sandbox_hyperliquid_ws import ORIGIN_NS, SEED, Clock, until, wire_trades
from tests.streams.deadlines import eventually, settled

CODEC = codec()
FOLLOWED = {influencer.address: influencer.id for influencer in INFLUENCERS}
WHALE = INFLUENCERS[0].address
STRANGER = "0x" + "9f" * 20
LINES = [
    json.dumps({"kind": "influencer", "id": who.id, "venue": "hyperliquid", "addresses": [who.address]})
    for who in INFLUENCERS
]


YEAR_MS = 365 * 86_400_000

SETTINGS = IngestSettings(snapshots=SnapshotSettings(settle=0.02))
"""The clock of these venues moves only on `advance`: a report would always wait in vain for the feed to pass it."""


class Running:
    """A venue whose clock moves only on `advance`, and an ingest that listens to it."""

    def __init__(self, sandbox: Sandbox, clock: Clock, log: Connection, task: "asyncio.Task[None]") -> None:
        self.sandbox = sandbox
        self.clock = clock
        self.log = log
        self.task = task

    async def order(self, **faults: object) -> None:
        url = f"{self.sandbox.url}/sandbox/faults"
        async with aiohttp.ClientSession() as http, http.post(url, json=faults) as response:
            assert response.status == 200

    async def inject(self, *frames: str) -> None:
        await self.order(inject_frames=list(frames))

    async def raw(self) -> list[Recorded]:
        """Every trade and fill in RAW, in order."""
        return [e for e in await stored(self.log, "RAW") if e.data.channel in (TRADES_CHANNEL, FILLS_CHANNEL)]

    async def trades(self, count: int) -> list[str]:
        """The ids of the trades in RAW, once there are so many."""

        async def ids() -> list[str]:
            assert not self.task.done(), "ingest has ended"
            return [event.id for event in await self.raw()]

        return await settled(ids, lambda found: len(found) >= count, 20, every=0.05)


async def stored(log: Connection, stream: str) -> list[Recorded]:
    return [
        event
        async for batch in read_all(log, stream)
        for each in batch
        if b"checkpoint.reached" not in each.payload
        for event in CODEC.decode(stream, each.sequence, each.subject, each.payload)
    ]


async def dead_letters(log: Connection) -> list[DeadLettered]:
    return [decode(each.payload) async for batch in read_all(log, "DEAD") for each in batch]


@asynccontextmanager
async def ingesting(
    log: Connection,
    seconds: float = 0,
    settings: IngestSettings = SETTINGS,
    complete: Callable[[list[Recorded]], bool] | None = None,
) -> AsyncIterator[Running]:
    """Ingest, connected to a sandbox that has run for so many seconds, with a snapshot of every account."""
    await import_lines(log, LINES, actor="tests", now=ORIGIN_NS)
    clock, stop = Clock(seconds), asyncio.Event()
    sandbox = await serve(FlowSource(SEED, origin_ns=ORIGIN_NS), clock=clock)
    await asyncio.sleep(0.1 if seconds else 0)  # trades that are due are made at once
    configuration = LiveConfiguration(log, CODEC)
    await configuration.start()
    async with InfoClient(sandbox.url, limiter=RateLimiter(1_000, 1_000)) as info:  # it refills soon after a 429
        ingest = HyperliquidIngest(log, configuration, info, sandbox.ws_url, clock, settings)
        task = asyncio.create_task(ingest.run(stop))
        running = Running(sandbox, clock, log, task)
        try:
            await asyncio.wait_for(ingest.ready.wait(), 10)
            await settled(lambda: stored(log, "RAW"), complete or has_snapshots, 10)
            yield running
        finally:
            stop.set()
            _, late = await asyncio.wait([task], timeout=15)
            task.cancel()
            await configuration.close()
            await sandbox.close()
            assert not late, "ingest did not stop"
    task.result()


def has_snapshots(found: list[Recorded]) -> bool:
    """True when there is a report of every followed account on both dexes."""
    reports = {(e.data.channel, e.data.address) for e in found}
    return all((f"clearinghouseState{dex}", address) in reports for dex in ("", "@xyz") for address in FOLLOWED)


def has_main_snapshots(found: list[Recorded]) -> bool:
    """True when there is a report of every followed account on the main dex."""
    reports = {(e.data.channel, e.data.address) for e in found}
    return all(("clearinghouseState", address) in reports for address in FOLLOWED)


def market_data(seconds: float) -> list[str]:
    """The ids of every side of a followed address, in the order in which the venue made the trades."""
    return [
        raw_id(TradeHead(each["coin"], each["side"], each["time"], each["tid"], tuple(each["users"])), user, side)
        for each in wire_trades(until(seconds))
        for side, user in zip((TradeSide.BUY, TradeSide.SELL), each["users"], strict=True)
        if user in FOLLOWED
    ]


def trade(number: int = 1, **fields: Any) -> dict[str, Any]:
    """A trade that the whale makes with a stranger, outside of the venue's flow."""
    users = [WHALE, STRANGER]
    return {
        "coin": "BTC", "side": "B", "px": "100.0", "sz": "1.0", "time": ORIGIN_NS // 1_000_000 + number,
        "hash": "0x1", "tid": number, "users": users,
    } | fields  # fmt: skip


def frame(*trades: object) -> str:
    return json.dumps({"channel": "trades", "data": trades})


async def test_every_followed_trade_is_recorded_as_the_venue_sent_it(log: Connection) -> None:
    async with ingesting(log) as running:
        running.clock.advance(20)
        assert await running.trades(len(market_data(20))) == market_data(20)
        wire = {(each["tid"], each["coin"]): each for each in wire_trades(until(20))}
        for event in await running.raw():
            raw: RawReceived = event.data
            sent = json.loads(bytes(raw.payload))
            assert sent == wire[sent["tid"], sent["coin"]]
            assert raw.influencer_id == FOLLOWED[raw.address]
            assert raw.raw_id == event.id == event.correlation
            assert raw.address in sent["users"]
    assert await dead_letters(log) == []


async def test_dropped_connections_lose_and_duplicate_nothing(log: Connection) -> None:
    made = metrics.CONNECTIONS
    async with ingesting(log) as running:
        await running.order(duplicate=True)
        for step in range(1, 4):
            running.clock.advance(2)
            before = value(made)
            await running.order(drop_connections=True, refuse_connections_s=0.1)
            running.clock.advance(2)
            await eventually(lambda before=before: value(made) > before, what="a new connection")  # type: ignore[misc]
            assert sorted(await running.trades(len(market_data(4 * step)))) == sorted(market_data(4 * step))
        found = await running.trades(len(market_data(12)))
    assert sorted(found) == sorted(market_data(12))
    for address in FOLLOWED:
        for coin in ("BTC", "ETH", "SOL"):
            of = [each for each in found if each.split(":")[1] == coin and address in each]
            assert of == [each for each in market_data(12) if each.split(":")[1] == coin and address in each]
    assert await dead_letters(log) == []


async def test_a_restart_continues_where_the_log_ends(log: Connection) -> None:
    async with ingesting(log) as running:
        running.clock.advance(5)
        await running.trades(len(market_data(5)))
    async with ingesting(log) as running:
        running.clock.advance(8)
        assert sorted(await running.trades(len(market_data(8)))) == sorted(market_data(8))


async def test_a_trade_that_is_dated_wrongly_hides_no_gap_after_a_restart(log: Connection) -> None:
    async with ingesting(log) as running:
        running.clock.advance(5)
        recorded = len(market_data(5))
        await running.trades(recorded)
        await running.inject(frame(trade(7, time=ORIGIN_NS // 1_000_000 + YEAR_MS)))
        await running.trades(recorded + 1)
    before = value(metrics.GAPS)
    async with ingesting(log, seconds=120):
        await eventually(lambda: value(metrics.GAPS) > before, what="a gap in the feed")


async def test_a_coin_that_is_listed_later_is_followed_too(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = structs.replace(SETTINGS, coins=0.1)
    listed, coins = asyncio.Event(), InfoClient.coins

    async def known(info: InfoClient) -> Coins:
        found = await coins(info)
        without = {name: coin for name, coin in found.listed.items() if name != "SOL"}
        return found if listed.is_set() else structs.replace(found, listed=without)

    monkeypatch.setattr(InfoClient, "coins", known)
    made = metrics.CONNECTIONS
    async with ingesting(log, settings=settings) as running:
        before = value(made)
        listed.set()
        await eventually(lambda: value(made) > before, what="a connection for the new coin")
        running.clock.advance(10)
        assert any(":SOL:" in one for one in market_data(10))
        assert sorted(await running.trades(len(market_data(10)))) == sorted(market_data(10))


async def test_a_dex_that_cannot_be_read_is_followed_once_it_can(
    log: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = structs.replace(SETTINGS, coins=0.1)
    answers, call = asyncio.Event(), InfoClient.call

    async def broken(info: InfoClient, body: dict[str, Any], *, attempts: int | None = None) -> bytes:
        if body.get("type") == "meta" and body["dex"] == "xyz" and not answers.is_set():
            return b"null"
        return await call(info, body, attempts=attempts)

    monkeypatch.setattr(InfoClient, "call", broken)
    # No account report of that dex is requested before its coins are known.
    async with ingesting(log, settings=settings, complete=has_main_snapshots) as running:
        assert metrics.UNREAD_DEXES._value.get() == 1
        made = value(metrics.CONNECTIONS)
        answers.set()
        await eventually(lambda: value(metrics.CONNECTIONS) > made, what="a connection for the coins of the dex")
        assert metrics.UNREAD_DEXES._value.get() == 0
        await settled(lambda: stored(log, "RAW"), has_snapshots, 10)
        running.clock.advance(10)
        assert any(":xyz:" in one for one in market_data(10))
        assert sorted(await running.trades(len(market_data(10)))) == sorted(market_data(10))


async def test_the_followed_addresses_change_while_it_runs(log: Connection) -> None:
    async with ingesting(log) as running:
        await running.inject(frame(trade(1)))
        await running.trades(1)
        paused = LINES[0].replace("}", ', "status": "paused"}')
        await import_lines(log, [paused], actor="tests", now=ORIGIN_NS + 1)
        await running.inject(frame(trade(2)))
        await running.trades(2)
        abandoned = paused.replace("paused", "closed").replace("}", ', "on_close": "abandon"}')
        await import_lines(log, [abandoned], actor="tests", now=ORIGIN_NS + 2)
        await settled(lambda: not_followed(running), bool, 10)


async def not_followed(running: Running) -> bool:
    """True when a trade of the whale leaves no trace, although a later one of another does."""
    number = time.monotonic_ns() % 1_000_000_000
    other = trade(number + 1, users=[INFLUENCERS[1].address, STRANGER])
    await running.inject(frame(trade(number)), frame(other))
    found = await settled(running.raw, lambda events: any(f":{number + 1}:" in event.id for event in events))
    return not any(f":{number}:" in event.id for event in found)


def value(counter: Counter) -> float:
    return float(counter._value.get())


def malformed() -> float:
    return float(metrics.FRAMES.labels("malformed")._value.get())


@asynccontextmanager
async def normalizing(log: Connection) -> AsyncIterator[None]:
    stop = asyncio.Event()
    worker = LaneWorker(log, CODEC, Normalize(LiveConfiguration(log, CODEC)), Lane(0, 63), time.time_ns)
    task = asyncio.create_task(worker.run(stop))
    try:
        await asyncio.wait_for(worker.loaded.wait(), 10)
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 15)


UNREADABLE: dict[str, Callable[[], str]] = {
    "not JSON": lambda: frame(trade())[:-20] + f'"{WHALE}"',
    "no JSON at all": lambda: f"hello {WHALE}",
    "another shape": lambda: json.dumps({"channel": "trades", "data": {"users": [WHALE]}}),
    "a number for the channel": lambda: json.dumps({"channel": 5, "data": [trade()]}),
    "a trade without users": lambda: frame({name: it for name, it in trade(hash=WHALE).items() if name != "users"}),
    "three users": lambda: frame(trade(users=[WHALE, STRANGER, STRANGER])),
    "a time before time": lambda: frame(trade(time=-5)),
    "no coin": lambda: frame(trade(coin="")),
    "upper case": lambda: frame(trade(tid="x", users=["0x" + WHALE[2:].upper(), STRANGER])),
    "5 MB": lambda: frame(trade())[:-2] + "x" * 5_000_000,
    "5 MB that base64 makes longer": lambda: f'{{"{WHALE}' + "\u0001\u00fc" * 1_700_000,
    "a price that is no number": lambda: frame(trade(px="abc")),
    "a negative size": lambda: frame(trade(sz="-1.0")),
    "a size of nothing": lambda: frame(trade(sz="0.0")),
    "a price as a number": lambda: frame(trade(px=100.0)),
    "an unknown side": lambda: frame(trade(side="C")),
    "a coin of 3,000 characters": lambda: frame(trade(coin="B" * 3_000)),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_an_unreadable_payload_that_names_a_followed_address_is_dead_lettered_once(
    log: Connection, what: str
) -> None:
    bad = UNREADABLE[what]()
    async with ingesting(log) as running, normalizing(log):
        await running.inject(bad, bad)
        await running.inject(frame(trade(7)), bad)

        async def signals() -> list[int]:
            assert not running.task.done(), "ingest has ended"
            return [e.data.event_time for e in await stored(log, "SIGNALS") if isinstance(e.data, SignalRecorded)]

        assert await settled(signals, bool) == [trade(7)["time"] * 1_000_000], "later frames are read"
        (dead,) = await settled(lambda: dead_letters(log), bool)
        assert dead.stage in ("ingest", "normalize")
        assert dead.error
        running.clock.advance(1)
        await running.trades(len(market_data(1)))
    assert len(await dead_letters(log)) == 1


HARMLESS: dict[str, str] = {
    "garbage": "{not json",
    "empty": "",
    "null": "null",
    "another shape": '{"channel":"trades","data":{}}',
    "nothing": '{"channel":"trades"}',
    "strangers": frame(trade(users=[STRANGER, STRANGER], px="abc")),
    "a stranger's broken trade": frame({"users": [STRANGER]}),
    "5 MB": '{"' + "x" * 5_000_000,
    "another channel": '{"channel":"pong"}',
    "a complaint": '{"channel":"error","data":"Already subscribed"}',
}


async def test_an_unreadable_payload_without_a_followed_address_is_only_counted(log: Connection) -> None:
    before = malformed()
    async with ingesting(log) as running:
        await running.inject(*HARMLESS.values())
        await running.inject(frame(trade(7)))
        await running.trades(1)
        assert malformed() - before == 7
    assert await dead_letters(log) == []


async def test_a_followed_address_in_mixed_case_is_recognised(log: Connection) -> None:
    mixed = "0x" + "".join(c.upper() if at % 2 else c for at, c in enumerate(WHALE[2:]))
    async with ingesting(log) as running, normalizing(log):
        await running.inject(frame(trade(3, users=[STRANGER, mixed], side="A")))
        (event_id,) = await running.trades(1)
        assert event_id.endswith(f":{WHALE}:A")
        signals = await settled(
            lambda: stored(log, "SIGNALS"), lambda events: any(isinstance(e.data, SignalRecorded) for e in events)
        )
    (signal,) = [event.data for event in signals if isinstance(event.data, SignalRecorded)]
    assert (signal.address, signal.delta_micros) == (WHALE, -1_000_000)
    assert await dead_letters(log) == []


async def test_a_huge_trade_with_additional_fields_is_read(log: Connection) -> None:
    async with ingesting(log) as running, normalizing(log):
        await running.inject(frame(trade(3, more="x" * 5_000_000)))
        await running.trades(1)
        await settled(lambda: stored(log, "SIGNALS"), lambda events: any(e.type == "signal.recorded" for e in events))
    assert await dead_letters(log) == []


HOSTILE: dict[str, str] = {
    "deep": f'{{"channel":"trades","data":[{{"users":["{WHALE}",' + "[" * 100_000,
    "a coin that forges headers": frame(trade(coin="BTC\r\nNats-Expected-Last-Sequence: 999999\r\nX: ")),
    "half a character": f'{{"channel":"trades","data":[{{"coin":"\\ud800","users":["{WHALE}"]}}]}}',
    "a coin of 3 MB": frame(trade(coin="B" * 3_000_000)),
    "a side of 4 MB": frame(trade(side="B" * 4_000_000)),
    "a time beyond time": frame(trade(time=10**30)),
    "a trade id beyond counting": frame(trade(tid=10**40)),
    "a size beyond counting": frame(trade(sz="9" * 24)),
    "a coin with a NUL": frame(trade(coin="B\u0000C")),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_frame_stops_nothing(log: Connection, what: str) -> None:
    async with ingesting(log) as running, normalizing(log):
        await running.inject(HOSTILE[what])
        await running.inject(frame(trade(7)))

        async def signals() -> list[int]:
            assert not running.task.done(), "ingest has ended"
            return [e.data.event_time for e in await stored(log, "SIGNALS") if isinstance(e.data, SignalRecorded)]

        await settled(signals, lambda times: trade(7)["time"] * 1_000_000 in times, 12)
        running.clock.advance(1)
        await running.trades(len(market_data(1)))
    assert len(await dead_letters(log)) <= 1
