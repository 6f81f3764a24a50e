"""The client of the info API and its request budget, against the sandbox."""

import itertools
import math
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec
import pytest
import stamina
from aiohttp import web

from domain.micros import micros
from gateways.hyperliquid.books import VenueBooks
from gateways.hyperliquid.info_client import Coin, InfoClient
from gateways.hyperliquid.parsing import parse_account
from gateways.rate_limit import RateLimiter
from gateways.sandbox.hyperliquid import INFLUENCERS, Sandbox
from gateways.sandbox.hyperliquid.coins import COINS
from gateways.sandbox.hyperliquid.info import answer
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.market_data import ZERO_HASH, Trade
from gateways.sandbox.hyperliquid.traders import MAKERS
from gateways.venue_errors import VenueUnavailableError, WireError
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
        coins = (await info.coins()).listed
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


async def test_an_account_is_returned_unmodified_for_each_dex() -> None:
    async with asking(60) as (info, sandbox):
        held: dict[str, set[str]] = {"": set(), "xyz": set()}
        for who, dex in itertools.product(INFLUENCERS, held):
            payload = await info.account(who.address, dex)
            assert msgspec.json.decode(payload) == await ask(
                sandbox, type="clearinghouseState", user=who.address, dex=dex
            )
            positions = parse_account(payload).positions
            held[dex] |= {position.asset for position in positions}
    assert "BTC" in held[""]
    assert held["xyz"] == {"xyz:SP500"}


async def test_lots_are_requested_once_and_again_for_a_new_coin() -> None:
    async with asking(0.1) as (info, _):
        asked: list[str] = []
        call = info.call

        async def noting(body: dict[str, Any], *, attempts: int | None = None) -> bytes:
            asked.append(body["type"])
            return await call(body, attempts=attempts)

        info.call = noting  # type: ignore[method-assign]
        books = VenueBooks(info)
        for coin, step in (("SOL", "0.01"), ("BTC", "0.00001")):
            captured = await books.capture(coin)
            assert captured is not None
            assert (captured.terms.size_step_micros, captured.terms.market) == (micros(step), coin)
        assert asked == ["l2Book", "meta", "l2Book"], "known already"
        assert await books.capture("NOPE") is None


BTC, SP500 = {"szDecimals": 5, "name": "BTC"}, {"szDecimals": 3, "name": "xyz:SP500"}


def venue(**universes: object) -> Callable[[dict[str, Any]], object]:
    """A venue whose dex answers `meta` with this; '500' is an error of the server. The main dex is `main`."""

    def answer(body: dict[str, Any]) -> object:
        if body["type"] == "perpDexs":
            return [None, *({"name": name} for name in universes if name != "main"), {"no": "name"}, 5]
        if body["type"] == "l2Book":
            return {"coin": body["coin"], "time": 1, "levels": [[], []]}
        found = universes[body["dex"] or "main"]
        if found == "500":
            raise web.HTTPInternalServerError
        return found

    return answer


@pytest.mark.parametrize("broken", [None, "500", [], {"universe": None}, {"universe": {"a": 1}}, {"no": "universe"}])
async def test_a_dex_that_cannot_be_read_is_named_and_the_others_are_read(broken: object) -> None:
    dexes = venue(main={"universe": [BTC]}, qq=broken, xyz={"universe": [SP500]})
    with stamina.set_testing(True, attempts=1):
        async with answering(dexes) as (info, _, _):
            coins = await info.coins()
            books = VenueBooks(info)
            captured = await books.capture("BTC")
            assert captured is not None
            assert captured.terms.size_step_micros == 10
            with pytest.raises(VenueUnavailableError, match="the lot of qq:GOLD is not known"):
                await books.capture("qq:GOLD")
    assert list(coins.listed) == ["BTC", "xyz:SP500"]
    assert list(coins.unread_dexes) == ["qq"]
    assert coins.unread_dexes["qq"]
    assert (coins.is_unread("qq:GOLD"), coins.is_unread("xyz:GOLD"), coins.is_unread("ETH")) == (True, False, False)


async def test_a_dex_keeps_its_lots_while_it_cannot_be_read() -> None:
    universes: dict[str, object] = {"main": {"universe": [BTC]}, "xyz": {"universe": [SP500]}}
    async with answering(lambda body: venue(**universes)(body)) as (info, _, _):
        books = VenueBooks(info)
        await books.capture("xyz:SP500")
        universes["xyz"] = None
        with pytest.raises(VenueUnavailableError, match="the lot of xyz:NEW is not known"):
            await books.capture("xyz:NEW")
        captured = await books.capture("xyz:SP500")
    assert captured is not None
    assert captured.terms.size_step_micros == 1000


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        (None, "/1"),
        ({"name": "ODD"}, "ODD"),
        ({"name": "ODD", "szDecimals": 7}, "ODD"),
        ({"name": "ODD", "szDecimals": "5"}, "ODD"),
        ({"szDecimals": 5}, "/1"),
        ({"name": "", "szDecimals": 5}, "/1"),
        ("ODD", "/1"),
    ],
)
async def test_an_entry_that_cannot_be_read_is_named_and_the_others_are_read(entry: object, named: str) -> None:
    async with answering(venue(main={"universe": [BTC, entry, {"szDecimals": 2, "name": "SOL"}]})) as (info, _, _):
        coins = await info.coins()
    assert list(coins.listed) == ["BTC", "SOL"]
    assert list(coins.unread_coins) == [named]
    assert coins.is_unread("ODD") is (named == "ODD")


async def test_no_other_dex_changes_a_lot_of_the_main_one() -> None:
    async with answering(venue(main={"universe": [BTC]}, qq={"universe": [BTC | {"szDecimals": 0}]})) as (info, _, _):
        assert (await info.coins()).listed["BTC"] == Coin("BTC", 10)


@pytest.mark.parametrize("broken", [None, [], {"universe": 5}])
async def test_without_the_main_dex_there_are_no_coins(broken: object) -> None:
    async with answering(venue(main=broken, xyz={"universe": [SP500]})) as (info, _, _):
        with pytest.raises(WireError, match="not a universe"):
            await info.coins()


# --- failures ----------------------------------------------------------------------------------------------


async def test_a_429_is_retried() -> None:
    async with asking(0.1) as (info, sandbox):
        await order(sandbox, http_429=3)
        with stamina.set_testing(True, attempts=4, cap=True):
            assert await info.book("SOL", attempts=4) is not None
        assert (await order(sandbox))["http_429"] == 0


async def test_attempts_come_to_an_end() -> None:
    async with asking(0.1) as (info, sandbox):
        await order(sandbox, http_429=3)
        with stamina.set_testing(True, attempts=2, cap=True), pytest.raises(VenueUnavailableError, match="HTTP 429"):
            await info.book("SOL", attempts=2)
        assert (await order(sandbox))["http_429"] == 1


async def test_a_refusal_is_not_retried_and_names_the_request() -> None:
    async with asking(0.1) as (info, _):
        with pytest.raises(WireError, match=r"'type': 'noSuchType'.*HTTP 422: b'Failed to deserialize"):
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
            with pytest.raises(VenueUnavailableError, match=r"'meta'.*HTTP 502"):
                await info.call({"type": "meta"}, attempts=1)
    finally:
        await runner.cleanup()


async def test_a_client_is_used_inside_async_with() -> None:
    with pytest.raises(AssertionError, match="async with"):
        await InfoClient("http://127.0.0.1:1").book("SOL")


# --- fills -------------------------------------------------------------------------------------------------

USER, START = INFLUENCERS[0].address, ORIGIN_NS // 1_000_000


class Counting(RateLimiter):
    """A limiter that never makes a request wait, adds up what is spent and notes pauses."""

    def __init__(self) -> None:
        super().__init__(1_000, 1_000)
        self.spent = 0.0
        self.pauses: list[float] = []

    async def spend(self, weight: float = 1.0) -> None:
        self.spent += weight

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def market(times: list[int], *, sliced: Collection[int] = ()) -> Market:
    """A market where the user buys at these times (ms after the start); the numbers in `sliced` are TWAP slices."""
    made = Market()
    made.list_coins(COINS)
    for number, time in enumerate(times):
        tx = ZERO_HASH if number in sliced else f"0x{number:064x}"
        one = Trade("BTC", "B", Decimal(60_000), Decimal("0.1"), START + time, tx, number + 1, (USER, MAKERS[0]))
        made.settle(one, 2, 1, 5 if number in sliced else None)
    return made


@asynccontextmanager
async def answering(
    answer_to: Callable[[dict[str, Any]], object],
) -> AsyncIterator[tuple[InfoClient, Counting, list[Any]]]:
    """A server of `/info`, its client, the client's limiter, and the requests that it sent."""
    asked: list[Any] = []

    async def answered(request: web.Request) -> web.Response:
        body = await request.json()
        content = answer_to(body)
        asked.append(body | {"rows": len(content) if isinstance(content, list) else 0})
        return web.Response(body=msgspec.json.encode(content))

    app = web.Application()
    app.router.add_post("/info", answered)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    limiter = Counting()
    try:
        async with InfoClient(f"http://127.0.0.1:{runner.addresses[0][1]}", limiter=limiter) as info:
            yield info, limiter, asked
    finally:
        await runner.cleanup()


def tids(rows: list[msgspec.Raw]) -> list[int]:
    return [msgspec.json.decode(row).get("fill", msgspec.json.decode(row))["tid"] for row in rows]


async def test_fills_are_complete_over_pages_in_order_each_once_with_the_slices() -> None:
    # Eleven fills every ten milliseconds, so that pages end inside a millisecond; every 50th a slice.
    times, sliced = [number // 11 * 10 for number in range(4_700)], set(range(0, 4_700, 50))
    made = market(times, sliced=sliced)
    async with answering(lambda body: answer(made, 0, body)) as (info, limiter, asked):
        rows = await info.user_fills(USER, START, START + 1_000_000)
        assert sorted(tids(rows)) == list(range(1, 4_701))
        plain = [tid for tid in tids(rows) if tid - 1 not in sliced]
        assert plain == sorted(plain), "the venue's order, inside a millisecond too"
        found = [msgspec.json.decode(row) for row in rows]
        assert [row.get("fill", row)["time"] for row in found] == [START + time for time in times]
        assert {row["tid"]: row for row in found if "tid" in row}[2] == made.accounts[USER].fills[1].wire(), (
            "unmodified"
        )
        assert sum("twapId" in row and "fill" in row for row in found) == len(sliced) == 94
    # A page of 600 might be a full one of a venue with smaller pages.
    assert [(body["type"], body["rows"] // 100) for body in asked] == [
        ("userFillsByTime", 20), ("userFillsByTime", 20), ("userFillsByTime", 6), ("userFillsByTime", 0),
        ("userTwapSliceFillsByTime", 0),
    ]  # fmt: skip
    assert limiter.spent == sum(20 + math.ceil(body["rows"] / 20) for body in asked) == 5 * 20 + 237


async def test_no_fills_cost_two_requests() -> None:
    async with answering(lambda body: []) as (info, limiter, asked):
        assert await info.user_fills(USER, START, START + 5) == []
        assert limiter.spent == 40
    assert [(body["startTime"], body["endTime"], body["user"]) for body in asked] == [(START, START + 5, USER)] * 2


async def test_only_fills_of_the_time_asked_for() -> None:
    made = market(list(range(100)))
    async with answering(lambda body: answer(made, 0, body)) as (info, _, _):
        assert tids(await info.user_fills(USER, START + 10, START + 19)) == list(range(11, 21))


async def test_more_fills_in_a_millisecond_than_a_page_holds_do_not_loop() -> None:
    made = market([0, *[5] * 2_500, 6])
    async with answering(lambda body: answer(made, 0, body)) as (info, _, asked):
        found = tids(await info.user_fills(USER, START, START + 1_000))
    assert len(found) == len(set(found)) == 2_002
    assert (found[0], found[-1]) == (1, 2_502)
    assert len(asked) == 5


async def test_a_fill_in_both_answers_comes_once() -> None:
    both = market([1, 2, 3]).accounts[USER].fills
    rows = [fill.wire() for fill in both]

    def content(body: dict[str, Any]) -> object:
        return rows if body["type"] == "userFillsByTime" else [{"fill": row, "twapId": 5} for row in rows]

    async with answering(content) as (info, _, _):
        assert tids(await info.user_fills(USER, START, START + 9)) == [1, 2, 3]


async def test_a_row_that_cannot_be_read_keeps_its_place() -> None:
    first, last = (fill.wire() for fill in market([1, 2]).accounts[USER].fills)
    bad = {"coin": "BTC", "px": 5}
    async with answering(lambda body: [first, bad, last] if body["type"] == "userFillsByTime" else []) as (info, _, _):
        assert [msgspec.json.decode(row) for row in await info.user_fills(USER, START, START + 9)] == [first, bad, last]


async def test_a_short_page_newest_first_is_put_in_order() -> None:
    rows = [fill.wire() for fill in market([1, 2, 3]).accounts[USER].fills]
    async with answering(lambda body: rows[::-1] if body["type"] == "userFillsByTime" else []) as (info, _, _):
        assert tids(await info.user_fills(USER, START, START + 9)) == [1, 2, 3]


@pytest.mark.parametrize("turned", [True, False], ids=["newest first", "another time"])
async def test_a_long_page_without_a_place_to_continue_is_refused(turned: bool) -> None:
    rows = [fill.wire() for fill in market(list(range(600))).accounts[USER].fills]
    rows = rows[::-1] if turned else rows
    async with answering(lambda body: rows) as (info, _, _):
        with pytest.raises(WireError, match=r"userFillsByTime of 0x.* from .*: rows from"):
            await info.user_fills(USER, START if turned else START + 1_000, START + 5_000)


@pytest.mark.parametrize("content", [{}, None, "x", 5])
async def test_fills_that_are_no_list_are_refused(content: object) -> None:
    async with answering(lambda body: content) as (info, _, _):
        with pytest.raises(WireError, match="userFillsByTime: not a list of rows"):
            await info.user_fills(USER, START, START)


@pytest.mark.parametrize(("question", "weight"), [("l2Book", 2), ("clearinghouseState", 2), ("meta", 20)])
async def test_every_call_spends_its_weight(question: str, weight: int) -> None:
    limiter = Counting()
    async with played(0.1) as sandbox, InfoClient(sandbox.url, limiter=limiter) as info:
        await info.call({"type": question, "coin": "SOL", "user": INFLUENCERS[0].address, "dex": ""})
        assert limiter.spent == weight
        await order(sandbox, http_429=2)
        with stamina.set_testing(True, attempts=3, cap=True):
            await info.call({"type": question, "coin": "SOL", "user": INFLUENCERS[0].address, "dex": ""})
    assert limiter.spent == weight * 4, "every attempt costs what the first did"
    assert len(limiter.pauses) == 2, "and a 429 closes the limiter"


async def test_the_session_is_closed_at_the_end() -> None:
    async with asking(0.1) as (info, _):
        await info.book("SOL")
    with pytest.raises((VenueUnavailableError, RuntimeError, aiohttp.ClientError)):
        await info.call({"type": "l2Book", "coin": "SOL"}, attempts=1)
