"""A portfolio in specs: the events that lead to it, and its positions."""

from domain.events import Event, Venue
from domain.mark_prices import Asset
from domain.micros import micros
from domain.portfolio import (
    Portfolio,
    evolve,
)
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


def more(portfolio: Portfolio, *events: Event) -> Portfolio:
    for event in events:
        portfolio = evolve(portfolio, event)
    return portfolio
