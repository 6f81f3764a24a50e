"""Positions reports: before the trades they explain, agreeing with the activity, again after a gap."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.events import GapDetected, GapKind, Venue
from handlers.ingest.gap_subscription import GAP_TOKEN
from handlers.ingest.polymarket import metrics as metrics
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from tests.handlers.ingest.polymarket.by_hand import STRANGER, TOKENS, WALLET, now_s, position, row
from tests.handlers.ingest.polymarket.by_hand import Venue as ByHand
from tests.handlers.ingest.polymarket.by_hand import venue as by_hand
from tests.handlers.ingest.polymarket.following import (
    CODEC,
    configure,
    count,
    following,
    influencer,
    letters,
    transactions,
)
from tests.streams.deadlines import eventually

SECOND = 1_000_000_000


@pytest.fixture
async def site() -> AsyncIterator[ByHand]:
    async with by_hand() as made:
        yield made


async def test_a_report_without_activity_is_as_of_the_start_of_the_window(log: Connection, site: ByHand) -> None:
    site.positions[WALLET] = [position()]
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        (report,) = await running.until(bool, "positions")
    assert report.venue_time == pytest.approx((now_s() - 900) * SECOND, abs=10 * SECOND)


async def test_a_report_is_taken_again_until_no_activity_comes_between(log: Connection, site: ByHand) -> None:
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


async def test_a_report_of_somebody_who_never_stands_still_is_taken_after_three_tries(
    log: Connection, site: ByHand
) -> None:
    rows = [row(1, 300)]
    site.activity[WALLET] = lambda: rows.append(row(len(rows) + 1, 100)) or rows  # type: ignore[func-returns-value]
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    before = count(metrics.SEEDS.labels("moving"))
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        found = await running.until(lambda found: len(transactions(found)) > 6)
    assert count(metrics.SEEDS.labels("moving")) - before == 1
    assert [event.channel for event in found].count("positions") == 1
    assert found[1].channel == "positions"


async def test_trades_wait_for_the_report_and_not_for_ever(log: Connection, site: ByHand) -> None:
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


async def test_what_the_report_may_do_without_is_null(log: Connection, site: ByHand) -> None:
    site.positions[WALLET] = [position()]
    site.failing |= {"/data/value", "/data/v2/value", "/polygon"}
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        (report,) = await running.until(bool, "positions")
    assert json.loads(bytes(report.payload)) == {"positions": [position()], "value": None, "cash": None}


async def test_an_address_that_is_no_wallet_is_reported_once_and_disturbs_nobody(log: Connection, site: ByHand) -> None:
    site.activity[WALLET], site.positions[WALLET] = [row(1, 100)], [position()]
    before = count(metrics.NO_WALLETS)
    await configure(log, influencer("nobody", STRANGER), influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await running.until(lambda found: transactions(found) == [1])
        (letter,) = await running.letters()
        assert letter.dead_id == f"ingest:polymarket:wallet:{STRANGER}"
        assert STRANGER in letter.error
        asked = len(site.asked_for("/gamma/public-profile"))
        await eventually(lambda: len(site.asked_for("/gamma/public-profile")) > asked, 5, what="another try")
        assert len(await letters(log)) == 1
        assert count(metrics.NO_WALLETS) - before == 1
        site.activity[STRANGER] = [row(2, 10, wallet=STRANGER)]
        await running.until(lambda found: transactions(found) == [1, 2])


async def test_a_gap_is_healed_by_a_new_report(log: Connection, site: ByHand) -> None:
    site.activity[WALLET], site.positions[WALLET] = [row(1, 100)], [position()]
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        (report,) = await running.until(bool, "positions")
        assert report.venue_time is not None
        await gap(log, report.venue_time)
        await asyncio.sleep(0.7)
        assert len(await running.raw("positions")) == 1, "the report is newer than what contradicted it"
        await gap(log, report.venue_time + SECOND)
        _, second = await running.until(lambda found: len(found) == 2, "positions")
        assert second.venue_time == report.venue_time + 1, "nothing has happened since"


async def gap(log: Connection, event_time: int) -> None:
    event = GapDetected(
        gap_id=f"gap-{event_time}", kind=GapKind.BELOW_ZERO, influencer_id="whale", venue=Venue.POLYMARKET,
        address=WALLET, asset=TOKENS[0], expected_micros=0, found_micros=5, source_event_id="pm:x",
        event_time=event_time, detect_time=event_time,
    )  # fmt: skip
    payload = CODEC.encode(event, id=event.gap_id, source="tests", time_ns=time.time_ns())
    await append(log, [Record(subjects.signals("whale", "polymarket", GAP_TOKEN), payload)])
