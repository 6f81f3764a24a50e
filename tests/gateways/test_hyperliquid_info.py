"""The info API's client and its budget, against the sandbox."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
import stamina
from aiohttp import web

from domain.micros import micros
from gateways.hyperliquid.books import VenueBooks
from gateways.hyperliquid.info import Budget, Coin, InfoClient
from gateways.hyperliquid.wire import parse_account
from gateways.sandbox.hyperliquid import INFLUENCERS, Sandbox
from gateways.sandbox.hyperliquid.coins import COINS
from gateways.venue import VenueUnavailableError, WireError
from tests.gateways.test_sandbox_hyperliquid_faults import order
from tests.gateways.test_sandbox_hyperliquid_info import ask
from tests.gateways.test_sandbox_hyperliquid_ws import ORIGIN_NS, played


@asynccontextmanager
async def asking(seconds: float = 5) -> AsyncIterator[tuple[InfoClient, Sandbox]]:
    async with played(seconds) as sandbox, InfoClient(sandbox.url) as info:
        yield info, sandbox


# --- answers -----------------------------------------------------------------------------------------------


async def test_coins_of_every_dex_with_their_lots() -> None:
    async with asking(0.1) as (info, _):
        coins = await info.coins()
    assert list(coins) == [coin.name for coin in COINS]
    assert coins["BTC"] == Coin("BTC", micros("0.00001"))
    assert coins["DOGE"] == Coin("DOGE", micros("1"))
    assert coins["xyz:SP500"] == Coin("xyz:SP500", micros("0.001"))


async def test_a_book_is_the_venues() -> None:
    async with asking() as (info, sandbox):
        book = await info.book("SOL")
        wire = await ask(sandbox, type="l2Book", coin="SOL")
        assert await info.book("NOPE") is None
    assert book is not None
    assert book.bids == tuple((micros(row["px"]), micros(row["sz"])) for row in wire["levels"][0])
    assert book.asks == tuple((micros(row["px"]), micros(row["sz"])) for row in wire["levels"][1])
    assert len(book.bids) == len(book.asks) == 20
    assert book.bids[0][0] < book.asks[0][0]
    assert book.time == ORIGIN_NS + 5 * 10**9


async def test_an_account_report_is_handed_on_unmodified_for_each_dex() -> None:
    async with asking(60) as (info, sandbox):
        held: dict[str, set[str]] = {"": set(), "xyz": set()}
        for who, dex in itertools.product(INFLUENCERS, held):
            payload = await info.account(who.address, dex)
            assert msgspec.json.decode(payload) == await ask(
                sandbox, type="clearinghouseState", user=who.address, dex=dex
            )
            _, positions = parse_account(payload)
            held[dex] |= {position.asset for position in positions}
    assert "BTC" in held[""]
    assert held["xyz"] == {"xyz:SP500"}


async def test_lots_are_asked_for_once_and_again_for_a_coin_that_is_new() -> None:
    async with asking(0.1) as (info, sandbox):
        books = VenueBooks(info)
        assert await books.size_step("SOL") == micros("0.01")
        await order(sandbox, http_429=99)
        assert await books.size_step("BTC") == micros("0.00001"), "known already"
        await order(sandbox, http_429=0)
        assert await books.size_step("NOPE") == 1
        assert await books.book("NOPE") is None


# --- bad days ----------------------------------------------------------------------------------------------


async def test_a_429_is_tried_again() -> None:
    async with asking(0.1) as (info, sandbox):
        await order(sandbox, http_429=3)
        with stamina.set_testing(True, attempts=4, cap=True):
            assert await info.book("SOL", attempts=4) is not None
        assert (await order(sandbox))["http_429"] == 0


async def test_tries_come_to_an_end() -> None:
    async with asking(0.1) as (info, sandbox):
        await order(sandbox, http_429=3)
        with stamina.set_testing(True, attempts=2, cap=True), pytest.raises(VenueUnavailableError, match="HTTP 429"):
            await info.book("SOL", attempts=2)
        assert (await order(sandbox))["http_429"] == 1


async def test_a_refusal_is_not_tried_again_and_says_what_was_asked() -> None:
    async with asking(0.1) as (info, _):
        with pytest.raises(WireError, match=r"'type': 'noSuchType'.*HTTP 422 b'Failed to deserialize"):
            await info.call({"type": "noSuchType"})


async def test_a_server_that_is_gone_is_unavailable() -> None:
    async with asking(0.1) as (info, sandbox):
        await sandbox.close()
        with pytest.raises(VenueUnavailableError, match="l2Book"):
            await info.call({"type": "l2Book", "coin": "SOL"}, attempts=1)


async def test_a_server_error_is_unavailable() -> None:
    async def broken(request: web.Request) -> web.Response:
        return web.Response(status=502, text="Bad Gateway")

    app = web.Application()
    app.router.add_post("/info", broken)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with InfoClient(f"http://127.0.0.1:{runner.addresses[0][1]}/") as info:
            with pytest.raises(VenueUnavailableError, match="meta: HTTP 502"):
                await info.call({"type": "meta"}, attempts=1)
    finally:
        await runner.cleanup()


async def test_a_client_is_used_inside_async_with() -> None:
    with pytest.raises(AssertionError, match="async with"):
        await InfoClient("http://127.0.0.1:1").book("SOL")


# --- the budget --------------------------------------------------------------------------------------------


async def timed(budget: Budget, weights: list[int]) -> list[float]:
    """When each of several spenders, who all come at once, may go: seconds from now."""
    loop = asyncio.get_running_loop()
    start = loop.time()

    async def spend(weight: int) -> float:
        await budget.spend(weight)
        return loop.time() - start

    return await asyncio.gather(*(spend(weight) for weight in weights))


async def test_a_full_budget_is_spent_at_once_and_then_at_its_rate() -> None:
    # 600 a minute: 600 at once, then 10 a second.
    went = await timed(Budget(600), [200, 200, 200, 2, 2, 1])
    assert went == sorted(went), "first come, first served"
    assert max(went[:3]) < 0.15
    for waited, due in zip(went[3:], (0.2, 0.4, 0.5), strict=True):
        assert due - 0.01 <= waited < due + 0.5, "never sooner than the rate allows"


async def test_what_was_not_spent_comes_back_up_to_the_capacity() -> None:
    budget = Budget(6_000)  # 100 a second
    await budget.spend(6_000)
    await asyncio.sleep(0.2)
    (at_once,) = await timed(budget, [20])
    (waited,) = await timed(budget, [60])
    assert at_once < 0.1
    assert 0.1 < waited < 1


async def test_idling_never_saves_up_more_than_the_capacity() -> None:
    budget = Budget(600)  # 10 a second
    await budget.spend(1)
    await asyncio.sleep(0.3)
    first, second = await timed(budget, [600, 3])
    assert first < 0.15
    assert 0.25 < second < 1


@pytest.mark.parametrize(("question", "weight"), [("l2Book", 2), ("clearinghouseState", 2), ("meta", 20)])
async def test_every_call_spends_its_weight(question: str, weight: int) -> None:
    class Counting(Budget):
        spent = 0

        async def spend(self, weight: int) -> None:
            self.spent += weight

    budget = Counting()
    async with played(0.1) as sandbox, InfoClient(sandbox.url, budget=budget) as info:
        await info.call({"type": question, "coin": "SOL", "user": INFLUENCERS[0].address, "dex": ""})
        assert budget.spent == weight
        await order(sandbox, http_429=2)
        with stamina.set_testing(True, attempts=3, cap=True):
            await info.call({"type": question, "coin": "SOL", "user": INFLUENCERS[0].address, "dex": ""})
    assert budget.spent == weight * 4, "a try costs what the first did"


async def test_the_session_is_closed_at_the_end() -> None:
    async with asking(0.1) as (info, _):
        await info.book("SOL")
    with pytest.raises((VenueUnavailableError, RuntimeError, aiohttp.ClientError)):
        await info.call({"type": "l2Book", "coin": "SOL"}, attempts=1)
