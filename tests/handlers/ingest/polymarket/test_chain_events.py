"""On-chain fills: stored at once, matched with the activity, fetched after an outage, removed by a reorganisation."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from handlers.ingest.polymarket import metrics as metrics
from streams.connection import Connection
from tests.handlers.ingest.polymarket.by_hand import STRANGER, WALLET, log_of, row
from tests.handlers.ingest.polymarket.by_hand import Venue as ByHand
from tests.handlers.ingest.polymarket.by_hand import venue as by_hand
from tests.handlers.ingest.polymarket.following import (
    QUICK,
    configure,
    count,
    following,
    influencer,
    quiet,
    transactions,
)
from tests.streams.deadlines import eventually

SECOND = 1_000_000_000


@pytest.fixture
async def site() -> AsyncIterator[ByHand]:
    async with by_hand() as made:
        yield made


async def test_a_log_is_stored_at_once_and_its_row_is_polled_for(log: Connection, site: ByHand) -> None:
    rows = [row(1, 100)]
    site.activity[WALLET] = rows
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    await configure(log, influencer("whale", WALLET))
    slow = replace(QUICK, active_interval=60.0, idle_interval=60.0, row_within=30.0, row_after=0.3)
    async with following(log, site.url, settings=slow) as running:
        await running.until(lambda found: transactions(found) == [1])
        await eventually(lambda: bool(site.sockets), what="a subscription")
        sent = [log_of(2), log_of(3, wallet=STRANGER), log_of(2), log_of(2, removed=True)]
        await site.push(sent[0])
        (event,) = await running.until(bool, "chain")
        assert (event.raw_id, event.address) == (f"pm-log:137:{sent[0]['blockHash']}:2", WALLET)
        assert json.loads(bytes(event.payload)) == sent[0]
        assert event.venue_time == int(sent[0]["blockTimestamp"], 16) * SECOND
        rows.append(row(2, 2))
        await running.until(lambda found: transactions(found) == [1, 2], within=5)
        for each in sent[1:]:
            await site.push(each)
        found = await running.until(lambda found: len(found) == 2, "chain")
        assert found[1].raw_id == f"{event.raw_id}:removed"
        await quiet(running.raw, 0.3)


async def test_a_log_without_a_row_in_time_is_counted(log: Connection, site: ByHand) -> None:
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    before = count(metrics.UNMATCHED)
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await eventually(lambda: bool(site.sockets), what="a subscription")
        await site.push(log_of(2))
        await running.until(bool, "chain")
        await eventually(lambda: count(metrics.UNMATCHED) > before, 5, what="the count")
        await asyncio.sleep(0.3)
    assert count(metrics.UNMATCHED) - before == 1


async def test_an_unreadable_log_of_a_followed_wallet_is_dead_lettered(log: Connection, site: ByHand) -> None:
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await eventually(lambda: bool(site.sockets), what="a subscription")
        for _ in range(2):
            await site.push(log_of(2, data="0x00"))
            await site.push(log_of(3, wallet=STRANGER, data="0x00"))
        await site.push(log_of(4))
        await running.until(bool, "chain")
        (dead,) = await running.dead_letters()
    assert json.loads(dead.payload) == log_of(2, data="0x00", blockTimestamp=json.loads(dead.payload)["blockTimestamp"])


async def test_blocks_mined_without_a_subscription_are_fetched(log: Connection, site: ByHand) -> None:
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    site.logs = [log_of(1, block=990)]
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url, settings=replace(QUICK, reconcile_every=60.0)) as running:
        assert len(await running.until(bool, "chain")) == 1
        site.logs += [log_of(2, block=1_003), log_of(3, block=1_004, removed=False)]
        site.block = 1_005
        for socket in site.sockets:
            await socket.close()
        found = await running.until(lambda found: len(found) == 3, "chain")
        assert [int(event.raw_id.rpartition(":")[2]) for event in found] == [1, 2, 3]
    async with following(log, site.url) as running:
        await asyncio.sleep(0.3)
        assert len(await running.raw("chain")) == 3


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("again", [False, True], ids=["another fill", "the same fill"])
async def test_a_reorganisation_without_a_notice_is_detected(
    log: Connection, site: ByHand, restarted: bool, again: bool
) -> None:
    """The same fill in another block changes nothing; another one takes the place of the removed one."""
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    first, second, mined_again = log_of(1, block=990), log_of(2, block=991), log_of(2, block=992)
    if not again:
        mined_again["data"] = mined_again["data"].replace(f"{20_000_000:064x}", f"{10_000_000:064x}")
    site.logs = [first, second]
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await running.until(lambda found: len(found) == 2, "chain")
        if not restarted:
            site.logs = [first, mined_again]
            for socket in site.sockets:
                await socket.close()
            await running.until(lambda found: len(found) == (2 if again else 4), "chain")
            await asyncio.sleep(0.5)
    site.logs = [first, mined_again]
    async with following(log, site.url) as running:
        found = await running.until(lambda found: len(found) == (2 if again else 4), "chain")
        await quiet(running.raw, 0.5)
    if again:
        assert [json.loads(bytes(event.payload)) for event in found] == [first, second]
        return
    _, old, new, gone = found
    assert gone.raw_id == f"{old.raw_id}:removed"
    assert json.loads(bytes(gone.payload)) == json.loads(bytes(old.payload)) | {"removed": True}
    assert json.loads(bytes(new.payload)) == mined_again


async def test_a_removal_waits_for_the_log_to_be_mined_again(log: Connection, site: ByHand) -> None:
    """A removal shortly before the same fill in another block is not a sale and a purchase: nothing is stored."""
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    await configure(log, influencer("whale", WALLET))
    longer = replace(QUICK, reorg_hold=1.0)
    async with following(log, site.url, settings=longer) as running:
        await eventually(lambda: bool(site.sockets), what="a subscription")
        await site.push(log_of(2, block=1_000))
        await running.until(bool, "chain")
        for block in (1_000, 1_001):
            await site.push(log_of(2, block=block, removed=True))
            await site.push(log_of(2, block=block + 1))
            await site.push(log_of(2, block=block + 1))
        await site.push(log_of(2, block=1_001, removed=True))  # once more, when the log is in another block already
        await asyncio.sleep(1.3)
        (old,) = await running.raw("chain")
        await site.push(log_of(2, block=1_002, removed=True))
        _, gone = await running.until(lambda found: len(found) == 2, "chain")
    assert gone.raw_id == f"{old.raw_id}:removed", "removed for good, under the id that is stored"


async def test_a_wallet_without_recent_trades_continues_where_its_log_ends(log: Connection, site: ByHand) -> None:
    rows = [row(1, 400)]
    site.activity[WALLET] = rows
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    await configure(log, influencer("whale", WALLET))
    brief = replace(QUICK, start_back=600)
    async with following(log, site.url, settings=brief) as running:
        await running.until(lambda found: transactions(found) == [1])
    rows += [row(2, 300), row(3, 200)]
    brief = replace(QUICK, start_back=60)
    async with following(log, site.url, settings=brief) as running:
        await running.until(lambda found: transactions(found) == [1, 2, 3])
