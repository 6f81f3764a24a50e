"""The contract of prices, kept by both venues against their sandboxes and by the fake of the mark stage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateways.http_client import HttpClient
from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.prices import VenuePrices
from gateways.polymarket.clob import Clob
from gateways.polymarket.prices import PolymarketPrices
from gateways.rate_limit import RateLimiter
from gateways.venue_errors import WireError
from tests.contracts.prices import PricesContract, Subject
from tests.contracts.venues import ORIGIN_NS, hyperliquid, junk, lasting_tokens, nowhere, polymarket
from tests.handlers.test_mark import FakePrices


def clock() -> int:
    return ORIGIN_NS


@asynccontextmanager
async def hyperliquid_prices(url: str) -> AsyncIterator[Subject]:
    async with InfoClient(url) as info:
        yield Subject(VenuePrices(info, clock), ("SOL", "BTC", "xyz:SP500"), "NOPE")


@asynccontextmanager
async def polymarket_prices(url: str) -> AsyncIterator[Subject]:
    async with HttpClient(RateLimiter(500, 500), attempts=2, first_wait_seconds=0.01) as client:
        yield Subject(PolymarketPrices(Clob(client, url), clock), lasting_tokens()[:2], "5")


class TestHyperliquid(PricesContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Subject]:
        async with hyperliquid() as sandbox, hyperliquid_prices(sandbox.url) as subject:
            yield subject

    @asynccontextmanager
    async def unavailable(self) -> AsyncIterator[Subject]:
        async with hyperliquid_prices(nowhere()) as subject:
            yield subject

    async def test_a_malformed_answer_is_a_wire_error(self) -> None:
        async with junk() as url, hyperliquid_prices(url) as (prices, known, _):
            with pytest.raises(WireError):
                await prices.prices(known)


class TestPolymarket(PricesContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Subject]:
        async with polymarket() as sandbox, polymarket_prices(sandbox.clob_url) as subject:
            yield subject

    @asynccontextmanager
    async def unavailable(self) -> AsyncIterator[Subject]:
        async with polymarket_prices(nowhere()) as subject:
            yield subject


class TestFake(PricesContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Subject]:
        yield Subject(FakePrices(BTC=60_000, SOL=150), ("BTC", "SOL"), "NOPE")

    @asynccontextmanager
    async def unavailable(self) -> AsyncIterator[Subject]:
        fake = FakePrices(BTC=60_000)
        fake.fails = 1
        yield Subject(fake, ("BTC",), "NOPE")
