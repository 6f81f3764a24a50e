"""Market data from a local CLOB and a local Gamma: books with their terms, marks, markets by id and by token."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from domain.events import Terms
from domain.micros import MICRO
from gateways.polymarket.books import PolymarketBooks
from gateways.polymarket.clob import Clob
from gateways.polymarket.gamma import Gamma, parse_market
from gateways.venue_errors import VenueUnavailableError, WireError
from tests.gateways.test_http_client import LocalServer, client, reply, serving
from tests.gateways.test_polymarket_market import NO, YES, book, market

OPEN = {"closed": False, "acceptingOrders": True, "umaResolutionStatus": None, "automaticallyResolved": None}


def condition(number: int) -> str:
    return f"0x{number:064x}"


def listing(*held: bytes) -> Any:
    """`GET /markets` as Gamma answers it: by default open markets only, and 20 at most."""
    objects = [json.loads(one) for one in held]

    def answer(request: web.Request) -> web.Response:
        closed = request.query.get("closed", "false") == "true"
        ids = request.query.getall("condition_ids", [])
        tokens = request.query.getall("clob_token_ids", [])
        found = [
            one
            for one in objects
            if one["closed"] == closed
            and (not ids or one["conditionId"] in ids)
            and (not tokens or set(tokens) & set(json.loads(one["clobTokenIds"])))
        ]
        return web.json_response(found[: int(request.query.get("limit", "20"))])

    return answer


def gamma(ask: Any, server: LocalServer) -> Gamma:
    return Gamma(ask, f"{server.url}/gamma")


def clob(ask: Any, server: LocalServer) -> Clob:
    return Clob(ask, f"{server.url}/clob")


# --- the CLOB ------------------------------------------------------------------------------------------------


async def test_a_book_of_a_token() -> None:
    async with serving() as server, client() as ask:
        server.on("/clob/book", lambda _: web.Response(body=book([("0.4", "1")], [("0.6", "2")])))
        found = await clob(ask, server).book(YES)
        assert found is not None
        assert (found.bids, found.asks) == (((400_000, MICRO),), ((600_000, 2 * MICRO),))
        assert server.values("token_id") == [YES]


async def test_after_the_market_has_ended_there_is_no_book() -> None:
    async with serving() as server, client() as ask:
        server.on("/clob/book", reply({"error": "No orderbook exists for the requested token id"}, 404))
        assert await clob(ask, server).book(YES) is None
        assert await clob(ask, server).last_trade_price(YES) is None
        assert await clob(ask, server).midpoints([YES]) == {}


async def test_the_book_of_another_token_is_refused() -> None:
    async with serving() as server, client() as ask:
        server.on("/clob/book", lambda _: web.Response(body=book([], [], asset_id=NO)))
        with pytest.raises(WireError, match=f"the book of {NO} came for {YES}"):
            await clob(ask, server).book(YES)


async def test_midpoints_come_in_parts_and_a_bad_one_hides_no_other() -> None:
    def answer(request: web.Request) -> web.Response:
        return web.json_response({"1": "0.5", "2": "0.50005", "3": "NaN", "4": "0", "5": "1", "6": None, "777": "0.1"})

    async with serving() as server, client() as ask:
        server.on("/clob/midpoints", answer)
        tokens = [str(number) for number in range(1, 202)]
        assert await clob(ask, server).midpoints([*tokens, "1"]) == {"1": 500_000, "2": 500_050}
        assert [len(body) for body in server.bodies] == [200, 1]
        assert server.bodies[0][0] == {"token_id": "1"}
        assert await clob(ask, server).midpoints([]) == {}


async def test_a_token_that_never_traded_has_no_last_price() -> None:
    async with serving() as server, client() as ask:
        server.on(
            "/clob/last-trade-price",
            reply({"price": "0.47", "side": "BUY"}),
            reply({"price": "0.5", "side": ""}),
            reply({"price": "0", "side": "SELL"}),
        )
        assert await clob(ask, server).last_trade_price(YES) == 470_000
        assert await clob(ask, server).last_trade_price(YES) is None
        with pytest.raises(WireError, match="not between 0 and 1"):
            await clob(ask, server).last_trade_price(YES)


# --- Gamma ---------------------------------------------------------------------------------------------------


async def test_markets_by_id_are_found_open_or_closed() -> None:
    held = [market(conditionId=condition(n), **({} if n % 3 == 0 else OPEN)) for n in range(50)]
    async with serving() as server, client() as ask:
        server.on("/gamma/markets", listing(*held))
        wanted = [condition(n) for n in range(48)]
        found = await gamma(ask, server).markets([*wanted, condition(999), condition(1)])
        assert set(found) == set(wanted)
        assert all(parse_market(bytes(raw)).market == key for key, raw in found.items())
        assert [parse_market(bytes(found[condition(n)])).closed for n in range(4)] == [True, False, False, True]


async def test_markets_that_were_not_requested_are_left_out() -> None:
    async with serving() as server, client() as ask:
        body = [json.loads(market(conditionId=condition(n))) for n in (1, 2)]
        server.on("/gamma/markets", reply(body))
        assert set(await gamma(ask, server).markets([condition(2)])) == {condition(2)}
        assert await gamma(ask, server).markets([]) == {}


async def test_the_market_of_a_token_is_the_one_that_has_it() -> None:
    async with serving() as server, client() as ask:
        server.on("/gamma/markets", listing(market(conditionId=condition(1)), market(**OPEN, clobTokenIds='["5","6"]')))
        questions = gamma(ask, server)
        ended, running = await questions.market_of(NO), await questions.market_of("6")
        assert ended is not None
        assert parse_market(bytes(ended)).market == condition(1)
        assert running is not None
        assert [one.asset for one in parse_market(bytes(running)).outcomes] == ["5", "6"]
        assert await questions.market_of("7") is None
        server.on("/gamma/markets", reply([json.loads(market())]))
        assert await questions.market_of("7") is None


@pytest.mark.parametrize("body", [{}, [5], [{"question": "?"}], None])
async def test_a_payload_that_is_no_listing_is_refused(body: Any) -> None:
    async with serving() as server, client() as ask:
        server.on("/gamma/markets", reply(body))
        with pytest.raises(WireError, match="not a list of markets"):
            await gamma(ask, server).markets([condition(1)])


async def test_a_profile_resolves_an_address_to_its_wallets() -> None:
    owner, wallet = "0x" + "0A" * 20, "0x" + "Bb" * 20
    async with serving() as server, client() as ask:
        assert await gamma(ask, server).profile(owner) is None
        server.on(
            "/gamma/public-profile",
            reply({"proxyWallet": wallet, "name": "bees"}),
            reply({}),
            reply({"error": "x"}, 400),
        )
        profile = await gamma(ask, server).profile(owner)
        assert profile is not None
        assert (profile.proxy_wallets, profile.name) == ((wallet.lower(),), "bees")
        assert json.loads(bytes(profile.payload))["proxyWallet"] == wallet
        assert await gamma(ask, server).profile(owner) is None
        with pytest.raises(WireError, match="HTTP 400: x"):
            await gamma(ask, server).profile(owner)
        assert set(server.values("address")) == {owner.lower()}


# --- both ----------------------------------------------------------------------------------------------------


def books(ask: Any, server: LocalServer, **options: Any) -> PolymarketBooks:
    return PolymarketBooks(clob(ask, server), gamma(ask, server), **options)


async def test_a_capture_has_the_book_and_the_terms_of_its_market() -> None:
    async with serving() as server, client() as ask:
        server.on("/clob/book", lambda _: web.Response(body=book([("0.4", "1")], [])))
        server.on("/gamma/markets", listing(market(**OPEN)))
        captured = await books(ask, server).capture(YES)
        assert captured is not None
        assert captured.book.bids == ((400_000, MICRO),)
        assert captured.terms == Terms(
            size_step_micros=10_000,
            tick_micros=1_000,
            min_share_micros=5 * MICRO,
            min_notional_micros=MICRO,
            fee_rate_micros=50_000,
            closes_at=1_830_315_600 * 10**9,
            accepting=True,
            market="0x" + "ab" * 32,
        )


async def test_without_a_book_there_is_no_capture_and_without_a_market_there_are_no_terms() -> None:
    async with serving() as server, client() as ask:
        assert await books(ask, server).capture(YES) is None
        server.on("/clob/book", lambda _: web.Response(body=book([], [])))
        with pytest.raises(WireError, match="Gamma knows no market with the token"):
            await books(ask, server).capture(YES)


async def test_a_market_is_requested_once_a_minute_however_many_want_it() -> None:
    async with serving() as server, client() as ask:
        server.on("/clob/book", lambda _: web.Response(body=book([], [])))
        server.on("/gamma/markets", listing(market(**OPEN)))
        some = books(ask, server, market_seconds=0.2)
        await asyncio.gather(*(some.capture(YES) for _ in range(10)))
        await some.capture(YES)
        assert [path for path, _ in server.asked].count("/gamma/markets") == 1
        await asyncio.sleep(0.25)
        await some.capture(YES)
        assert [path for path, _ in server.asked].count("/gamma/markets") == 2


async def test_a_failed_request_for_a_market_is_repeated() -> None:
    async with serving() as server, client(attempts=1) as ask:
        server.on("/clob/book", lambda _: web.Response(body=book([], [])))
        server.on("/gamma/markets", reply({}, 500), listing(market(**OPEN)))
        some = books(ask, server)
        with pytest.raises(VenueUnavailableError):
            await some.capture(YES)
        assert await some.capture(YES) is not None


async def test_a_cancelled_capture_does_not_cancel_the_market_of_the_others() -> None:
    async with serving() as server, client() as ask:
        server.on("/clob/book", lambda _: web.Response(body=book([], [])))
        server.on("/gamma/markets", listing(market(**OPEN)))
        some = books(ask, server)
        first, second = (asyncio.create_task(some.capture(YES)) for _ in range(2))
        while "/gamma/markets" not in [path for path, _ in server.asked]:
            await asyncio.sleep(0)
        first.cancel()
        assert await second is not None
        assert first.cancelled()
