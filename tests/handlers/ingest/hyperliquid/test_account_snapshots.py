"""Seeding: the main dex of everybody first, another dex when somebody trades there, the rest when there is time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Raw

import handlers.ingest.hyperliquid.account_snapshots
from domain.events import RawReceived, Venue
from gateways.hyperliquid.info_client import InfoClient
from gateways.rate_limit import RateLimiter
from gateways.sandbox.hyperliquid import FlowSource, serve
from handlers.ingest.hyperliquid.account_snapshots import AccountSnapshots
from handlers.ingest.hyperliquid.ordered_writer import OrderedWriter
from handlers.ingest.raw_writer import RawWriter
from streams.connection import Connection
from tests.gateways.test_hyperliquid_info_client import answering
from tests.gateways.test_sandbox_hyperliquid_ws import ORIGIN_MS, ORIGIN_NS, SEED, Clock
from tests.handlers.folding import configured
from tests.handlers.ingest.hyperliquid.test_ordered_writer import raw as trade
from tests.handlers.ingest.hyperliquid.test_ordered_writer import stored
from tests.streams.deadlines import eventually, settled

PEOPLE = [f"0x{number:040x}" for number in range(1, 25)]
LINES = [
    json.dumps({"kind": "influencer", "id": f"i{address[-4:]}", "venue": "hyperliquid", "addresses": [address]})
    for address in PEOPLE
]


class Seeding:
    def __init__(self, seeder: AccountSnapshots, intake: OrderedWriter, asked: list[dict[str, Any]]) -> None:
        self.seeder = seeder
        self.intake = intake
        self.asked = asked
        self.newest_ms = 0

    @property
    def wanted(self) -> list[tuple[str, str]]:
        """Whose report of which dex was asked for, in that order."""
        return [(body["user"], body["dex"]) for body in self.asked]


@asynccontextmanager
async def seeding(
    log: Connection,
    sections: list[str],
    answer: Callable[[dict[str, Any]], object] | None = None,
    follow: list[str] = PEOPLE,
) -> AsyncIterator[Seeding]:
    """A seeder whose venue answers each question with an empty account (or as told), a millisecond later each."""

    def said(body: dict[str, Any]) -> object:
        return answer(body) if answer else {"assetPositions": [], "time": ORIGIN_MS + len(asked)}

    recorder = RawWriter(log, lambda: ORIGIN_NS)
    intake = OrderedWriter(recorder)
    async with answering(said) as (info, _, asked):
        seeder = AccountSnapshots(
            info, configured(LINES), recorder, intake, lambda: running.newest_ms, lambda: ORIGIN_NS
        )
        running = Seeding(seeder, intake, asked)
        seeder.follow(of(follow))
        tasks = [asyncio.create_task(each) for each in (recorder.run(), intake.run(), seeder.run(sections))]
        try:
            yield running
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), results


async def ids(log: Connection) -> list[str]:
    return [event.raw_id for event in await stored(log)]


async def test_the_main_dex_of_everybody_comes_before_any_other_dex(
    log: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers.ingest.hyperliquid.account_snapshots, "SETTLE_SECONDS", 0.02)
    async with seeding(log, ["", "xyz", "abc"]) as running:
        await eventually(lambda: len(running.asked) == 72, 10)
        assert {dex for _, dex in running.wanted[:24]} == {""}
        assert sorted(running.wanted) == sorted((who, dex) for who in PEOPLE for dex in ("", "xyz", "abc"))


async def test_other_dexes_wait_until_half_of_the_budget_is_there(log: Connection) -> None:
    clock = Clock()
    sandbox = await serve(FlowSource(SEED, origin_ns=ORIGIN_NS), clock=clock)
    recorder = RawWriter(log, clock)
    writer = asyncio.create_task(recorder.run())
    intake = OrderedWriter(recorder)
    async with InfoClient(sandbox.url, limiter=RateLimiter.per_minute(80)) as info:
        # 48 of 80 are spent on the main dex; six seconds later 40 are there again.
        seeder = AccountSnapshots(info, configured(LINES), recorder, intake, lambda: 0, clock)
        seeder.follow(of(PEOPLE))
        work = asyncio.create_task(seeder.run(["", "xyz"]))
        await settled(lambda: ids(log), lambda found: len(found) == 24, 5)
        await asyncio.sleep(1)
        assert not any(":xyz:" in each for each in await ids(log))
        seeder.traded(PEOPLE[3], "xyz")
        found = await settled(lambda: ids(log), lambda found: len(found) == 25, 3)
        assert PEOPLE[3] in found[-1], "where somebody trades there is no waiting"
        work.cancel()
        writer.cancel()
        await asyncio.gather(work, writer, return_exceptions=True)
    await sandbox.close()


async def test_who_trades_before_being_seeded_is_next(log: Connection) -> None:
    gate = asyncio.Event()
    last = PEOPLE[-1]
    async with seeding(log, [""], follow=[]) as running:
        running.seeder.follow(of(PEOPLE))
        running.seeder.traded(last, "")
        gate.set()
        await eventually(lambda: len(running.asked) == 24, 5)
        assert running.wanted[0] == (last, "")
        running.seeder.traded(last, "")
        await asyncio.sleep(0.1)
        assert len(running.asked) == 24, "a seeded account is not asked for again"


async def test_trades_wait_for_the_report_and_no_longer(log: Connection) -> None:
    who = PEOPLE[0]
    async with seeding(log, [""], follow=[who]) as running:
        await running.intake.trade(trade(5, who))
        found = await settled(lambda: ids(log), lambda found: len(found) == 2, 5)
        assert found == [f"hl:account::{who}:{ORIGIN_NS}", trade(5, who).raw_id]
        await running.intake.trade(trade(6, who))
        assert await settled(lambda: ids(log), lambda found: len(found) == 3, 1)


async def test_a_report_that_fails_does_not_hold_trades_and_is_asked_for_again(
    log: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers.ingest.hyperliquid.account_snapshots, "RETRY_SECONDS", 0.3)
    monkeypatch.setattr(handlers.ingest.hyperliquid.account_snapshots, "SETTLE_SECONDS", 0.02)
    answers: list[object] = [{"no": "report"}, {"assetPositions": [], "time": ORIGIN_MS}]
    who = PEOPLE[0]
    async with seeding(log, [""], lambda body: answers.pop(0), follow=[who]) as running:
        await running.intake.trade(trade(5, who))
        assert await settled(lambda: ids(log), bool, 0.3) == [trade(5, who).raw_id]
        assert not running.seeder.knows(who)
        await settled(lambda: ids(log), lambda found: len(found) == 2, 5)
        assert running.seeder.knows(who)


async def test_a_new_report_stands_behind_the_trades_that_it_contains(log: Connection) -> None:
    who = PEOPLE[0]
    async with seeding(log, [""], follow=[]) as running:
        task = asyncio.create_task(running.seeder.report(who))
        await eventually(lambda: bool(running.asked), 5)
        await asyncio.sleep(0.1)
        assert await ids(log) == []
        under_way = trade(ORIGIN_MS, who)
        await running.intake.trade(under_way)
        running.newest_ms = ORIGIN_MS + 1
        await asyncio.wait_for(task, 0.5)
        found = await settled(lambda: ids(log), lambda found: len(found) == 2, 5)
        assert found[0] == under_way.raw_id
        running.newest_ms = 0
        await asyncio.wait_for(running.seeder.report(who), 3)  # a feed that stands still is not waited for


async def test_reports_of_the_log_are_not_asked_for_and_repaired_by_dex(log: Connection) -> None:
    held = {"assetPositions": [{"position": {"coin": "xyz:GOLD", "szi": "1"}}], "time": 1}
    who = PEOPLE[0]
    async with seeding(log, [""], follow=[]) as running:
        for dex, said in (
            ("", {"assetPositions": [], "time": 1}),
            ("xyz", held),
            ("abc", held | {"assetPositions": []}),
        ):
            running.seeder.known(report(who, dex, said))
        running.seeder.known(report(who, "bad", {"time": "x"}))
        running.seeder.follow(of([who]))
        assert running.seeder.knows(who)
        running.seeder.repair([who, who])
        await eventually(lambda: len(running.asked) == 2, 5)
        await asyncio.sleep(0.1)
        assert sorted(running.wanted) == [(who, ""), (who, "xyz")], "where it holds or trades something, once"


def report(address: str, dex: str, said: object) -> RawReceived:
    return RawReceived(
        raw_id=f"hl:account:{dex}:{address}:1",
        venue=Venue.HYPERLIQUID,
        channel=f"clearinghouseState@{dex}" if dex else "clearinghouseState",
        influencer_id="i1",
        address=address,
        payload=Raw(json.dumps(said).encode()),
        detect_time=1,
    )


async def test_who_is_followed_again_is_reported_again(log: Connection) -> None:
    first, second = PEOPLE[:2]
    async with seeding(log, [""], follow=[first, second]) as running:
        await eventually(lambda: len(running.asked) == 2, 5)
        running.seeder.follow(of([second]))
        running.seeder.follow(of([first, second]))
        await eventually(lambda: len(running.asked) == 3, 5)
        assert running.wanted[-1] == (first, "")
        running.seeder.follow({})
        running.seeder.follow(of([second]))
        await eventually(lambda: len(running.asked) == 4, 5)
        assert running.wanted[-1] == (second, "")


async def test_an_address_that_changes_hands_is_reported_to_its_new_influencer(log: Connection) -> None:
    first, second = PEOPLE[:2]
    async with seeding(log, [""], follow=[first, second]) as running:
        await eventually(lambda: len(running.asked) == 2, 5)
        running.seeder.follow({first: "i1", second: "somebody else"})
        await eventually(lambda: len(running.asked) == 3, 5)
        await asyncio.sleep(0.05)
        assert running.wanted[2:] == [(second, "")]


def of(addresses: Iterable[str]) -> dict[str, str]:
    """All followed for one influencer."""
    return dict.fromkeys(addresses, "i1")
