"""The contract of `Books` (gateways/venue_adapter.py): what the quote stage relies on, whichever venue answers."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import pytest

from gateways.venue_adapter import Books
from gateways.venue_errors import VenueUnavailableError, WireError

YEAR_2020 = 1_577_836_800 * 1_000_000_000


class Subject(NamedTuple):
    """Books, and an asset to capture from them."""

    books: Books
    asset: str


class BooksContract:
    """Subclasses provide books in each of these states."""

    def open(self) -> AbstractAsyncContextManager[Subject]:
        """The asset has a book."""
        raise NotImplementedError

    def without_book(self) -> AbstractAsyncContextManager[Subject]:
        """The venue answers that the asset has no book."""
        raise NotImplementedError

    def unavailable(self) -> AbstractAsyncContextManager[Subject]:
        """The venue does not answer."""
        raise NotImplementedError

    def malformed(self) -> AbstractAsyncContextManager[Subject]:
        """The venue answers with something that is no book."""
        raise NotImplementedError

    async def test_a_book_is_sorted_best_first_and_not_crossed(self) -> None:
        async with self.open() as (books, asset):
            captured = await books.capture(asset)
        assert captured is not None
        bids, asks = captured.book.bids, captured.book.asks
        assert bids
        assert asks
        assert list(bids) == sorted(bids, reverse=True)
        assert list(asks) == sorted(asks)
        assert bids[0][0] < asks[0][0]
        assert all(price > 0 and size > 0 for price, size in (*bids, *asks))

    async def test_its_time_is_in_nanoseconds(self) -> None:
        async with self.open() as (books, asset):
            captured = await books.capture(asset)
        assert captured is not None
        assert YEAR_2020 < captured.book.time < 10 * YEAR_2020

    async def test_the_terms_fit_the_prices_of_the_book(self) -> None:
        async with self.open() as (books, asset):
            captured = await books.capture(asset)
        assert captured is not None
        book, terms = captured
        assert terms.tick_micros >= 1
        assert terms.size_step_micros >= 1
        assert terms.market
        assert all(price % terms.tick_micros == 0 for price, _ in (*book.bids, *book.asks))

    async def test_captures_at_the_same_time_all_succeed(self) -> None:
        async with self.open() as (books, asset):
            captured = await asyncio.gather(*(books.capture(asset) for _ in range(5)))
        assert None not in captured
        assert len({one.terms for one in captured if one is not None}) == 1

    async def test_an_asset_without_a_book_is_none(self) -> None:
        async with self.without_book() as (books, asset):
            assert await books.capture(asset) is None

    async def test_a_venue_that_does_not_answer_is_unavailable(self) -> None:
        async with self.unavailable() as (books, asset):
            with pytest.raises(VenueUnavailableError):
                await books.capture(asset)

    async def test_a_malformed_answer_is_a_wire_error(self) -> None:
        async with self.malformed() as (books, asset):
            with pytest.raises(WireError):
                await books.capture(asset)
