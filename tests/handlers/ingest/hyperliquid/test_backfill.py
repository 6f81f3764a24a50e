"""What the feed missed is found again: after a lost connection, a pause, a gap in a position; whatever fails."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import stamina

import handlers.ingest.hyperliquid.account_snapshots
import handlers.ingest.hyperliquid.ordered_writer
from domain import influencer_account
from domain.events import GapDetected, GapKind, PositionState, RawReceived, SignalRecorded, Venue
from domain.influencer_account import Account
from domain.micros import micros
from gateways.hyperliquid.fill_parsing import FILLS_CHANNEL
from gateways.sandbox.hyperliquid import INFLUENCERS
from handlers import metrics
from handlers.ingest.hyperliquid import backfill
from handlers.ingest.hyperliquid.account_snapshots import AccountSnapshots
from handlers.ingest.hyperliquid.backfill import Backfill
from handlers.ingest.hyperliquid.ordered_writer import OrderedWriter, time_ms
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
    WHALE,
    Running,
    ingesting,
    letters,
    normalizing,
    stored,
    tape,
    value,
)
from tests.handlers.ingest.test_gap_subscription import store
from tests.streams.deadlines import eventually, settled

CODEC = codec()
LONG = 405
"""Seconds after which more was traded in the busy coins than a replay holds."""


@pytest.fixture(autouse=True)
def no_time_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of these venues stands still: a report would always wait in vain for the feed to pass it.

    Trades are held back for as long as it takes, however slow the machine: that they are not is tested elsewhere.
    """
    monkeypatch.setattr(handlers.ingest.hyperliquid.account_snapshots, "SETTLE_SECONDS", 0.02)
    monkeypatch.setattr(handlers.ingest.hyperliquid.ordered_writer, "HOLD_SECONDS", 30.0)


async def complete(running: Running, seconds: float) -> list[RawReceived]:
    """RAW's trades and fills once there is every one of the tape, each once."""
    found = await settled(running.raw, lambda events: len(events) >= len(tape(seconds)), 30, every=0.2)
    assert sorted(event.id for event in found) == sorted(tape(seconds))
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
    """Every position's trades stand in RAW as the venue made them."""
    for address in FOLLOWED:
        by_coin: defaultdict[str, list[int]] = defaultdict(list)
        for raw in found:
            if raw.address == address:
                by_coin[raw.raw_id.rpartition(f":{time_ms(raw.raw_id)}:")[0]].append(time_ms(raw.raw_id))
        for times in by_coin.values():
            assert times == sorted(times)


async def positions_are_true(running: Running) -> list[Any]:
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
    async with ingesting(log) as running, normalizing(log):
        running.clock.advance(5)
        await running.trades(len(tape(5)))
        gaps = value(metrics.GAPS)
        await miss(running, 5, LONG)
        found = await complete(running, LONG)
        assert value(metrics.GAPS) > gaps
        in_order(found)
        channels = Counter(raw.channel for raw in found)
        assert channels[FILLS_CHANNEL] > 100
        events = await positions_are_true(running)
        assert not any(isinstance(event, GapDetected) for event in events)
        # Folded in order, before the new reports: nothing of it is history, all of it may be copied.
        assert {signal.position_state for signal in signals_of(events)} == {PositionState.KNOWN}
        assert len(signals_of(events)) == len(tape(LONG))
    assert await letters(log) == []


async def test_what_was_traded_while_nobody_listened_is_found_at_the_start(log: Connection) -> None:
    async with ingesting(log) as running:
        running.clock.advance(5)
        await running.trades(len(tape(5)))
    async with ingesting(log, seconds=LONG) as running, normalizing(log):
        in_order(await complete(running, LONG))
        events = await positions_are_true(running)
        assert {signal.position_state for signal in signals_of(events)} == {PositionState.KNOWN}
    assert await letters(log) == []


async def test_a_first_start_looks_for_nothing(log: Connection) -> None:
    async with ingesting(log, seconds=LONG) as running:
        await asyncio.sleep(1)
        assert {event.data.channel for event in await running.raw()} == {"trades"}, "what the replays held"


async def test_a_gap_in_a_position_has_the_fills_looked_for(log: Connection) -> None:
    async with ingesting(log, seconds=LONG) as running:
        before = {event.id for event in await running.raw()}
        own = {event_id for event_id in tape(LONG) if WHALE in event_id}
        assert not own <= before, "the replays do not reach back to the beginning"
        await store(log, gap(seconds=LONG))
        found = await settled(running.raw, lambda events: own <= {event.id for event in events}, 15)
        assert {event.data.address for event in found if event.data.channel == FILLS_CHANNEL} == {WHALE}
        reports = await settled(lambda: reports_of(log), lambda found: found[WHALE] > 2, 10)
        assert {count for address, count in reports.items() if address != WHALE} == {2}


async def reports_of(log: Connection) -> Counter[str]:
    """How many reports of each account stand in RAW; equal ones count once."""
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


async def test_a_venue_that_refuses_is_asked_again_until_all_is_there(log: Connection) -> None:
    failed = backfill.ADDRESSES.labels("failed")
    async with ingesting(log) as running, normalizing(log):
        running.clock.advance(5)
        await running.trades(len(tape(5)))
        before = value(failed)
        with stamina.set_testing(True, attempts=1, cap=True):
            await miss(running, 5, LONG)
            await running.order(http_429=5)
            await complete(running, LONG)
        assert value(failed) > before
        await positions_are_true(running)
    assert await letters(log) == []


# --- the queue ---------------------------------------------------------------------------------------------


def test_how_far_to_look_back() -> None:
    now = 10**12
    assert backfill.since(0, now, 300_000) == now - 300_000
    assert backfill.since(now - 5_000, now, 300_000) == now - 300_000
    assert backfill.since(now - 400_000, now, 300_000) == now - 410_000, "from when it was alive, and an overlap"
    assert backfill.since(1, now, 300_000) == now - 86_400_000, "a day at most"


class Filling:
    """A backfill of Alice and others over a venue that answers as told."""

    def __init__(self, work: Backfill, intake: OrderedWriter, asked: list[dict[str, Any]], misread: list[str]) -> None:
        self.work = work
        self.intake = intake
        self.asked = asked
        self.misread = misread

    @property
    def users(self) -> list[str]:
        """Whose fills were asked for, in that order."""
        return [body["user"] for body in self.asked if body["type"] == "userFillsByTime"]


OTHERS = [f"0x{number:040x}" for number in range(1, 13)]


@asynccontextmanager
async def filling(log: Connection, fills: list[object], state_ms: int = ORIGIN_MS) -> AsyncIterator[Filling]:
    lines = [
        f'{{"kind":"influencer","id":"i{address[-4:]}","venue":"hyperliquid","addresses":["{address}"]}}'
        for address in [ALICE, *OTHERS]
    ]

    def said(body: dict[str, Any]) -> object:
        match body["type"]:
            case "userFillsByTime":
                if isinstance(fills[0], Exception):
                    raise fills.pop(0)  # type: ignore[misc]
                return fills if body["user"] == ALICE else []
            case "clearinghouseState":
                return {"assetPositions": [], "time": state_ms + len(asked)}
        return []

    recorder, clock = RawWriter(log, lambda: ORIGIN_NS), lambda: ORIGIN_NS
    intake, misread = OrderedWriter(recorder), []

    async def note(text: str, error: str) -> None:
        misread.append(f"{error}: {text}")

    async with answering(said) as (info, _, asked):
        configuration = configured(lines)
        seeder = AccountSnapshots(info, configuration, recorder, intake, lambda: 0, clock)
        work = Backfill(info, configuration, intake, seeder, clock, note)
        tasks = [asyncio.create_task(each) for each in (recorder.run(), intake.run(), seeder.run([""]), work.run())]
        try:
            yield Filling(work, intake, asked, misread)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), results


async def channels(log: Connection) -> list[str]:
    return [event.data.channel for event in await stored(log, "RAW")]


async def test_the_fills_come_first_and_the_report_after_them(log: Connection) -> None:
    async with filling(log, [FILL, FILL | {"tid": 5, "time": FILL["time"] + 1}]) as running:
        running.work.missed({ALICE: ORIGIN_MS - 1_000})
        found = await settled(lambda: channels(log), lambda found: len(found) >= 3, 10)
        assert found == [FILLS_CHANNEL, FILLS_CHANNEL, "clearinghouseState"]
        (first, second) = (body for body in running.asked if "startTime" in body)
        assert first["startTime"] == second["startTime"] == ORIGIN_MS - 1_000
        assert first["endTime"] > ORIGIN_MS


async def test_only_perpetuals_are_recorded_and_what_cannot_be_read_is_kept_elsewhere(log: Connection) -> None:
    bad = FILL | {"side": "?"}
    async with filling(log, [DUST, FILL | {"coin": "PURR/USDC"}, bad, FILL]) as running:
        running.work.missed({ALICE: 0})
        await settled(lambda: channels(log), lambda found: "clearinghouseState" in found, 10)
        (fill,) = [event for event in await stored(log, "RAW") if event.data.channel == FILLS_CHANNEL]
        assert fill.data.raw_id == f"hl:PUMP:{FILL['time']}:{FILL['tid']}:{ALICE}:A"
        (letter,) = running.misread
        assert letter.startswith(f"fill of {ALICE}: side '?' is neither")


async def test_the_busiest_come_first_and_of_the_others_the_reports(log: Connection) -> None:
    async with filling(log, [FILL]) as running:
        for number, address in enumerate(OTHERS):
            running.intake.activity[address] = 100 - number
        running.work.missed(dict.fromkeys([ALICE, *OTHERS], 5))
        await eventually(lambda: len(running.users) == 13, 20)
        assert running.users == [*OTHERS, ALICE]
        at = running.asked.index(next(body for body in running.asked if body["user"] == OTHERS[backfill.BUSIEST]))
        assert running.asked[at]["type"] == "clearinghouseState", "the ninth waits longer: its position is true first"


async def test_a_second_report_of_what_is_missing_is_no_second_question(log: Connection) -> None:
    async with filling(log, [FILL]) as running:
        running.work.missed({ALICE: 50})
        running.work.missed({ALICE: 20})
        running.work.missed({ALICE: 90})
        await settled(lambda: channels(log), lambda found: "clearinghouseState" in found, 10)
        assert running.users == [ALICE]
        assert running.asked[0]["startTime"] == 20


async def test_what_no_fill_explains_is_not_looked_for_in_circles(log: Connection) -> None:
    async with filling(log, [FILL]) as running:
        running.work.on_gap(gap(address=ALICE))
        await eventually(lambda: running.users == [ALICE], 5)
        assert running.asked[0]["startTime"] == ORIGIN_MS - 900_000
        await settled(lambda: channels(log), lambda found: "clearinghouseState" in found, 10)
        await asyncio.sleep(0.1)
        running.work.on_gap(gap(address=ALICE))
        await asyncio.sleep(1)
        assert running.users == [ALICE], "once a minute is enough"


async def test_who_is_no_longer_followed_is_not_asked_for_and_not_held(log: Connection) -> None:
    async with filling(log, [FILL]) as running:
        running.work.missed({BOB: 5, ALICE: 5})
        await settled(lambda: channels(log), lambda found: "clearinghouseState" in found, 10)
        assert BOB not in running.users
        await running.intake.trade(RawReceived(
            raw_id=f"hl:BTC:9:9:{BOB}:B", venue=Venue.HYPERLIQUID, channel="trades", influencer_id="bob", address=BOB,
            payload=(await stored(log, "RAW"))[0].data.payload, detect_time=1,
        ))  # fmt: skip
        await settled(lambda: channels(log), lambda found: "trades" in found, 3)
