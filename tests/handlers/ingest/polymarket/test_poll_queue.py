"""Which wallet is polled next: those with an on-chain fill first, then the one that is overdue the most."""

import asyncio
from typing import cast

import pytest

from gateways.polymarket.data_api import DataApi, Status
from handlers.ingest.polymarket.poll_queue import PollQueue
from handlers.ingest.polymarket.stall_detector import StallDetector
from handlers.ingest.polymarket.wallet_state import PollSettings, WalletState

SETTINGS = PollSettings(active_interval=4.0, idle_interval=16.0)
NOW_S = 1_800_000_000


def queue(*wallets: WalletState) -> PollQueue:
    made = PollQueue(SETTINGS, lambda: NOW_S * 1_000_000_000)
    made.follow({wallet.address: wallet for wallet in wallets})
    return made


def wallet(name: str, *, polled: float | None = None, newest: int = 0) -> WalletState:
    made = WalletState(name, "influencer", start_s=NOW_S - 900)
    made.polled_at, made.newest_s = polled, newest
    return made


def next_of(of: PollQueue, now: float) -> str | None:
    found, _ = of.due(now)
    return found.address if found else None


def test_a_wallet_never_polled_comes_first() -> None:
    assert next_of(queue(wallet("waits", polled=0.0), wallet("new")), 100.0) == "new"


def test_no_wallet_is_polled_again_at_once() -> None:
    found, wait = queue(wallet("a", polled=99.0), wallet("b", polled=95.0)).due(100.0)
    assert found is None
    assert wait == 11.0


def test_wallets_that_traded_within_the_hour_are_polled_more_often() -> None:
    active, idle = wallet("active", polled=92.0, newest=NOW_S - 60), wallet("idle", polled=80.0, newest=NOW_S - 4_000)
    assert next_of(queue(active, idle), 100.0) == "active", "twice its interval, the other 1.25 times"
    idle.polled_at = 60.0
    assert next_of(queue(active, idle), 100.0) == "idle", "no wallet is left out"


def test_a_wallet_with_an_on_chain_fill_comes_first_once_its_row_may_be_there() -> None:
    late, filled = wallet("late", polled=0.0), wallet("filled", polled=99.0)
    of = queue(late, filled)
    filled.urgent_at = 103.0
    assert next_of(of, 102.0) == "late"
    assert next_of(of, 103.5) == "filled"


def test_a_wallet_in_a_poll_or_after_a_failed_one_waits() -> None:
    polled, failed = wallet("polled"), wallet("failed")
    polled.in_poll, failed.not_before = True, 105.0
    found, wait = queue(polled, failed).due(100.0)
    assert found is None
    assert wait == 5.0


async def test_a_wallet_is_given_out_once_until_its_poll_is_done() -> None:
    one = wallet("one")
    of = queue(one)
    assert await of.next() is one
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(of.next(), 0.05)
    of.done(one, failed=False)
    of.poll_at(one, asyncio.get_running_loop().time())
    assert await asyncio.wait_for(of.next(), 1) is one


async def test_a_wallet_that_still_waits_for_a_row_is_polled_again_soon() -> None:
    one = wallet("one")
    of = queue(one)
    await of.next()
    one.fills.log(("0xaa", "7", "BUY"), 5, 0.0)  # type: ignore[arg-type]
    of.done(one, failed=False)
    assert one.urgent_at is not None
    assert one.urgent_at - asyncio.get_running_loop().time() < SETTINGS.row_again + 0.1


def test_polls_overlap_the_newest_activity_and_reach_back_on_request() -> None:
    one = wallet("one", newest=NOW_S)
    assert one.next_start(30) == NOW_S - 30
    one.reach_back(NOW_S - 300)
    one.reach_back(NOW_S - 120)
    assert one.next_start(30) == NOW_S - 300
    assert one.next_start(30) == NOW_S - 30, "once"
    assert wallet("new").next_start(30) == NOW_S - 900


def test_a_stall_of_the_index_is_reported_once_and_so_is_its_recovery() -> None:
    stalls: list[int] = []
    recoveries: list[int] = []
    settings = PollSettings(stalled_after=45)
    detector = StallDetector(
        cast(DataApi, None), lambda: 0, settings, stalled=stalls.append, recovered=recoveries.append
    )
    for second, block in ((0, 100), (15, 107), (30, 107), (45, 107), (59, 107)):
        detector.observe(Status(block, 2.0), second)
    assert stalls == []
    detector.observe(Status(107, 50.0), 60)
    detector.observe(Status(107, 65.0), 75)
    assert (stalls, recoveries, detector.stalled) == ([15], [], True)
    detector.observe(Status(140, 3.0), 90)
    assert (stalls, recoveries, detector.stalled) == ([15], [15], False)
