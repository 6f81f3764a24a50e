"""The Data API of the sandbox: rows, windows, pages, accounts that are the fold of what is served, error bodies."""

import itertools
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import aiohttp
from hypothesis import given, settings
from hypothesis import strategies as st

from gateways.sandbox.polymarket import INFLUENCERS, MARKETS, FlowSource, Limits, PolymarketSandbox, data_v1, data_v2
from gateways.sandbox.polymarket.faults import Faults
from gateways.sandbox.polymarket.query import Parameters
from gateways.sandbox.polymarket.sources import Source
from gateways.sandbox.polymarket.traders import MAKER, SPLITTER, TAKER
from gateways.sandbox.polymarket.venue import Venue

ORIGIN_S = 1_767_225_600
ORIGIN_NS = ORIGIN_S * 1_000_000_000
SEED = 7
MICRO = Decimal(1_000_000)
_busters = itertools.count()


class Clock:
    """A clock that moves when a test advances it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.ns = ORIGIN_NS + round(seconds * 1e9)

    def __call__(self) -> int:
        return self.ns

    def advance(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


class Client:
    """Asks a sandbox; `get` adds a parameter that changes, so that no cache answers."""

    def __init__(self, sandbox: PolymarketSandbox, http: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.http = http

    async def ask(self, path: str, *, buster: bool = True, **query: Any) -> aiohttp.ClientResponse:
        params = {key: str(value) for key, value in query.items()} | ({"_": str(next(_busters))} if buster else {})
        async with self.http.get(self.sandbox.url + path, params=params) as response:
            await response.read()
            return response

    async def get(self, path: str, **query: Any) -> Any:
        response = await self.ask(path, **query)
        assert response.status == 200, await response.text()
        return await response.json()

    async def post(self, path: str, body: object) -> Any:
        async with self.http.post(self.sandbox.url + path, json=body) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def fault(self, **order: object) -> Any:
        return await self.post("/sandbox/faults", order)

    async def walk(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All pages of a version 2 route."""
        rows: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await self.get(path, **query, **cursor)
            rows += page["data"]
            assert page["pagination"]["has_more"] == (page["pagination"]["next_cursor"] is not None)
            if not page["pagination"]["has_more"]:
                return rows
            cursor = {"cursor": page["pagination"]["next_cursor"]}


@asynccontextmanager
async def serving(source: Source, clock: Clock | None = None, limits: Limits | None = None) -> AsyncIterator[Client]:
    async with (
        PolymarketSandbox(source, clock=clock or Clock(), limits=limits) as sandbox,
        aiohttp.ClientSession() as http,
    ):
        yield Client(sandbox, http)


@asynccontextmanager
async def played(seconds: float = 26.0, **limits: Any) -> AsyncIterator[Client]:
    """A venue at rest `seconds` after the origin; nothing happens from second 20 on."""
    source = FlowSource(SEED, origin_ns=ORIGIN_NS, horizon_s=min(seconds, 20.0))
    async with serving(source, Clock(seconds), Limits(**limits)) as client:
        yield client


def venue(seed: int, seconds: float, *, tie: bool = False) -> Venue:
    """A venue without a server, at rest."""
    return Venue(FlowSource(seed, origin_ns=ORIGIN_NS, tie=tie), Faults(), Clock(seconds), Limits())


def folded(rows: list[dict[str, Any]]) -> tuple[Decimal, dict[str, Decimal]]:
    """Cash and shares by token that the rows of one wallet, oldest first, add up to."""
    cash = Decimal(0)
    shares: defaultdict[str, Decimal] = defaultdict(Decimal)
    tokens = {listing.condition: listing.tokens for listing in MARKETS}
    for row in rows:
        size, usdc = Decimal(str(row["size"])), Decimal(str(row["usdc_size"]))
        both = tokens.get(row["condition_id"], ())
        match row["type"], row["side"]:
            case "TRADE", "BUY":
                cash -= usdc
                shares[row["token_id"]] += size
            case "TRADE", "SELL":
                cash += usdc
                shares[row["token_id"]] -= size
            case "SPLIT", "":
                cash -= usdc
                for token in both:
                    shares[token] += size
            case "MERGE", "":
                cash += usdc
                for token in both:
                    shares[token] -= size
            case "REDEEM", "":
                cash += usdc
                for token in [row["token_id"]] if row["token_id"] else both:
                    shares[token] = Decimal(0)
            case _:
                cash += usdc
        assert min(shares.values(), default=Decimal(0)) >= 0
    return cash, {token: size for token, size in shares.items() if size}


def walked(at: Venue, wallet: str, limit: int) -> list[dict[str, Any]]:
    query = {"user": wallet, "limit": str(limit), "sort_direction": "ASC", "exclude_deposits_withdrawals": "false"}
    rows: list[dict[str, Any]] = []
    while True:
        page: Any = data_v2.activity(at, Parameters(query))
        rows += page["data"]
        if not page["pagination"]["has_more"]:
            return rows
        query["cursor"] = page["pagination"]["next_cursor"]


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    seconds=st.floats(-5, 90),
    limit=st.integers(1, 60),
    tie=st.booleans(),
    who=st.sampled_from(INFLUENCERS),
)
def test_the_served_account_is_the_fold_of_the_served_activity(
    seed: int, seconds: float, limit: int, tie: bool, who: Any
) -> None:
    at = venue(seed, seconds, tie=tie)
    cash, shares = folded(walked(at, who.address, limit))
    account = at.feed.ledger.account(who.address)
    assert cash * MICRO == account.cash_micros
    rows: Any = data_v1.positions(at, Parameters({"user": who.address, "sizeThreshold": "0", "limit": "500"}))
    assert {row["asset"]: Decimal(str(row["size"])) for row in rows} == shares
    second: Any = data_v2.positions(at, Parameters({"user": who.address, "filter_amount": "0.000001", "limit": "500"}))
    assert {row["token_id"]: Decimal(str(row["current_size"])) for row in second["data"]} == shares
    value: Any = data_v1.value(at, Parameters({"user": who.address}))
    worth = sum(Decimal(str(row["currentValue"])) for row in rows)
    assert Decimal(str(value[0]["value"])) == worth


async def test_rows_come_four_to_five_seconds_after_the_match_and_logs_earlier() -> None:
    at = venue(SEED, -5)
    clock = at._clock
    assert isinstance(clock, Clock)
    shown: dict[str, int] = {}
    mined: dict[str, int] = {}
    for _ in range(260):
        clock.advance(0.1)
        at.advance()
        for row in at.feed.rows:
            shown.setdefault(row.transaction, clock.ns)
        for number in (at.chain.head,):
            for name in at.chain.block(number)["transactions"]:  # type: ignore[attr-defined]
                mined.setdefault(name, clock.ns)
    matched = {
        action.transaction: ORIGIN_NS + action.offset_ms * 1_000_000
        for action in itertools.takewhile(lambda action: action.offset_ms < 15_000, FlowSource(SEED).actions())
        if action.offset_ms >= 0 and hasattr(action, "transaction")
    }
    assert len(matched) > 60
    row_delays = [(shown[name] - matched[name]) / 1e9 for name in matched]
    log_delays = [(mined[name] - matched[name]) / 1e9 for name in matched]
    assert min(row_delays) >= 3.4
    assert max(row_delays) <= 5.7
    assert 4 <= sum(row_delays) / len(row_delays) <= 5
    assert min(log_delays) >= 0.9
    assert 1.6 <= sum(log_delays) / len(log_delays) <= 2.4


async def test_both_versions_serve_the_same_rows_in_their_own_shapes() -> None:
    async with played() as client:
        first = await client.get("/data/activity", user=TAKER.address, limit=500)
        second = await client.walk("/data/v2/activity", user=TAKER.address.upper().replace("X", "x"), limit=3)
        assert len(first) == len(second) > 10
        names = {"proxyWallet": "proxy_wallet", "conditionId": "condition_id", "asset": "token_id"}
        for old, new in zip(first, second, strict=True):
            assert list(old)[:6] == ["proxyWallet", "timestamp", "conditionId", "type", "size", "usdcSize"]
            for key, value in old.items():
                snake = names.get(key) or "".join("_" + c.lower() if c.isupper() else c for c in key)
                assert new[snake] == value
        trades = await client.get("/data/trades", user=TAKER.address, limit=500)
        assert [row["transactionHash"] for row in trades] == [
            row["transactionHash"] for row in first if row["type"] == "TRADE"
        ]
        assert list(trades[0]) == [
            "proxyWallet",
            "side",
            "asset",
            "conditionId",
            "size",
            "price",
            "timestamp",
            "title",
            "slug",
            "icon",
            "eventSlug",
            "outcome",
            "outcomeIndex",
            "name",
            "pseudonym",
            "bio",
            "profileImage",
            "profileImageOptimized",
            "transactionHash",
        ]
        assert [row["timestamp"] for row in first] == sorted((row["timestamp"] for row in first), reverse=True)


async def test_the_fee_shows_in_usdc_size_and_rows_without_an_outcome_have_their_nulls() -> None:
    async with played() as client:
        rates = {listing.condition: Decimal(listing.fee_rate_micros) / MICRO for listing in MARKETS}
        rows = await client.get("/data/activity", user=TAKER.address, limit=500)
        for row in [row for row in rows if row["type"] == "TRADE"]:
            size, price, usdc = (Decimal(str(row[key])) for key in ("size", "price", "usdcSize"))
            fee = (usdc - size * price) * (1 if row["side"] == "BUY" else -1)
            assert abs(fee - rates[row["conditionId"]] * size * price * (1 - price)) < Decimal("0.00003")
        rows = await client.get("/data/activity", user=MAKER.address, limit=500)
        for row in [row for row in rows if row["type"] == "TRADE"]:
            assert abs(
                Decimal(str(row["usdcSize"])) - Decimal(str(row["size"])) * Decimal(str(row["price"]))
            ) < Decimal("0.000002")
        nulls = {"asset": "", "side": "", "outcomeIndex": 999, "outcome": "", "price": 0}
        splits = await client.get("/data/activity", user=SPLITTER.address, limit=500, type="SPLIT,MERGE")
        assert {row["type"] for row in splits} == {"SPLIT", "MERGE"}
        for row in splits:
            assert {key: row[key] for key in nulls} == nulls
            assert row["size"] == row["usdcSize"]
            assert row["conditionId"]
        redeemed = await client.get("/data/activity", user=SPLITTER.address, type="REDEEM")
        assert {row["outcomeIndex"] for row in redeemed} == {0, 1}
        assert {row["side"] for row in redeemed} == {""}
        assert min(row["usdcSize"] for row in redeemed) == 0
        assert max(row["usdcSize"] for row in redeemed) == max(row["size"] for row in redeemed if row["usdcSize"])
        deposits = {"exclude_deposits_withdrawals": "false", "type": "DEPOSIT"}
        assert len(await client.get("/data/activity", user=TAKER.address, **deposits)) == 1
        rebate = await client.get("/data/activity", user=MAKER.address, type="MAKER_REBATE")
        assert [(row["conditionId"], row["usdcSize"]) for row in rebate] == [("", 12.3456)]


async def test_twins_in_one_transaction_are_served_as_often_as_they_happened() -> None:
    async with played() as client:
        rows = await client.walk("/data/v2/trades", user=MAKER.address, taker_only="false", filter_amount="0.000001")
        seen = [json.dumps(row) for row in rows]
        assert len(seen) > len(set(seen)), "seed 7 has twins"
        assert len(rows) == len([row for row in client.sandbox.venue.feed.of(MAKER.address) if row.kind == "TRADE"])
