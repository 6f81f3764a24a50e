"""Polymarket -> RAW at a venue whose every answer a test sets: rows once, in order, whatever is served and fails."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from domain.events import Venue
from handlers import metrics as feed_metrics
from handlers.ingest.polymarket import ingest
from handlers.ingest.polymarket import metrics as metrics
from streams.connection import Connection
from tests.handlers.ingest.polymarket.by_hand import (
    MARKET,
    STRANGER,
    WALLET,
    log_of,
    market,
    merge,
    now_s,
    position,
    row,
)
from tests.handlers.ingest.polymarket.by_hand import Venue as ByHand
from tests.handlers.ingest.polymarket.by_hand import venue as by_hand
from tests.handlers.ingest.polymarket.following import (
    QUICK,
    configure,
    count,
    dead_letters,
    following,
    ids,
    influencer,
    quiet,
    transactions,
)
from tests.streams.deadlines import eventually

SECOND = 1_000_000_000
OTHER = "0x" + "b7" * 20


@pytest.fixture
async def site() -> AsyncIterator[ByHand]:
    async with by_hand() as made:
        yield made


async def test_rows_whose_ids_are_no_longer_in_memory_are_not_stored_again(
    log: Connection, site: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large a wallet: the log is asked. Without it the server's short memory of ids would be the last guard."""
    monkeypatch.setattr(ingest, "REMEMBERED", 50)
    rows = [row(number, 800 - 10 * number) for number in range(1, 41)]
    others = [row(number, 800 - 10 * (number - 100), wallet=OTHER) for number in range(101, 141)]
    site.activity[WALLET], site.activity[OTHER] = rows, others
    site.profiles[WALLET], site.profiles[OTHER] = {"proxyWallet": WALLET}, {"proxyWallet": OTHER}
    new, replayed = metrics.ROWS.labels("new"), feed_metrics.REPLAYED
    before, again = count(new), count(replayed)
    await configure(log, influencer("whale", WALLET))
    far_back = replace(QUICK, reconcile_back=850)
    async with following(log, site.url, settings=far_back) as running:
        await running.until(lambda found: len(transactions(found)) == 40)
        await configure(log, influencer("other", OTHER))
        await running.until(lambda found: len(transactions(found)) == 80)
        polls = len(site.asked_for("/data/v2/activity"))
        await eventually(lambda: len(site.asked_for("/data/v2/activity")) > polls + 12, what="polls far back")
        rows.insert(3, row(99, 765))
        await running.until(lambda found: 99 in transactions(found))
    assert (count(new) - before, count(replayed) - again) == (81, 0)
    async with following(log, site.url, settings=far_back) as running:
        await eventually(lambda: len(site.asked_for("/data/v2/activity")) > polls + 20, what="polls after a restart")
        assert len(transactions(await running.raw())) == 81
    assert (count(new) - before, count(replayed) - again) == (81, 0)


async def test_rows_are_stored_once_as_served_after_the_snapshot(log: Connection, site: ByHand) -> None:
    rows = [row(1, 300), row(2, 200), row(2, 200), row(3, 100, size=5.5)]
    site.activity[WALLET], site.positions[WALLET] = rows, [position()]
    site.profiles[WALLET] = {"proxyWallet": WALLET, "name": "Whale"}
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await running.until(lambda found: transactions(found) == [1, 2, 2, 3])
        rows.append(row(4, 5))
        found = await running.until(lambda found: transactions(found) == [1, 2, 2, 3, 4])
        await quiet(running.raw)
    profile, report, *activity = found
    assert (profile.channel, profile.raw_id) == ("profile", f"pm:profile:{WALLET}:{WALLET}")
    assert json.loads(bytes(profile.payload)) == site.profiles[WALLET]
    as_of = rows[3]["timestamp"] * SECOND
    assert (report.channel, report.raw_id) == ("positions", f"pm:positions:{WALLET}:{as_of}")
    assert report.venue_time == as_of
    assert json.loads(bytes(report.payload)) == {
        "positions": [position()], "value": [{"user": WALLET, "value": 12.5}], "cash": "5000000",
    }  # fmt: skip
    assert [json.loads(bytes(event.payload)) for event in activity] == rows
    assert [event.raw_id.rpartition(":")[2] for event in activity] == ["0", "0", "1", "0", "0"]
    assert {(e.influencer_id, e.address, e.venue) for e in found} == {("whale", WALLET, Venue.POLYMARKET)}
    assert await dead_letters(log) == []
    first, *later = [int(query["start"]) for query in site.asked_for("/data/v2/activity")]
    assert first == pytest.approx(now_s() - 900, abs=10), "a quarter of an hour at the start"
    assert rows[4]["timestamp"] - 30 in later, "half a minute of overlap"


async def test_a_market_is_described_before_its_first_row_without_an_asset(log: Connection, site: ByHand) -> None:
    rows = [row(1, 100), merge(2, 90), row(3, 80), merge(4, 70)]
    site.activity[WALLET] = rows
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    site.failing.add("/gamma/markets")
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await running.until(lambda found: transactions(found) == [1])
        await quiet(lambda: running.raw("activity"), 0.3)
        site.markets[MARKET] = market()
        site.failing.clear()
        found = await running.until(lambda found: transactions(found) == [1, 2, 3, 4])
    described = [event for event in found if event.channel == "market"]
    assert ids(described) == [f"pm:market:{MARKET}:{WALLET}"]
    assert json.loads(bytes(described[0].payload)) == market()
    kinds = [event.channel for event in found if event.channel in ("market", "activity")]
    assert kinds == ["activity", "market", "activity", "activity", "activity"]
    async with following(log, site.url) as running:
        rows.append(merge(5, 10))
        await running.until(lambda found: transactions(found) == [1, 2, 3, 4, 5])
        assert ids(await running.raw("market")) == [f"pm:market:{MARKET}:{WALLET}"]


async def test_unreadable_rows_are_dead_lettered_once_and_the_others_are_stored(log: Connection, site: ByHand) -> None:
    broken: list[Any] = [row(7, 90, size="much"), row(8, 90, type="LOTTERY"), {"proxy_wallet": WALLET}, ["?"], None]
    site.activity[WALLET] = [row(1, 100), *broken, row(2, 80), row(9, 70, wallet=STRANGER)]
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    before = count(metrics.ROWS.labels("unreadable"))
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await running.until(lambda found: transactions(found) == [1, 2])
        found = await running.dead_letters(len(broken))
        await quiet(lambda: dead_letters(log), 0.3)
    assert sorted(each.payload for each in found) == sorted(json.dumps(each) for each in broken)
    assert all(each.stage == "ingest" and each.error for each in found)
    assert count(metrics.ROWS.labels("unreadable")) - before == len(broken)


async def test_a_restart_writes_nothing_a_second_time(log: Connection, site: ByHand) -> None:
    rows = [row(number, 900 - number) for number in range(1, 40)]
    site.activity[WALLET], site.logs = rows, [log_of(39, block=999)]
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await running.until(lambda found: len(transactions(found)) == 39)
        await running.until(bool, "chain")
    before = count(feed_metrics.REPLAYED)
    rows.append(row(40, 1))
    async with following(log, site.url) as running:
        found = await running.until(lambda found: len(transactions(found)) == 40)
        await quiet(running.raw, 0.3)
    assert transactions(found) == list(range(1, 41))
    assert count(feed_metrics.REPLAYED) == before, "known rows are not sent to the log"
    assert [event.channel for event in found].count("positions") == 1


async def test_a_stalled_index_does_not_move_the_start_of_polls(log: Connection, site: ByHand) -> None:
    rows = [row(1, 100)]
    site.activity[WALLET] = rows
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    await configure(log, influencer("whale", WALLET))
    quick = replace(QUICK, reconcile_every=60.0, stalled_after=1.0)
    async with following(log, site.url, settings=quick) as running:
        await eventually(lambda: metrics.STALLED._value.get() == 1, 5, what="the stall")
        rows.append(row(3, 0))
        await running.until(lambda found: transactions(found) == [1, 3])
        rows.insert(1, row(2, 60))
        found = await running.until(lambda found: transactions(found) == [1, 3, 2])
        assert ids(found)
        site.block += 1
        await eventually(lambda: metrics.STALLED._value.get() == 0, 5, what="the recovery")


async def test_an_outage_of_the_data_api_loses_nothing(log: Connection, site: ByHand) -> None:
    rows = [row(1, 100)]
    site.activity[WALLET] = rows
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    before = count(metrics.POLLS.labels("unavailable"))
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await running.until(lambda found: transactions(found) == [1])
        site.failing.add("/data")
        rows += [row(number, 50 - number) for number in range(2, 30)]
        await eventually(lambda: count(metrics.POLLS.labels("unavailable")) > before, 10, what="a failed poll")
        site.failing.clear()
        await running.until(lambda found: transactions(found) == list(range(1, 30)))
