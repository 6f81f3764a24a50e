"""The contract of books, kept by both venues against their sandboxes and by the fake of the quote stage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateways.http_client import HttpClient
from gateways.hyperliquid.books import VenueBooks
from gateways.hyperliquid.info_client import InfoClient
from gateways.polymarket.books import PolymarketBooks
from gateways.polymarket.clob import Clob
from gateways.polymarket.gamma import Gamma
from gateways.rate_limit import RateLimiter
from gateways.venue_errors import VenueUnavailableError, WireError
from tests.contracts.books import BooksContract, Subject
from tests.contracts.venues import hyperliquid, junk, lasting_tokens, nowhere, polymarket
from tests.handlers.test_quote import BOOK, FakeBooks

TOKEN = lasting_tokens()[0]


@asynccontextmanager
async def hyperliquid_books(url: str, asset: str = "SOL") -> AsyncIterator[Subject]:
    async with InfoClient(url) as info:
        yield Subject(VenueBooks(info), asset)


@asynccontextmanager
async def polymarket_books(clob_url: str, gamma_url: str, asset: str = TOKEN) -> AsyncIterator[Subject]:
    async with HttpClient(RateLimiter(500, 500), attempts=2, first_wait_seconds=0.01) as client:
        yield Subject(PolymarketBooks(Clob(client, clob_url), Gamma(client, gamma_url)), asset)


class TestHyperliquid(BooksContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Subject]:
        async with hyperliquid() as sandbox, hyperliquid_books(sandbox.url) as subject:
            yield subject

    @asynccontextmanager
    async def without_book(self) -> AsyncIterator[Subject]:
        async with hyperliquid() as sandbox, hyperliquid_books(sandbox.url, "NOPE") as subject:
            yield subject

    @asynccontextmanager
    async def unavailable(self) -> AsyncIterator[Subject]:
        async with hyperliquid_books(nowhere()) as subject:
            yield subject

    @asynccontextmanager
    async def malformed(self) -> AsyncIterator[Subject]:
        async with junk() as url, hyperliquid_books(url) as subject:
            yield subject


class TestPolymarket(BooksContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Subject]:
        async with polymarket() as sandbox, polymarket_books(sandbox.clob_url, sandbox.gamma_url) as subject:
            yield subject

    @asynccontextmanager
    async def without_book(self) -> AsyncIterator[Subject]:
        async with polymarket() as sandbox, polymarket_books(sandbox.clob_url, sandbox.gamma_url, "5") as subject:
            yield subject

    @asynccontextmanager
    async def unavailable(self) -> AsyncIterator[Subject]:
        async with polymarket_books(nowhere(), nowhere()) as subject:
            yield subject

    @asynccontextmanager
    async def malformed(self) -> AsyncIterator[Subject]:
        async with junk() as url, polymarket_books(url, url) as subject:
            yield subject


class TestFake(BooksContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Subject]:
        yield Subject(FakeBooks(BOOK), "BTC")

    @asynccontextmanager
    async def without_book(self) -> AsyncIterator[Subject]:
        yield Subject(FakeBooks(None), "BTC")

    @asynccontextmanager
    async def unavailable(self) -> AsyncIterator[Subject]:
        yield Subject(FakeBooks(VenueUnavailableError("no answer")), "BTC")

    @asynccontextmanager
    async def malformed(self) -> AsyncIterator[Subject]:
        yield Subject(FakeBooks(WireError("not a book")), "BTC")
