"""Whose turn it is: announced on-chain first, then who has waited longest for what he is due."""

import asyncio

import pytest

from gateways.polymarket.data_api import Status
from handlers.ingest.polymarket.poll_queue import PollQueue
from handlers.ingest.polymarket.stall_detector import Progress
from handlers.ingest.polymarket.wallet_state import PollSettings, WalletState

PACE = PollSettings(hot=4.0, cold=16.0)
NOW_S = 1_800_000_000


def schedule(*wallets: WalletState) -> PollQueue:
    made = PollQueue(PACE, lambda: NOW_S * 1_000_000_000)
    made.follow({wallet.address: wallet for wallet in wallets})
    return made


def wallet(name: str, *, swept: float | None = None, seen: int = 0) -> WalletState:
    made = WalletState(name, "influencer", since_s=NOW_S - 900)
    made.swept_at, made.last_seen_s = swept, seen
    return made


def turn(of: PollQueue, now: float) -> str | None:
    found, _ = of.due(now)
    return found.address if found else None


def test_who_was_never_swept_comes_first() -> None:
    assert turn(schedule(wallet("waits", swept=0.0), wallet("new")), 100.0) == "new"


def test_nobody_is_swept_again_at_once() -> None:
    found, wait = schedule(wallet("a", swept=99.0), wallet("b", swept=95.0)).due(100.0)
    assert found is None
    assert wait == 11.0


def test_wallets_that_traded_within_the_hour_are_due_more_often() -> None:
    hot, cold = wallet("hot", swept=92.0, seen=NOW_S - 60), wallet("cold", swept=80.0, seen=NOW_S - 4_000)
    assert turn(schedule(hot, cold), 100.0) == "hot", "twice its interval, the other 1.25 times"
    cold.swept_at = 60.0
    assert turn(schedule(hot, cold), 100.0) == "cold", "nobody starves"


def test_a_log_goes_before_everybody_once_its_row_may_be_there() -> None:
    late, told = wallet("late", swept=0.0), wallet("told", swept=99.0)
    of = schedule(late, told)
    told.urgent_at = 103.0
    assert turn(of, 102.0) == "late"
    assert turn(of, 103.5) == "told"


def test_who_is_busy_or_has_failed_waits() -> None:
    busy, failed = wallet("busy"), wallet("failed")
    busy.busy, failed.not_before = True, 105.0
    found, wait = schedule(busy, failed).due(100.0)
    assert found is None
    assert wait == 5.0


async def test_a_turn_is_given_once_and_comes_back() -> None:
    one = wallet("one")
    of = schedule(one)
    assert await of.next() is one
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(of.next(), 0.05)
    of.done(one, failed=False)
    of.urge(one, asyncio.get_running_loop().time())
    assert await asyncio.wait_for(of.next(), 1) is one


async def test_a_wallet_that_still_waits_for_a_row_is_looked_at_again_soon() -> None:
    one = wallet("one")
    of = schedule(one)
    await of.next()
    one.joins.log(("0xaa", "7", "BUY"), 5, 0.0)  # type: ignore[arg-type]
    of.done(one, failed=False)
    assert one.urgent_at is not None
    assert one.urgent_at - asyncio.get_running_loop().time() < PACE.row_again + 0.1


def test_windows_overlap_what_was_seen_and_reach_back_when_told() -> None:
    one = wallet("one", seen=NOW_S)
    assert one.window(30) == NOW_S - 30
    one.reach(NOW_S - 300)
    one.reach(NOW_S - 120)
    assert one.window(30) == NOW_S - 300
    assert one.window(30) == NOW_S - 30, "once"
    assert wallet("new").window(30) == NOW_S - 900


def test_an_index_that_stands_still_is_noticed_once_and_so_is_its_recovery() -> None:
    stalls: list[int] = []
    moves: list[int] = []
    progress = Progress(None, lambda: 0, PollSettings(stalled_after=45), stalled=stalls.append, moving=moves.append)  # type: ignore[arg-type]
    for second, block in ((0, 100), (15, 107), (30, 107), (45, 107), (59, 107)):
        progress.judge(Status(block, 2.0), second)
    assert stalls == []
    progress.judge(Status(107, 50.0), 60)
    progress.judge(Status(107, 65.0), 75)
    assert (stalls, moves, progress.stalled) == ([15], [], True)
    progress.judge(Status(140, 3.0), 90)
    assert (stalls, moves, progress.stalled) == ([15], [15], False)
