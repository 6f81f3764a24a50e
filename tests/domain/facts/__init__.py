"""Facts for specs, with defaults: name only what the rule is about. Prices, sizes and money are decimal strings.

The world of the defaults: Ann (influencer) buys 1 BTC at 100 USD; Sam (subscriber, 10,000 USD) copies her for a fixed
50 USD; the book is 99.95 / 100.05 with a lot of 0.001.
"""

from tests.domain.facts.aggregates import ACCOUNT, PORTFOLIO, WINDOW
from tests.domain.facts.configured import configuration, influencer, subscriber, subscription
from tests.domain.facts.executions import bought, completed, decided, deposited, executed, filled, sold
from tests.domain.facts.influencers import ASKS, BIDS, captured, group_closed, grouped, no_quote, seeded, signal, trade
from tests.domain.facts.requests import PM_ASKS, PM_BIDS, fixed, inputs, on_polymarket, requested, terms
from tests.domain.facts.values import ANN, BOB, BUY, MS, SELL, T0, at, levels

__all__ = [
    "ACCOUNT",
    "ANN",
    "ASKS",
    "BIDS",
    "BOB",
    "BUY",
    "MS",
    "PM_ASKS",
    "PM_BIDS",
    "PORTFOLIO",
    "SELL",
    "T0",
    "WINDOW",
    "at",
    "bought",
    "captured",
    "completed",
    "configuration",
    "decided",
    "deposited",
    "executed",
    "filled",
    "fixed",
    "group_closed",
    "grouped",
    "influencer",
    "inputs",
    "levels",
    "no_quote",
    "on_polymarket",
    "requested",
    "seeded",
    "signal",
    "sold",
    "subscriber",
    "subscription",
    "terms",
    "trade",
]
