"""The contract of `Prices` (gateways/venue_adapter.py): what the mark stage relies on, whichever venue answers."""

from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import pytest

from domain.events import MarkSource
from gateways.venue_adapter import Prices
from gateways.venue_errors import VenueUnavailableError


class Subject(NamedTuple):
    """Prices, assets that have one, and an asset that the venue does not know."""

    prices: Prices
    known: tuple[str, ...]
    unknown: str


class PricesContract:
    """Subclasses provide prices in each of these states."""

    def open(self) -> AbstractAsyncContextManager[Subject]:
        """The venue answers."""
        raise NotImplementedError

    def unavailable(self) -> AbstractAsyncContextManager[Subject]:
        """The venue does not answer."""
        raise NotImplementedError

    async def test_known_assets_have_a_positive_price_with_source_and_time(self) -> None:
        async with self.open() as (prices, known, _):
            found = await prices.prices(known)
        assert len(known) > 1
        assert set(found) == set(known)
        for price in found.values():
            assert price.price_micros > 0
            assert isinstance(price.source, MarkSource)
            assert price.time > 0

    async def test_only_the_assets_asked_for_are_answered_and_unknown_ones_are_absent(self) -> None:
        async with self.open() as (prices, known, unknown):
            assert set(await prices.prices([known[0], unknown])) == {known[0]}

    async def test_an_iterator_of_assets_is_enough(self) -> None:
        async with self.open() as (prices, known, _):
            assert set(await prices.prices(iter(known))) == set(known)

    async def test_no_assets_have_no_prices(self) -> None:
        async with self.open() as (prices, _, _):
            assert await prices.prices([]) == {}

    async def test_a_venue_that_does_not_answer_is_unavailable(self) -> None:
        async with self.unavailable() as (prices, known, _):
            with pytest.raises(VenueUnavailableError):
                await prices.prices(known)
