"""Which wallets are followed: configured wallets, those of signing addresses, no wallets, and changes while it runs."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from domain.events import OnClose, Status
from handlers.ingest.polymarket import metrics as metrics
from streams.connection import Connection
from tests.handlers.ingest.polymarket.by_hand import OTHER, SIGNER, STRANGER, WALLET, position, row
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
    transactions,
)
from tests.streams.deadlines import eventually

SECOND = 1_000_000_000


@pytest.fixture
async def site() -> AsyncIterator[ByHand]:
    async with by_hand() as made:
        yield made


async def test_a_signing_address_is_followed_through_its_wallets(log: Connection, site: ByHand) -> None:
    site.profiles[SIGNER] = {"proxyWallet": WALLET, "users": [{"proxyWallet": OTHER.upper().replace("X", "x")}]}
    site.activity |= {WALLET: [row(1, 100)], OTHER: [row(2, 50, wallet=OTHER)]}
    await configure(log, influencer("trader", SIGNER))
    async with following(log, site.url) as running:
        found = await running.until(lambda found: sorted(transactions(found)) == [1, 2])
        assert {event.influencer_id for event in found} == {"trader"}
    profiles = [event for event in found if event.channel == "profile"]
    assert ids(profiles) == [f"pm:profile:{SIGNER}:{wallet}" for wallet in (WALLET, OTHER)]
    assert [event.address for event in profiles] == [WALLET, OTHER]
    asked = len(site.asked_for("/gamma/public-profile"))
    async with following(log, site.url) as running:
        await eventually(lambda: bool(site.sockets), what="a subscription")
    assert len(site.asked_for("/gamma/public-profile")) == asked, "the stored answer is used"


async def test_a_wallet_that_an_address_changes_to_is_followed_beside_the_one_before(
    log: Connection, site: ByHand
) -> None:
    site.profiles[SIGNER] = {"proxyWallet": WALLET}
    site.activity |= {WALLET: [row(1, 100)], OTHER: [row(2, 50, wallet=OTHER)]}
    await configure(log, influencer("trader", SIGNER))
    often = replace(QUICK, profile_again=0.2)
    async with following(log, site.url, settings=often) as running:
        await running.until(lambda found: transactions(found) == [1])
        site.profiles[SIGNER] = {"proxyWallet": OTHER}
        await running.until(lambda found: transactions(found) == [1, 2])
        site.activity[WALLET] = [row(1, 100), row(3, 1)]
        await running.until(lambda found: transactions(found) == [1, 2, 3])
    async with following(log, site.url) as running:
        site.activity[WALLET] = [row(1, 100), row(3, 1), row(4, 1)]
        found = await running.until(lambda found: transactions(found) == [1, 2, 3, 4])
    assert ids([event for event in found if event.channel == "profile"]) == [
        f"pm:profile:{SIGNER}:{wallet}" for wallet in (WALLET, OTHER)
    ]


async def test_an_address_without_a_wallet_is_dead_lettered_once_and_delays_none(log: Connection, site: ByHand) -> None:
    site.activity[WALLET], site.positions[WALLET] = [row(1, 100)], [position()]
    before = count(metrics.NO_WALLETS)
    await configure(log, influencer("stranger", STRANGER), influencer("whale", WALLET))
    async with following(log, site.url) as running:
        await running.until(lambda found: transactions(found) == [1])
        (dead,) = await running.dead_letters()
        assert dead.dead_id == f"ingest:polymarket:wallet:{STRANGER}"
        assert STRANGER in dead.error
        asked = len(site.asked_for("/gamma/public-profile"))
        await eventually(lambda: len(site.asked_for("/gamma/public-profile")) > asked, 5, what="another try")
        assert len(await dead_letters(log)) == 1
        assert count(metrics.NO_WALLETS) - before == 1
        site.activity[STRANGER] = [row(2, 10, wallet=STRANGER)]
        await running.until(lambda found: transactions(found) == [1, 2])


async def test_without_gamma_an_address_that_trades_is_followed(log: Connection, site: ByHand) -> None:
    site.failing.add("/gamma")
    site.activity[WALLET] = [row(1, 100)]
    await configure(log, influencer("whale", WALLET), influencer("signer", SIGNER))
    async with following(log, site.url) as running:
        await running.until(lambda found: transactions(found) == [1])
        site.profiles[SIGNER] = {"proxyWallet": OTHER}
        site.activity[OTHER] = [row(2, 50, wallet=OTHER)]
        site.failing.clear()
        await running.until(lambda found: transactions(found) == [1, 2])
    assert await dead_letters(log) == []


async def test_the_followed_wallets_change_while_it_runs(log: Connection, site: ByHand) -> None:
    site.activity |= {WALLET: [row(1, 100)], OTHER: [row(2, 90, wallet=OTHER)]}
    site.positions |= {WALLET: [position()], OTHER: [position()]}
    async with following(log, site.url) as running:
        await configure(log, influencer("whale", WALLET))
        await running.until(lambda found: transactions(found) == [1])
        abandoned = influencer("whale", WALLET, status=Status.CLOSED, on_close=OnClose.ABANDON)
        await configure(log, influencer("other", OTHER), abandoned)
        await running.until(lambda found: transactions(found) == [1, 2])
        site.asked.clear()
        await asyncio.sleep(0.5)
        assert {query["user"] for query in site.asked_for("/data/v2/activity")} == {OTHER}
        site.activity[WALLET] = [row(1, 100), row(3, 1)]
        await configure(log, influencer("whale", WALLET))
        await running.until(lambda found: transactions(found) == [1, 2, 3])


async def test_a_wallet_of_another_influencer_gets_a_snapshot_under_that_name(log: Connection, site: ByHand) -> None:
    site.activity[WALLET], site.positions[WALLET] = [row(1, 100)], [position()]
    await configure(log, influencer("ann", WALLET))
    async with following(log, site.url) as running:
        await running.until(lambda found: transactions(found) == [1])
        await configure(log, influencer("bob", WALLET), influencer("ann", STRANGER))
        reports = await running.until(lambda found: len(found) == 2, "positions")
        site.activity[WALLET] = [row(1, 100), row(2, 1)]
        found = await running.until(lambda found: transactions(found) == [1, 2])
    assert [event.influencer_id for event in reports] == ["ann", "bob"]
    assert found[-1].influencer_id == "bob"


async def test_it_is_ready_although_no_followed_address_is_a_wallet(log: Connection, site: ByHand) -> None:
    await configure(log, influencer("stranger", STRANGER))
    async with following(log, site.url) as running:
        await running.dead_letters()
