"""Trades that the feed missed are backfilled: after a lost connection, a pause, a gap in a position, and failures."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import stamina
from msgspec import structs

from domain import influencer_account
from domain.events import GapDetected, GapKind, PositionState, RawReceived, SignalRecorded, Venue
from domain.influencer_account import Account
from domain.micros import micros
from gateways.hyperliquid.fill_parsing import FILLS_CHANNEL
from gateways.sandbox.hyperliquid import INFLUENCERS
from handlers import metrics
from handlers.ingest.hyperliquid import backfill
from handlers.ingest.hyperliquid.account_snapshots import AccountSnapshots, SnapshotSettings
from handlers.ingest.hyperliquid.backfill import Backfill
from handlers.ingest.hyperliquid.ingest import block_time_ms
from handlers.ingest.ordered_writer import OrderedWriter
from handlers.ingest.raw_writer import RawWriter
from handlers.live.event_codec import codec
from streams.connection import Connection
from tests.gateways.test_hyperliquid_fill_parsing import DUST, FILL
from tests.gateways.test_hyperliquid_info_client import answering
from tests.gateways.test_sandbox_hyperliquid_info import ask
from tests.gateways.test_sandbox_hyperliquid_ws import ORIGIN_MS, ORIGIN_NS
from tests.handlers.folding import ALICE, BOB, configured
from tests.handlers.ingest.hyperliquid.test_ingest import (
    FOLLOWED,
    SETTINGS,
    WHALE,
    Running,
    dead_letters,
    ingesting,
    market_data,
    normalizing,
    stored,
    value,
)
from tests.handlers.ingest.test_gap_subscription import store
from tests.streams.deadlines import eventually, settled

CODEC = codec()
LONG = 405
"""Seconds after which more was traded in the busy coins than a replay holds."""


LONG_HOLD = structs.replace(SETTINGS, hold=30.0)
"""Trades are held back for as long as a request takes on a slow machine; test_ordered_writer tests the limit."""


async def complete(running: Running, seconds: float) -> list[RawReceived]:
    """RAW's trades and fills once every trade that the venue made is there, each once."""
    found = await settled(running.raw, lambda events: len(events) >= len(market_data(seconds)), 60, every=0.2)
    assert sorted(event.id for event in found) == sorted(market_data(seconds))
    return [event.data for event in found]


async def miss(running: Running, since: float, until: float) -> None:
    """Let the venue trade between these seconds while ingest cannot connect; it may again from now on."""
    await running.order(drop_connections=True, refuse_connections_s=60)
    await asyncio.sleep(0.05)
    running.clock.advance(until - since)

    async def reached() -> int:
        state = await ask(running.sandbox, type="clearinghouseState", user=WHALE)
        return int(state["time"])

    await settled(reached, lambda time: time >= ORIGIN_MS + until * 1_000, 20)
    await running.order(refuse_connections_s=0)


def in_order(found: list[RawReceived]) -> None:
    """Every position's trades are in RAW in the order in which the venue made them."""
    for address in FOLLOWED:
        by_coin: defaultdict[str, list[int]] = defaultdict(list)
        for raw in found:
            if raw.address == address:
                by_coin[raw.raw_id.rpartition(f":{block_time_ms(raw)}:")[0]].append(block_time_ms(raw))
        for times in by_coin.values():
            assert times == sorted(times)


async def positions_match_the_venue(running: Running) -> list[Any]:
    """The fold of SIGNALS holds what the venue says; returns SIGNALS."""
    held = {
        (who.address, row["position"]["coin"]): micros(row["position"]["szi"])
        for who in INFLUENCERS
        for dex in ("", "xyz")
        for row in (await ask(running.sandbox, type="clearinghouseState", user=who.address, dex=dex))["assetPositions"]
    }
    assert len(held) > 5

    async def folded() -> tuple[dict[tuple[str, str], int], list[Any]]:
        by_address: defaultdict[str, Account] = defaultdict(Account)
        events = [event.data for event in await stored(running.log, "SIGNALS")]
        for event in events:
            influencer_account.evolve(by_address[event.address], event)
        return {
            (address, coin): holding.share_micros
            for address, account in by_address.items()
            for coin, holding in account.holdings.items()
            if holding.share_micros
        }, events

    return (await settled(folded, lambda found: found[0] == held, 15, every=0.2))[1]


def signals_of(events: list[Any]) -> list[SignalRecorded]:
    return [event for event in events if isinstance(event, SignalRecorded)]


# --- with a whole ingest -----------------------------------------------------------------------------------


async def test_a_lost_connection_loses_nothing_however_long(log: Connection) -> None:
    async with ingesting(log, settings=LONG_HOLD) as running, normalizing(log):
        running.clock.advance(5)
        await running.trades(len(market_data(5)))
        gaps = value(metrics.GAPS)
        await miss(running, 5, LONG)
        found = await complete(running, LONG)
        assert value(metrics.GAPS) > gaps
        in_order(found)
        channels = Counter(raw.channel for raw in found)
        assert channels[FILLS_CHANNEL] > 100
        events = await positions_match_the_venue(running)
        assert not any(isinstance(event, GapDetected) for event in events)
        # Folded in order, before the new snapshots: all of them may be copied.
        assert {signal.position_state for signal in signals_of(events)} == {PositionState.KNOWN}
        assert len(signals_of(events)) == len(market_data(LONG))
    assert await dead_letters(log) == []


async def test_trades_made_while_ingest_was_down_are_found_at_the_start(log: Connection) -> None:
    async with ingesting(log, settings=LONG_HOLD) as running:
        running.clock.advance(5)
        await running.trades(len(market_data(5)))
    async with ingesting(log, seconds=LONG, settings=LONG_HOLD) as running, normalizing(log):
        in_order(await complete(running, LONG))
        events = await positions_match_the_venue(running)
        assert {signal.position_state for signal in signals_of(events)} == {PositionState.KNOWN}
    assert await dead_letters(log) == []


async def test_a_first_start_backfills_nothing(log: Connection) -> None:
    async with ingesting(log, seconds=LONG, settings=LONG_HOLD) as running:
        await asyncio.sleep(1)
        assert {event.data.channel for event in await running.raw()} == {"trades"}, "what the replays held"


async def test_a_gap_in_a_position_leads_to_a_backfill(log: Connection) -> None:
    async with ingesting(log, seconds=LONG, settings=LONG_HOLD) as running:
        before = {event.id for event in await running.raw()}
        own = {event_id for event_id in market_data(LONG) if WHALE in event_id}
        assert not own <= before, "the replays do not reach back to the beginning"
        await store(log, gap(seconds=LONG))
        found = await settled(running.raw, lambda events: own <= {event.id for event in events}, 15)
        assert {event.data.address for event in found if event.data.channel == FILLS_CHANNEL} == {WHALE}
        reports = await settled(lambda: reports_of(log), lambda found: found[WHALE] > 2, 10)
        assert {count for address, count in reports.items() if address != WHALE} == {2}


async def reports_of(log: Connection) -> Counter[str]:
    """How many reports of each account are in RAW; equal ones count once."""
    found = [event.data for event in await stored(log, "RAW")]
    return Counter(raw.address for raw in found if raw.channel.startswith("clearinghouseState"))


def gap(*, seconds: float = 0, address: str = WHALE) -> GapDetected:
    return GapDetected(
        gap_id="gap_1",
        kind=GapKind.START_POSITION,
        influencer_id=FOLLOWED.get(address, "alice"),
        venue=Venue.HYPERLIQUID,
        address=address,
        asset="BTC",
        expected_micros=0,
        found_micros=1,
        source_event_id="hl:x",
        event_time=ORIGIN_NS + int(seconds * 1e9),
        detect_time=ORIGIN_NS,
    )


async def test_a_request_that_fails_is_repeated_until_all_fills_are_there(log: Connection) -> None:
    failed = backfill.ADDRESSES.labels("failed")
    async with ingesting(log, settings=LONG_HOLD) as running, normalizing(log):
        running.clock.advance(5)
        await running.trades(len(market_data(5)))
        before = value(failed)
        with stamina.set_testing(True, attempts=1, cap=True):
            await miss(running, 5, LONG)
            await running.order(http_429=5)
            await complete(running, LONG)
        assert value(failed) > before
        await positions_match_the_venue(running)
    assert await dead_letters(log) == []


# --- the queue ---------------------------------------------------------------------------------------------


def test_since_when_fills_may_be_missing() -> None:
    now = 10**12
    assert backfill.missing_since(0, now, 300_000) == now - 300_000
    assert backfill.missing_since(now - 5_000, now, 300_000) == now - 300_000
    assert backfill.missing_since(now - 400_000, now, 300_000) == now - 410_000, "before it was alive"
    assert backfill.missing_since(1, now, 300_000) == now - 86_400_000, "a day at most"


class Backfilling:
    """A backfill of Alice and others over a venue whose answers a test sets."""

    def __init__(
        self, work: Backfill, writer: OrderedWriter, asked: list[dict[str, Any]], unreadable: list[str]
    ) -> None:
        self.work = work
        self.writer = writer
        self.asked = asked
        self.unreadable = unreadable

    @property
    def users(self) -> list[str]:
        """The addresses whose fills were requested, in order."""
        return [body["user"] for body in self.asked if body["type"] == "userFillsByTime"]


OTHERS = [f"0x{number:040x}" for number in range(1, 13)]


@asynccontextmanager
async def backfilling(log: Connection, fills: list[object]) -> AsyncIterator[Backfilling]:
    lines = [
        f'{{"kind":"influencer","id":"i{address[-4:]}","venue":"hyperliquid","addresses":["{address}"]}}'
        for address in [ALICE, *OTHERS]
    ]

    def reply(body: dict[str, Any]) -> object:
        match body["type"]:
            case "userFillsByTime":
                if isinstance(fills[0], Exception):
                    raise fills.pop(0)  # type: ignore[misc]
                return fills if body["user"] == ALICE else []
            case "clearinghouseState":
                return {"assetPositions": [], "time": ORIGIN_MS + len(asked)}
        return []

    raw_writer, clock = RawWriter(log, lambda: ORIGIN_NS), lambda: ORIGIN_NS
    writer, unreadable = OrderedWriter(raw_writer, order=block_time_ms, hold_seconds=30.0), []

    async def note(text: str, error: str) -> None:
        unreadable.append(f"{error}: {text}")

    async with answering(reply) as (info, _, asked):
        configuration = configured(lines)
        snapshots = AccountSnapshots(
            info, configuration, raw_writer, writer, lambda: 0, clock, SnapshotSettings(settle=0.02)
        )
        work = Backfill(info, configuration, writer, snapshots, clock, note)
        works = (raw_writer.run(), writer.run(), snapshots.run([""]), work.run())
        tasks = [asyncio.create_task(each) for each in works]
        try:
            yield Backfilling(work, writer, asked, unreadable)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), results


async def channels(log: Connection) -> list[str]:
    return [event.data.channel for event in await stored(log, "RAW")]


async def test_the_fills_are_stored_before_the_snapshot(log: Connection) -> None:
    async with backfilling(log, [FILL, FILL | {"tid": 5, "time": FILL["time"] + 1}]) as running:
        running.work.missed({ALICE: ORIGIN_MS - 1_000})
        found = await settled(lambda: channels(log), lambda found: len(found) >= 3, 10)
        assert found == [FILLS_CHANNEL, FILLS_CHANNEL, "clearinghouseState"]
        (first, second) = (body for body in running.asked if "startTime" in body)
        assert first["startTime"] == second["startTime"] == ORIGIN_MS - 1_000
        assert first["endTime"] > ORIGIN_MS


async def test_only_perpetuals_are_stored_and_unreadable_fills_are_reported(log: Connection) -> None:
    bad = FILL | {"side": "?"}
    async with backfilling(log, [DUST, FILL | {"coin": "PURR/USDC"}, bad, FILL]) as running:
        running.work.missed({ALICE: 0})
        await settled(lambda: channels(log), lambda found: "clearinghouseState" in found, 10)
        (fill,) = [event for event in await stored(log, "RAW") if event.data.channel == FILLS_CHANNEL]
        assert fill.data.raw_id == f"hl:PUMP:{FILL['time']}:{FILL['tid']}:{ALICE}:A"
        (error,) = running.unreadable
        assert error.startswith(f"fill of {ALICE}: side '?' is neither")


async def test_the_busiest_addresses_come_first_and_then_the_snapshots_of_the_others(log: Connection) -> None:
    async with backfilling(log, [FILL]) as running:
        for number, address in enumerate(OTHERS):
            running.writer.activity[address] = 100 - number
        running.work.missed(dict.fromkeys([ALICE, *OTHERS], 5))
        await eventually(lambda: len(running.users) == 13, 20)
        assert running.users == [*OTHERS, ALICE]
        at = running.asked.index(next(body for body in running.asked if body["user"] == OTHERS[backfill.BUSIEST]))
        assert running.asked[at]["type"] == "clearinghouseState", "the ninth waits longer: its snapshot comes first"


async def test_a_second_gap_of_an_address_leads_to_no_second_request(log: Connection) -> None:
    async with backfilling(log, [FILL]) as running:
        running.work.missed({ALICE: 50})
        running.work.missed({ALICE: 20})
        running.work.missed({ALICE: 90})
        await settled(lambda: channels(log), lambda found: "clearinghouseState" in found, 10)
        assert running.users == [ALICE]
        assert running.asked[0]["startTime"] == 20


async def test_a_gap_that_no_fill_explains_is_not_requested_over_and_over(log: Connection) -> None:
    async with backfilling(log, [FILL]) as running:
        running.work.on_gap(gap(address=ALICE))
        await eventually(lambda: running.users == [ALICE], 5)
        assert running.asked[0]["startTime"] == ORIGIN_MS - 900_000
        await settled(lambda: channels(log), lambda found: "clearinghouseState" in found, 10)
        await asyncio.sleep(0.1)
        running.work.on_gap(gap(address=ALICE))
        await asyncio.sleep(1)
        assert running.users == [ALICE], "once a minute is enough"


async def test_an_address_no_longer_followed_is_not_requested_and_not_held(log: Connection) -> None:
    async with backfilling(log, [FILL]) as running:
        running.work.missed({BOB: 5, ALICE: 5})
        await settled(lambda: channels(log), lambda found: "clearinghouseState" in found, 10)
        assert BOB not in running.users
        await running.writer.put(RawReceived(
            raw_id=f"hl:BTC:9:9:{BOB}:B", venue=Venue.HYPERLIQUID, channel="trades", influencer_id="bob", address=BOB,
            payload=(await stored(log, "RAW"))[0].data.payload, detect_time=1,
        ))  # fmt: skip
        await settled(lambda: channels(log), lambda found: "trades" in found, 3)
