"""The CLOB and the market channel of the sandbox."""

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from gateways.sandbox.polymarket import MARKETS, FlowSource
from gateways.sandbox.polymarket.traders import MAKER
from tests.gateways.test_sandbox_polymarket_data import ORIGIN_NS, SEED, Client, Clock, played, serving

BRIEF = MARKETS[0]
OPEN = MARKETS[3]
BOOK_KEYS = (
    "market asset_id timestamp hash bids asks min_order_size tick_size neg_risk last_trade_price".split()  # noqa: SIM905
)


class Channel:
    """A client of the market channel that takes arrays apart."""

    def __init__(self, connection: ClientConnection, advance: Callable[[], None]) -> None:
        self.connection = connection
        self._advance = advance
        self.waiting: list[Any] = []

    async def send(self, message: object) -> None:
        await self.connection.send(message if isinstance(message, str) else json.dumps(message))

    async def raw(self, timeout_s: float = 2.0) -> str:
        frame = await asyncio.wait_for(self.connection.recv(), timeout_s)
        assert isinstance(frame, str)
        return frame

    async def rest(self, timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """Every event that the venue has sent by now: all that comes before the answer to a PING."""
        self._advance()
        await self.send("PING")
        events: list[dict[str, Any]] = []
        while (frame := await self.raw(timeout_s)) != "PONG":
            message = json.loads(frame)
            events += message if isinstance(message, list) else [message]
        return events


@asynccontextmanager
async def listening(client: Client, *tokens: str, custom: bool = True) -> AsyncIterator[Channel]:
    async with websockets.connect(client.sandbox.market_ws_url, max_queue=None) as connection:
        channel = Channel(connection, client.sandbox.venue.advance)
        if tokens:
            await channel.send({"assets_ids": list(tokens), "type": "market", "custom_feature_enabled": custom})
        yield channel


async def test_a_book_has_its_best_levels_last_and_the_venues_hash() -> None:
    async with played() as client:
        for token in OPEN.tokens:
            body = await client.get("/clob/book", token_id=token)
            bids, asks = ([Decimal(level["price"]) for level in body[side]] for side in ("bids", "asks"))
            assert bids == sorted(bids)
            assert asks == sorted(asks, reverse=True)
            assert bids[-1] < asks[-1]
            payload = body | {"hash": ""}
            compact = json.dumps(payload, separators=(",", ":")).encode()
            assert body["hash"] == hashlib.sha1(compact).hexdigest()
            assert list(body) == BOOK_KEYS
            mid = (await client.get("/clob/midpoint", token_id=token))["mid"]
            assert Decimal(mid) == (bids[-1] + asks[-1]) / 2
            assert Decimal((await client.get("/clob/price", token_id=token, side="BUY"))["price"]) == bids[-1]
            assert Decimal((await client.get("/clob/price", token_id=token, side="sell"))["price"]) == asks[-1]
        mids = await client.post("/clob/midpoints", [{"token_id": token} for token in OPEN.tokens])
        assert sum(map(Decimal, mids.values())) == 1


async def test_recorded_books_have_the_same_shape() -> None:
    folder = os.environ.get("VIBE_TEST_RECORDINGS")
    if not folder:
        pytest.skip("VIBE_TEST_RECORDINGS is not set: no recordings to compare with")
    real = json.loads((Path(folder) / "polymarket" / "rest_book_trimmed_2026-08-19.json").read_text())
    async with played(1) as client:
        made = await client.get("/clob/book", token_id=OPEN.tokens[0])
        assert set(real) <= set(made)
        assert all(type(made[key]) is type(value) for key, value in real.items())
        assert made["bids"][0].keys() == real["bids"][0].keys()


async def test_batches_leave_out_what_has_no_book() -> None:
    async with played() as client:
        asked = [{"token_id": token} for token in (OPEN.tokens[0], BRIEF.tokens[0], "17", OPEN.tokens[1])]
        books = await client.post("/clob/books", asked)
        assert [book["asset_id"] for book in books] == list(OPEN.tokens)
        mids = await client.post("/clob/midpoints", asked)
        assert list(mids) == list(OPEN.tokens)
        prices = await client.post("/clob/prices", [{"token_id": OPEN.tokens[0], "side": "BUY"}])
        assert set(prices[OPEN.tokens[0]]) == {"BUY"}
        async with client.http.post(client.sandbox.clob_url + "/books", data=b"{") as response:
            assert response.status == 400


async def test_books_are_gone_once_a_market_has_ended_and_the_last_print_stays() -> None:
    clock = Clock(9.9)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client:
        assert (await client.ask("/clob/book", token_id=BRIEF.tokens[0])).status == 200
        clock.advance(0.2)
        gone = await client.ask("/clob/book", token_id=BRIEF.tokens[0])
        assert (gone.status, await gone.json()) == (404, {"error": "No orderbook exists for the requested token id"})
        assert (await client.ask("/clob/midpoint", token_id=BRIEF.tokens[0])).status == 404
        last = await client.get("/clob/last-trade-price", token_id=BRIEF.tokens[0])
        assert 0 < Decimal(last["price"]) < 1
        assert last["side"] in ("BUY", "SELL")
        assert (await client.get("/gamma/markets", condition_ids=BRIEF.condition))[0]["acceptingOrders"] is False
        nothing = await client.ask("/clob/book")
        assert (nothing.status, await nothing.json()) == (400, {"error": "Invalid token id"})
        assert await client.get("/clob/last-trade-price", token_id="17") == {"price": "0.5", "side": ""}


async def test_what_is_fixed_about_a_market() -> None:
    async with played(1) as client:
        listing = MARKETS[5]
        token = listing.tokens[1]
        assert await client.get("/clob/tick-size", token_id=token) == {"minimum_tick_size": 0.001}
        assert await client.get("/clob/neg-risk", token_id=token) == {"neg_risk": True}
        assert await client.get("/clob/fee-rate", token_id=token) == {"base_fee": 1000}
        by_token = await client.get(f"/clob/markets-by-token/{token}")
        assert by_token == {
            "condition_id": listing.condition,
            "primary_token_id": listing.tokens[0],
            "secondary_token_id": token,
        }
        short = await client.get(f"/clob/clob-markets/{listing.condition}")
        assert (short["mos"], short["mts"], short["fd"]) == (5, 0.001, {"r": 0.04, "e": 1, "to": True})
        assert short["t"] == [{"t": one, "o": o} for one, o in zip(listing.tokens, listing.outcomes, strict=True)]
        free = next(one for one in MARKETS if not one.fee_rate_micros)
        assert "fd" not in await client.get(f"/clob/clob-markets/{free.condition}")
        assert (await client.get(f"/clob/markets/{listing.condition}"))["minimum_tick_size"] == 0.001
        assert (await client.ask("/clob/markets/0x12")).status == 404


async def test_the_channel_opens_with_books_and_answers_ping() -> None:
    async with played(1) as client, listening(client, *OPEN.tokens, "17") as channel:
        books = json.loads(await channel.raw())
        assert [(book["event_type"], book["asset_id"]) for book in books] == [("book", token) for token in OPEN.tokens]
        assert {k: v for k, v in books[0].items() if k != "event_type"} == await client.get(
            "/clob/book", token_id=OPEN.tokens[0]
        )
        await channel.send("PING")
        assert await channel.raw() == "PONG"
        await channel.send("what")
        assert await channel.raw() == "INVALID OPERATION"


async def test_a_book_follows_every_trade_and_changes_keep_it_right_in_between() -> None:
    clock = Clock(0)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client:
        tokens = [token for listing in MARKETS for token in listing.tokens]
        async with listening(client, *tokens) as channel:
            await channel.raw()
            for _ in range(18):
                clock.advance(0.5)
                await asyncio.sleep(0.025)
            events = await channel.rest()
            now = {token: await client.get("/clob/book", token_id=token) for token in tokens}
    count = Counter(event["event_type"] for event in events)
    assert count["last_trade_price"] > 20
    assert count["book"] == 2 * count["last_trade_price"], "one for each token"
    assert count["price_change"] > 10
    assert count["best_bid_ask"] >= count["book"]
    books: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["event_type"] == "book":
            books[event["asset_id"]] = {
                side: {level["price"]: level["size"] for level in event[side]} for side in ("bids", "asks")
            }
        if event["event_type"] == "price_change":
            assert [change["asset_id"] for change in event["price_changes"]] == list(
                next(one.tokens for one in MARKETS if one.condition == event["market"])
            )
            for change in event["price_changes"]:
                if change["asset_id"] not in books:
                    continue
                levels = books[change["asset_id"]]["bids" if change["side"] == "BUY" else "asks"]
                levels.pop(change["price"], None)
                if change["size"] != "0":
                    levels[change["price"]] = change["size"]
    assert len(books) >= 10
    for token, sides in books.items():
        for side in ("bids", "asks"):
            assert sides[side] == {level["price"]: level["size"] for level in now[token][side]}


async def test_prints_join_to_wallets_by_their_transaction() -> None:
    clock = Clock(0)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client:
        tokens = [token for listing in MARKETS for token in listing.tokens]
        async with listening(client, *tokens, custom=False) as channel:
            await channel.raw()
            clock.advance(8)
            prints = [event for event in await channel.rest() if event["event_type"] == "last_trade_price"]
            clock.advance(6)
            rows = await client.walk("/data/v2/trades", limit=1000, filter_amount="0.000001")
    by_transaction = {row["transaction_hash"]: row for row in rows}
    assert len(prints) > 20
    for event in prints:
        row = by_transaction[event["transaction_hash"]]
        assert (event["asset_id"], event["side"]) == (row["token_id"], row["side"])
        assert Decimal(event["size"]) == Decimal(str(row["size"]))


async def test_unsubscribed_tokens_are_quiet_and_the_end_is_sent_to_those_who_asked_for_it() -> None:
    clock = Clock(9.5)
    async with (
        serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client,
        listening(client, *BRIEF.tokens) as custom,
        listening(client, *BRIEF.tokens, custom=False) as plain,
    ):
        await custom.raw()
        await plain.raw()
        await plain.send({"operation": "subscribe", "assets_ids": [OPEN.tokens[0]]})
        await plain.raw()
        await plain.send({"operation": "unsubscribe", "assets_ids": [OPEN.tokens[0]]})
        await plain.send("PING")
        assert await plain.raw() == "PONG"
        clock.advance(3)
        end = (await custom.rest())[-1]
        winner = json.loads((await client.get("/gamma/markets", closed="true"))[0]["outcomePrices"]).index("1")
        assert end == {
            "event_type": "market_resolved",
            "id": BRIEF.gamma_id,
            "market": BRIEF.condition,
            "assets_ids": list(BRIEF.tokens),
            "winning_asset_id": BRIEF.tokens[winner],
            "winning_outcome": BRIEF.outcomes[winner],
            "timestamp": str(ORIGIN_NS // 1_000_000 + 12_000),
        }
        heard = await plain.rest()
        assert {event["market"] for event in heard} <= {BRIEF.condition}
        assert "market_resolved" not in {event["event_type"] for event in heard}
        assert MAKER.address not in json.dumps(heard), "no wallet anywhere"
