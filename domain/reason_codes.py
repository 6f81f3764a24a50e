"""Reason codes: why a decision skipped, or why an order filled less than it asked. One line of meaning each."""

from enum import StrEnum


class Reason(StrEnum):
    LIVE_NOT_AVAILABLE = "LIVE_NOT_AVAILABLE"
    RECORD_ONLY = "RECORD_ONLY"
    ENGINE_PAUSED = "ENGINE_PAUSED"
    INFLUENCER_DISABLED = "INFLUENCER_DISABLED"
    SUBSCRIBER_DISABLED = "SUBSCRIBER_DISABLED"
    MARKET_BLOCKED = "MARKET_BLOCKED"
    FILTERED = "FILTERED"
    STALE_SIGNAL = "STALE_SIGNAL"
    POSITION_UNKNOWN = "POSITION_UNKNOWN"
    NO_QUOTE = "NO_QUOTE"
    BOOK_EMPTY = "BOOK_EMPTY"
    BOOK_CROSSED = "BOOK_CROSSED"
    BOOK_INVALID = "BOOK_INVALID"
    UNKNOWN_ASSET = "UNKNOWN_ASSET"
    MARKET_CLOSED = "MARKET_CLOSED"
    MARKET_CLOSING = "MARKET_CLOSING"
    NO_POSITION = "NO_POSITION"
    NO_EQUITY = "NO_EQUITY"
    INFLUENCER_EQUITY_UNKNOWN = "INFLUENCER_EQUITY_UNKNOWN"
    BELOW_MINIMUM = "BELOW_MINIMUM"
    ACCUMULATED = "ACCUMULATED"
    SPREAD_TOO_WIDE = "SPREAD_TOO_WIDE"
    PRICE_AWAY_FROM_INFLUENCER = "PRICE_AWAY_FROM_INFLUENCER"
    PRICE_AWAY_FROM_MID = "PRICE_AWAY_FROM_MID"
    INSUFFICIENT_DEPTH = "INSUFFICIENT_DEPTH"
    NO_LIQUIDITY_WITHIN_BOUNDS = "NO_LIQUIDITY_WITHIN_BOUNDS"
    EXPOSURE_TOTAL = "EXPOSURE_TOTAL"
    EXPOSURE_MARKET = "EXPOSURE_MARKET"
    EXPOSURE_INFLUENCER = "EXPOSURE_INFLUENCER"
    NOTIONAL_CAP = "NOTIONAL_CAP"
    INSUFFICIENT_CASH = "INSUFFICIENT_CASH"
    BREAKER_DAILY_LOSS = "BREAKER_DAILY_LOSS"
    BREAKER_WEEKLY_LOSS = "BREAKER_WEEKLY_LOSS"
    BREAKER_DRAWDOWN = "BREAKER_DRAWDOWN"
    RISK_CAP_GLOBAL = "RISK_CAP_GLOBAL"
    PARTIAL_FILL = "PARTIAL_FILL"
    REDUCED_TO_POSITION = "REDUCED_TO_POSITION"


MEANING: dict[Reason, str] = {
    Reason.LIVE_NOT_AVAILABLE: "the subscriber is in live mode, and no live execution is configured",
    Reason.RECORD_ONLY: "the subscriber only records decisions; this one would have been executed",
    Reason.ENGINE_PAUSED: "the engine was paused when the signal was detected or when it was to be decided",
    Reason.INFLUENCER_DISABLED: "an operator disabled the influencer: nothing is opened",
    Reason.SUBSCRIBER_DISABLED: "an operator disabled the subscriber: nothing is opened",
    Reason.MARKET_BLOCKED: "an operator blocked the market: nothing is opened",
    Reason.FILTERED: "the subscription's status or filters want no opening; only reductions go through",
    Reason.STALE_SIGNAL: "the influencer's trade is older than the maximum signal age",
    Reason.POSITION_UNKNOWN: "the influencer's position before the trade is not known, so what opens is not copied",
    Reason.NO_QUOTE: "the order book could not be captured before its deadline",
    Reason.BOOK_EMPTY: "the captured book had no bids or no asks",
    Reason.BOOK_CROSSED: "the captured book's best bid was not below its best ask",
    Reason.BOOK_INVALID: "the venue's book could not be understood",
    Reason.UNKNOWN_ASSET: "the venue does not know the asset",
    Reason.MARKET_CLOSED: "the market takes no orders any more",
    Reason.MARKET_CLOSING: "the market closes too soon to open anything",
    Reason.NO_POSITION: "the influencer reduced, but nothing copied from it is held",
    Reason.NO_EQUITY: "the portfolio's equity is not positive",
    Reason.INFLUENCER_EQUITY_UNKNOWN: "the influencer's equity is not known, so no proportion of it can be taken",
    Reason.BELOW_MINIMUM: "the sized order is below the minimum notional",
    Reason.ACCUMULATED: "the target is below the minimum and waits until it has added up",
    Reason.SPREAD_TOO_WIDE: "the spread is above its limit",
    Reason.PRICE_AWAY_FROM_INFLUENCER: "the best price is further from the influencer's than allowed",
    Reason.PRICE_AWAY_FROM_MID: "the best price is further from the mid than allowed",
    Reason.INSUFFICIENT_DEPTH: "the book inside the price band holds less than the required multiple of the order",
    Reason.NO_LIQUIDITY_WITHIN_BOUNDS: "nothing could be filled inside the price band",
    Reason.EXPOSURE_TOTAL: "total exposure would exceed its share of equity",
    Reason.EXPOSURE_MARKET: "exposure to this market would exceed its share of equity",
    Reason.EXPOSURE_INFLUENCER: "exposure copied from this influencer would exceed its share of equity",
    Reason.NOTIONAL_CAP: "the position in this market would exceed its cap",
    Reason.INSUFFICIENT_CASH: "the portfolio's free cash does not pay for the order",
    Reason.BREAKER_DAILY_LOSS: "the day's loss tripped the breaker: nothing is opened until the next UTC day",
    Reason.BREAKER_WEEKLY_LOSS: "the week's loss tripped the breaker: nothing is opened until the next ISO week",
    Reason.BREAKER_DRAWDOWN: "the fall from the peak tripped the breaker: nothing is opened until it is reset",
    Reason.RISK_CAP_GLOBAL: "the portfolio that copies everyone has reached one of its caps",
    Reason.PARTIAL_FILL: "the book inside the band ended before the order was filled",
    Reason.REDUCED_TO_POSITION: "less was held than the decision expected to reduce, so less was ordered",
}
