"""Account snapshots: every main dex first, another dex when the address trades there, the rest when there is time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Raw, structs

from domain.events import RawReceived, Venue
from domain.venue_times import LONGEST_AHEAD_NS
from gateways.hyperliquid.info_client import InfoClient
from gateways.rate_limit import RateLimiter
from gateways.sandbox.hyperliquid import FlowSource, serve
from handlers.ingest.hyperliquid.account_snapshots import AccountSnapshots, SnapshotSettings
from handlers.ingest.hyperliquid.ingest import block_time_ms
from handlers.ingest.ordered_writer import OrderedWriter
from handlers.ingest.raw_writer import RawWriter
from streams.connection import Connection
from tests.gateways.test_hyperliquid_info_client import answering
from tests.gateways.test_sandbox_hyperliquid_ws import ORIGIN_MS, ORIGIN_NS, SEED, Clock
from tests.handlers.folding import configured
from tests.handlers.ingest.test_ordered_writer import HYPERLIQUID, stored
from tests.streams.deadlines import eventually, settled

ADDRESSES = [f"0x{number:040x}" for number in range(1, 25)]
LINES = [
    json.dumps({"kind": "influencer", "id": f"i{address[-4:]}", "venue": "hyperliquid", "addresses": [address]})
    for address in ADDRESSES
]


trade = HYPERLIQUID.event
SETTINGS = SnapshotSettings()


class Running:
    """Account snapshots of a venue, and the requests that it received."""

    def __init__(self, snapshots: AccountSnapshots, writer: OrderedWriter, asked: list[dict[str, Any]]) -> None:
        self.snapshots = snapshots
        self.writer = writer
        self.asked = asked
        self.newest_ms = 0

    @property
    def requested(self) -> list[tuple[str, str]]:
        """The (address, dex) of the requested reports, in order."""
        return [(body["user"], body["dex"]) for body in self.asked]


@asynccontextmanager
async def taking_snapshots(
    log: Connection,
    sections: list[str],
    answer: Callable[[dict[str, Any]], object] | None = None,
    follow: list[str] = ADDRESSES,
    settings: SnapshotSettings = SETTINGS,
) -> AsyncIterator[Running]:
    """Snapshots of a venue that answers by `answer`, or with an empty account, each report a millisecond later."""

    def reply(body: dict[str, Any]) -> object:
        return answer(body) if answer else {"assetPositions": [], "time": ORIGIN_MS + len(asked)}

    raw_writer = RawWriter(log, lambda: ORIGIN_NS)
    writer = OrderedWriter(raw_writer, order=block_time_ms)
    async with answering(reply) as (info, _, asked):
        snapshots = AccountSnapshots(
            info, configured(LINES), raw_writer, writer, lambda: running.newest_ms, lambda: ORIGIN_NS, settings
        )
        running = Running(snapshots, writer, asked)
        snapshots.follow(of(follow))
        tasks = [asyncio.create_task(each) for each in (raw_writer.run(), writer.run(), snapshots.run(sections))]
        try:
            yield running
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), results


async def ids(log: Connection) -> list[str]:
    return [event.raw_id for event in await stored(log)]


async def test_every_main_dex_comes_before_any_other_dex(log: Connection) -> None:
    async with taking_snapshots(log, ["", "xyz", "abc"], settings=SnapshotSettings(settle=0.02)) as running:
        await eventually(lambda: len(running.asked) == 72, 10)
        assert {dex for _, dex in running.requested[:24]} == {""}
        assert sorted(running.requested) == sorted(
            (address, dex) for address in ADDRESSES for dex in ("", "xyz", "abc")
        )


async def test_other_dexes_wait_until_half_of_the_budget_is_there(log: Connection) -> None:
    clock = Clock()
    sandbox = await serve(FlowSource(SEED, origin_ns=ORIGIN_NS), clock=clock)
    raw_writer = RawWriter(log, clock)
    writing = asyncio.create_task(raw_writer.run())
    writer = OrderedWriter(raw_writer, order=block_time_ms)
    async with InfoClient(sandbox.url, limiter=RateLimiter(rate_per_second=80 / 60, burst=80)) as info:
        # 48 of 80 are spent on the main dex; six seconds later 40 are there again.
        snapshots = AccountSnapshots(info, configured(LINES), raw_writer, writer, lambda: 0, clock)
        snapshots.follow(of(ADDRESSES))
        work = asyncio.create_task(snapshots.run(["", "xyz"]))
        await settled(lambda: ids(log), lambda found: len(found) == 24, 5)
        await asyncio.sleep(1)
        assert not any(":xyz:" in each for each in await ids(log))
        snapshots.traded(ADDRESSES[3], "xyz")
        found = await settled(lambda: ids(log), lambda found: len(found) == 25, 3)
        assert ADDRESSES[3] in found[-1], "the dex on which an address trades does not wait"
        work.cancel()
        writing.cancel()
        await asyncio.gather(work, writing, return_exceptions=True)
    await sandbox.close()


async def test_an_address_that_trades_before_its_snapshot_is_next(log: Connection) -> None:
    gate = asyncio.Event()
    last = ADDRESSES[-1]
    async with taking_snapshots(log, [""], follow=[]) as running:
        running.snapshots.follow(of(ADDRESSES))
        running.snapshots.traded(last, "")
        gate.set()
        await eventually(lambda: len(running.asked) == 24, 5)
        assert running.requested[0] == (last, "")
        running.snapshots.traded(last, "")
        await asyncio.sleep(0.1)
        assert len(running.asked) == 24, "an account with a snapshot is not requested again"


async def test_trades_wait_for_the_snapshot_and_no_longer(log: Connection) -> None:
    who = ADDRESSES[0]
    async with taking_snapshots(log, [""], follow=[who]) as running:
        await running.writer.put(trade(5, who))
        found = await settled(lambda: ids(log), lambda found: len(found) == 2, 5)
        assert found == [f"hl:account::{who}:{ORIGIN_NS}", trade(5, who).raw_id]
        await running.writer.put(trade(6, who))
        assert await settled(lambda: ids(log), lambda found: len(found) == 3, 1)


async def test_a_report_that_fails_does_not_hold_trades_and_is_requested_again(log: Connection) -> None:
    settings = SnapshotSettings(settle=0.02, retry=0.3)
    answers: list[object] = [{"no": "report"}, {"assetPositions": [], "time": ORIGIN_MS}]
    who = ADDRESSES[0]
    async with taking_snapshots(log, [""], lambda body: answers.pop(0), follow=[who], settings=settings) as running:
        await running.writer.put(trade(5, who))
        assert await settled(lambda: ids(log), bool, 0.3) == [trade(5, who).raw_id]
        assert not running.snapshots.has_snapshot(who)
        await settled(lambda: ids(log), lambda found: len(found) == 2, 5)
        assert running.snapshots.has_snapshot(who)


async def test_a_report_that_is_dated_wrongly_is_not_stored_and_requested_again(log: Connection) -> None:
    settings = SnapshotSettings(settle=0.02, retry=0.3)
    times = [ORIGIN_MS + 365 * 86_400_000, ORIGIN_MS]
    who = ADDRESSES[0]

    def answer(body: dict[str, Any]) -> object:
        return {"assetPositions": [], "time": times.pop(0)}

    async with taking_snapshots(log, [""], answer, follow=[who], settings=settings) as running:
        (found,) = await settled(lambda: ids(log), bool, 5)
        assert found.endswith(f":{ORIGIN_NS}")
        assert not times
        assert running.snapshots.has_snapshot(who)


async def test_a_stored_report_that_is_dated_wrongly_does_not_count(log: Connection) -> None:
    who, empty = ADDRESSES[0], {"assetPositions": [], "time": 1}
    async with taking_snapshots(log, [""], follow=[]) as running:
        stored_report = report(who, "", empty)
        ahead = structs.replace(stored_report, raw_id=f"hl:account::{who}:{LONGEST_AHEAD_NS + 2}")
        running.snapshots.restore(ahead)
        assert not running.snapshots.has_snapshot(who)
        running.snapshots.restore(structs.replace(ahead, detect_time=2))
        assert running.snapshots.has_snapshot(who)


async def test_a_new_snapshot_is_stored_after_the_trades_that_it_contains(log: Connection) -> None:
    who = ADDRESSES[0]
    async with taking_snapshots(log, [""], follow=[]) as running:
        task = asyncio.create_task(running.snapshots.refresh_now(who))
        await eventually(lambda: bool(running.asked), 5)
        await asyncio.sleep(0.1)
        assert await ids(log) == []
        under_way = trade(ORIGIN_MS, who)
        await running.writer.put(under_way)
        running.newest_ms = ORIGIN_MS + 1
        await asyncio.wait_for(task, 0.5)
        found = await settled(lambda: ids(log), lambda found: len(found) == 2, 5)
        assert found[0] == under_way.raw_id
        running.newest_ms = 0
        await asyncio.wait_for(running.snapshots.refresh_now(who), 3)  # a feed without trades is not waited for


async def test_stored_snapshots_are_not_requested_and_are_refreshed_by_dex(log: Connection) -> None:
    held = {"assetPositions": [{"position": {"coin": "xyz:GOLD", "szi": "1"}}], "time": 1}
    who = ADDRESSES[0]
    async with taking_snapshots(log, [""], follow=[]) as running:
        for dex, payload in (
            ("", {"assetPositions": [], "time": 1}),
            ("xyz", held),
            ("abc", held | {"assetPositions": []}),
        ):
            running.snapshots.restore(report(who, dex, payload))
        running.snapshots.restore(report(who, "bad", {"time": "x"}))
        running.snapshots.follow(of([who]))
        assert running.snapshots.has_snapshot(who)
        running.snapshots.refresh([who, who])
        await eventually(lambda: len(running.asked) == 2, 5)
        await asyncio.sleep(0.1)
        assert sorted(running.requested) == [(who, ""), (who, "xyz")], "where it holds or trades something, once"


def report(address: str, dex: str, payload: object) -> RawReceived:
    return RawReceived(
        raw_id=f"hl:account:{dex}:{address}:1",
        venue=Venue.HYPERLIQUID,
        channel=f"clearinghouseState@{dex}" if dex else "clearinghouseState",
        influencer_id="i1",
        address=address,
        payload=Raw(json.dumps(payload).encode()),
        detect_time=1,
    )


async def test_an_address_followed_again_gets_a_new_snapshot(log: Connection) -> None:
    first, second = ADDRESSES[:2]
    async with taking_snapshots(log, [""], follow=[first, second]) as running:
        await eventually(lambda: len(running.asked) == 2, 5)
        running.snapshots.follow(of([second]))
        running.snapshots.follow(of([first, second]))
        await eventually(lambda: len(running.asked) == 3, 5)
        assert running.requested[-1] == (first, "")
        running.snapshots.follow({})
        running.snapshots.follow(of([second]))
        await eventually(lambda: len(running.asked) == 4, 5)
        assert running.requested[-1] == (second, "")


async def test_an_address_of_another_influencer_gets_a_new_snapshot(log: Connection) -> None:
    first, second = ADDRESSES[:2]
    async with taking_snapshots(log, [""], follow=[first, second]) as running:
        await eventually(lambda: len(running.asked) == 2, 5)
        running.snapshots.follow({first: "i1", second: "another influencer"})
        await eventually(lambda: len(running.asked) == 3, 5)
        await asyncio.sleep(0.05)
        assert running.requested[2:] == [(second, "")]


def of(addresses: Iterable[str]) -> dict[str, str]:
    """All followed for one influencer."""
    return dict.fromkeys(addresses, "i1")
