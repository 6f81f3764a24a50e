"""On-chain fills: recorded at once, looked for in the activity, fetched when nobody listened, taken back."""

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


async def test_a_log_is_recorded_at_once_and_its_row_is_looked_for(log: Connection, site: ByHand) -> None:
    rows = [row(1, 100)]
    site.activity[WALLET] = rows
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    await configure(log, influencer("whale", WALLET))
    slow = replace(QUICK, hot=60.0, cold=60.0, row_within=30.0, row_after=0.3)
    async with following(log, site.url, pace=slow) as running:
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


async def test_a_log_without_a_row_is_given_up_and_counted(log: Connection, site: ByHand) -> None:
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    before = count(metrics.UNJOINED)
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await eventually(lambda: bool(site.sockets), what="a subscription")
        await site.push(log_of(2))
        await running.until(bool, "chain")
        await eventually(lambda: count(metrics.UNJOINED) > before, 5, what="giving up")
        await asyncio.sleep(0.3)
    assert count(metrics.UNJOINED) - before == 1


async def test_a_log_of_a_followed_wallet_that_cannot_be_read_goes_to_dead(log: Connection, site: ByHand) -> None:
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await eventually(lambda: bool(site.sockets), what="a subscription")
        for _ in range(2):
            await site.push(log_of(2, data="0x00"))
            await site.push(log_of(3, wallet=STRANGER, data="0x00"))
        await site.push(log_of(4))
        await running.until(bool, "chain")
        (letter,) = await running.letters()
    assert json.loads(letter.payload) == log_of(
        2, data="0x00", blockTimestamp=json.loads(letter.payload)["blockTimestamp"]
    )


async def test_blocks_in_which_nobody_listened_are_fetched(log: Connection, site: ByHand) -> None:
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    site.logs = [log_of(1, block=990)]
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url, pace=replace(QUICK, reconcile_every=60.0)) as running:
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
async def test_a_reorganisation_that_nobody_told_of_is_found_out(
    log: Connection, site: ByHand, restarted: bool
) -> None:
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    site.logs = [log_of(1, block=990), log_of(2, block=991)]
    await configure(log, influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await running.until(lambda found: len(found) == 2, "chain")
        if not restarted:
            site.logs = [site.logs[0], log_of(2, block=992)]
            for socket in site.sockets:
                await socket.close()
            await running.until(lambda found: len(found) == 4, "chain")
    if restarted:
        site.logs = [site.logs[0], log_of(2, block=992)]
    async with following(log, site.url) as running:
        found = await running.until(lambda found: len(found) == 4, "chain")
        await quiet(running.raw, 0.3)
    _, old, gone, new = found
    assert gone.raw_id == f"{old.raw_id}:removed"
    assert json.loads(bytes(gone.payload)) == json.loads(bytes(old.payload)) | {"removed": True}
    assert json.loads(bytes(new.payload)) == site.logs[1]


async def test_a_wallet_that_was_quiet_for_long_is_taken_up_where_its_log_ends(log: Connection, site: ByHand) -> None:
    rows = [row(1, 400)]
    site.activity[WALLET] = rows
    site.profiles[WALLET] = {"proxyWallet": WALLET}
    await configure(log, influencer("whale", WALLET))
    brief = replace(QUICK, start_back=600)
    async with following(log, site.url, pace=brief) as running:
        await running.until(lambda found: transactions(found) == [1])
    rows += [row(2, 300), row(3, 200)]
    brief = replace(QUICK, start_back=60)
    async with following(log, site.url, pace=brief) as running:
        await running.until(lambda found: transactions(found) == [1, 2, 3])
