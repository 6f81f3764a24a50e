"""Reason codes: why a decision skipped, or why an order filled less than it asked. One line of meaning each."""

from enum import StrEnum


class Reason(StrEnum):
    LIVE_NOT_AVAILABLE = "LIVE_NOT_AVAILABLE"
    RECORD_ONLY = "RECORD_ONLY"
    STALE_SIGNAL = "STALE_SIGNAL"
    NO_QUOTE = "NO_QUOTE"
    BOOK_EMPTY = "BOOK_EMPTY"
    BOOK_CROSSED = "BOOK_CROSSED"
    BOOK_INVALID = "BOOK_INVALID"
    UNKNOWN_ASSET = "UNKNOWN_ASSET"
    NO_POSITION = "NO_POSITION"
    NO_EQUITY = "NO_EQUITY"
    BELOW_MINIMUM = "BELOW_MINIMUM"
    SPREAD_TOO_WIDE = "SPREAD_TOO_WIDE"
    PRICE_AWAY_FROM_INFLUENCER = "PRICE_AWAY_FROM_INFLUENCER"
    PRICE_AWAY_FROM_MID = "PRICE_AWAY_FROM_MID"
    INSUFFICIENT_DEPTH = "INSUFFICIENT_DEPTH"
    NO_LIQUIDITY_WITHIN_BOUNDS = "NO_LIQUIDITY_WITHIN_BOUNDS"
    EXPOSURE_TOTAL = "EXPOSURE_TOTAL"
    EXPOSURE_MARKET = "EXPOSURE_MARKET"
    EXPOSURE_INFLUENCER = "EXPOSURE_INFLUENCER"
    PARTIAL_FILL = "PARTIAL_FILL"
    REDUCED_TO_POSITION = "REDUCED_TO_POSITION"


MEANING: dict[Reason, str] = {
    Reason.LIVE_NOT_AVAILABLE: "the subscriber is in live mode, and no live execution is configured",
    Reason.RECORD_ONLY: "the subscriber only records decisions; this one would have been executed",
    Reason.STALE_SIGNAL: "the influencer's trade is older than the maximum signal age",
    Reason.NO_QUOTE: "the order book could not be captured before its deadline",
    Reason.BOOK_EMPTY: "the captured book had no bids or no asks",
    Reason.BOOK_CROSSED: "the captured book's best bid was not below its best ask",
    Reason.BOOK_INVALID: "the venue's book could not be understood",
    Reason.UNKNOWN_ASSET: "the venue does not know the asset",
    Reason.NO_POSITION: "the influencer reduced, but nothing copied from it is held",
    Reason.NO_EQUITY: "the portfolio's equity is not positive",
    Reason.BELOW_MINIMUM: "the sized order is below the minimum notional",
    Reason.SPREAD_TOO_WIDE: "the spread is above its limit",
    Reason.PRICE_AWAY_FROM_INFLUENCER: "the best price is further from the influencer's than allowed",
    Reason.PRICE_AWAY_FROM_MID: "the best price is further from the mid than allowed",
    Reason.INSUFFICIENT_DEPTH: "the book inside the price band holds less than the required multiple of the order",
    Reason.NO_LIQUIDITY_WITHIN_BOUNDS: "nothing could be filled inside the price band",
    Reason.EXPOSURE_TOTAL: "total exposure would exceed its share of equity",
    Reason.EXPOSURE_MARKET: "exposure to this market would exceed its share of equity",
    Reason.EXPOSURE_INFLUENCER: "exposure copied from this influencer would exceed its share of equity",
    Reason.PARTIAL_FILL: "the book inside the band ended before the order was filled",
    Reason.REDUCED_TO_POSITION: "less was held than the decision expected to reduce, so less was ordered",
}
