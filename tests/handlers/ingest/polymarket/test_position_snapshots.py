"""Account snapshots: stored before the trades that follow them, in agreement with the activity, again after a gap."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.events import AccountSeeded, GapDetected, GapKind, Venue
from gateways.polymarket.raw_events import decode_raw
from handlers.ingest.polymarket import metrics as metrics
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from tests.handlers.ingest.polymarket.by_hand import TOKENS, WALLET, now_s, position, row
from tests.handlers.ingest.polymarket.by_hand import Venue as ByHand
from tests.handlers.ingest.polymarket.by_hand import venue as by_hand
from tests.handlers.ingest.polymarket.following import (
    CODEC,
    configure,
    count,
    following,
    influencer,
    transactions,
)
from tests.streams.deadlines import settled

SECOND = 1_000_000_000


@pytest.fixture
async def site() -> AsyncIterator[ByHand]:
    async with by_hand() as made:
        yield made


async def test_a_snapshot_without_activity_is_as_of_the_start_of_the_poll(log: Connection, site: ByHand) -> None:
    site.positions[WALLET] = [position()]
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        (report,) = await running.until(bool, "positions")
    assert report.venue_time == pytest.approx((now_s() - 900) * SECOND, abs=10 * SECOND)


async def test_the_report_is_requested_again_until_no_activity_comes_in_between(log: Connection, site: ByHand) -> None:
    rows = [row(1, 300)]
    site.activity[WALLET] = rows

    def positions() -> list[Any]:
        if len(rows) < 3:
            rows.append(row(len(rows) + 1, 100 - len(rows)))
        return [position(20 * len(rows))]

    site.positions[WALLET] = positions
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        found = await running.until(lambda found: transactions(found) == [1, 2, 3])
    reports = [event for event in found if event.channel == "positions"]
    assert [event.venue_time for event in reports] == [rows[2]["timestamp"] * SECOND]
    assert json.loads(bytes(reports[0].payload))["positions"] == [position(60)]
    assert len(site.asked_for("/data/positions")) == 3


async def test_a_report_of_a_wallet_that_keeps_trading_is_stored_when_it_pauses(log: Connection, site: ByHand) -> None:
    """Positions reported while rows come in agree with the rows of no second: none of them is stored."""
    rows = [row(1, 300)]
    trading = True

    def activity() -> list[Any]:
        if trading:
            rows.append(row(len(rows) + 1, 100))
        return rows

    site.activity[WALLET] = activity
    site.positions[WALLET] = lambda: [position(20 * len(rows))]
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    before = count(metrics.ACCOUNT_SNAPSHOTS.labels("moving"))
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await settled(lambda: counted(before), lambda moving: moving >= 2, 10.0)
        found = await running.until(lambda found: len(transactions(found)) > 6)
        assert "positions" not in {event.channel for event in found}, "its trades are stored meanwhile"
        trading = False
        (report,) = await running.until(bool, "positions")
    assert report.venue_time == max(each["timestamp"] for each in rows) * SECOND
    assert json.loads(bytes(report.payload))["positions"] == [position(20 * len(rows))]


async def counted(before: float) -> float:
    return count(metrics.ACCOUNT_SNAPSHOTS.labels("moving")) - before


async def test_trades_wait_for_the_snapshot_and_not_for_ever(log: Connection, site: ByHand) -> None:
    site.activity[WALLET] = [row(1, 100)]
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    site.failing.add("/data/positions")
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        found = await running.until(lambda found: transactions(found) == [1])
        assert "positions" not in {event.channel for event in found}
        site.failing.clear()
        (report,) = await running.until(bool, "positions")
        assert report.venue_time == site.activity[WALLET][0]["timestamp"] * SECOND  # type: ignore[index]


async def test_optional_parts_of_the_report_are_null_when_they_fail(log: Connection, site: ByHand) -> None:
    site.positions[WALLET] = [position()]
    site.failing |= {"/data/value", "/data/v2/value", "/polygon"}
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        (report,) = await running.until(bool, "positions")
    assert json.loads(bytes(report.payload)) == {"positions": [position()], "value": None, "cash": None}


async def test_a_size_that_cannot_be_read_costs_that_position_and_not_the_report(log: Connection, site: ByHand) -> None:
    site.positions[WALLET] = [position(), position(token=TOKENS[1]) | {"size": "many"}]
    await configure(log, influencer("whale", WALLET))
    before = count(metrics.UNREAD_POSITIONS)
    async with following(log, site.url) as running:
        (report,) = await running.until(lambda found: len(found) == 1, "positions")
    seeded = decode_raw(report)
    assert isinstance(seeded, AccountSeeded)
    assert ([held.asset for held in seeded.positions], seeded.unread) == ([TOKENS[0]], (TOKENS[1],))
    assert count(metrics.UNREAD_POSITIONS) - before == 1


async def test_a_gap_leads_to_a_new_snapshot(log: Connection, site: ByHand) -> None:
    site.activity[WALLET], site.positions[WALLET] = [row(1, 100)], [position()]
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        (report,) = await running.until(bool, "positions")
        assert report.venue_time is not None
        await gap(log, report.venue_time)
        await asyncio.sleep(0.7)
        assert len(await running.raw("positions")) == 1, "the snapshot is newer than the gap"
        await gap(log, report.venue_time + SECOND)
        _, second = await running.until(lambda found: len(found) == 2, "positions")
        assert second.venue_time == report.venue_time + 1, "nothing has happened in between"


async def gap(log: Connection, event_time: int) -> None:
    event = GapDetected(
        gap_id=f"gap-{event_time}", kind=GapKind.BELOW_ZERO, influencer_id="whale", venue=Venue.POLYMARKET,
        address=WALLET, asset=TOKENS[0], expected_micros=0, found_micros=5, source_event_id="pm:x",
        event_time=event_time, detect_time=event_time,
    )  # fmt: skip
    payload = CODEC.encode(event, id=event.gap_id, source="tests", time_ns=time.time_ns())
    await append(log, [Record(subjects.signals("whale", "polymarket", subjects.GAP_TOKEN), payload)])
