"""A portfolio in specs: the events that lead to it, and its positions."""

from collections.abc import Mapping

from domain.events import Event, MarkCaptured, MarkSource, Venue
from domain.mark_prices import Asset, Mark, MarkPrices
from domain.micros import micros
from domain.portfolio import Portfolio
from domain.testing import given
from tests.domain.facts import (
    PORTFOLIO,
)

BTC, ETH = ("hyperliquid", "BTC"), ("hyperliquid", "ETH")
YES, NO = ("polymarket", "yes"), ("polymarket", "no")
PM = Venue.POLYMARKET


def position(portfolio: Portfolio, asset: Asset = BTC) -> tuple[int, int, int]:
    held = portfolio.positions[asset]
    return held.share_micros, held.cost_micros, held.realized_micros


def usd(*texts: str) -> tuple[int, ...]:
    return tuple(micros(text) for text in texts)


def after(*events: Event) -> Portfolio:
    return given(PORTFOLIO, *events).state


def evolve(portfolio: Portfolio, event: Event) -> Portfolio:
    """The portfolio after one event; the given one stays as it is."""
    return PORTFOLIO.evolve(portfolio, event)


def more(portfolio: Portfolio, *events: Event) -> Portfolio:
    for event in events:
        portfolio = evolve(portfolio, event)
    return portfolio


NO_MARKS = MarkPrices()


def marked(prices: Mapping[Asset, Mark]) -> MarkPrices:
    """These marks, recorded under their sequences."""
    made = MarkPrices()
    for asset, mark in prices.items():
        made.evolve(mark_captured(asset, mark.price_micros, mark.at), mark.sequence)
    return made


def mark_captured(asset: Asset, price_micros: int, marked_at: int) -> MarkCaptured:
    return MarkCaptured(
        mark_id=f"mrk-{asset[1]}",
        venue=Venue(asset[0]),
        asset=asset[1],
        market=asset[1],
        price_micros=price_micros,
        source=MarkSource.MIDPOINT,
        venue_time=marked_at,
        marked_at=marked_at,
    )
