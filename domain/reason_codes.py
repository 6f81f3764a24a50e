"""Reason codes: why a decision skipped, or why an order filled less than it asked for, each with its text."""

from enum import StrEnum


class Reason(StrEnum):
    """A code as it is stored, and its `text`: one line, shown wherever the code is shown."""

    text: str

    def __new__(cls, code: str, text: str = "") -> "Reason":
        reason = str.__new__(cls, code)
        reason._value_ = code
        reason.text = text
        return reason

    LIVE_NOT_AVAILABLE = "LIVE_NOT_AVAILABLE", "the subscriber is in live mode, and has no active account at the venue"
    RECORD_ONLY = "RECORD_ONLY", "the subscriber only records decisions; this one would have been executed"
    ENGINE_PAUSED = "ENGINE_PAUSED", "the engine was paused when the signal was detected or when it was to be decided"
    INFLUENCER_DISABLED = "INFLUENCER_DISABLED", "an operator disabled the influencer: nothing is opened"
    SUBSCRIBER_DISABLED = "SUBSCRIBER_DISABLED", "an operator disabled the subscriber: nothing is opened"
    MARKET_BLOCKED = "MARKET_BLOCKED", "an operator blocked the market: nothing is opened"
    FILTERED = "FILTERED", "the subscription's status or filters want no opening; only reductions go through"
    STALE_SIGNAL = "STALE_SIGNAL", "the influencer's trade is older than the maximum signal age"
    STALE_QUOTE = "STALE_QUOTE", "the captured book is older than the maximum quote age"
    POSITION_UNKNOWN = (
        "POSITION_UNKNOWN",
        "the influencer's position before the trade is not known, so what opens is not copied",
    )
    NO_QUOTE = "NO_QUOTE", "the order book could not be captured before its deadline"
    BOOK_EMPTY = "BOOK_EMPTY", "the captured book had no bids or no asks"
    BOOK_CROSSED = "BOOK_CROSSED", "the captured book's best bid was not below its best ask"
    BOOK_INVALID = "BOOK_INVALID", "the venue's book could not be understood"
    UNKNOWN_ASSET = "UNKNOWN_ASSET", "the venue does not know the asset"
    MARKET_CLOSED = "MARKET_CLOSED", "the market takes no orders any more"
    MARKET_CLOSING = "MARKET_CLOSING", "the market closes too soon to open anything"
    DROPPED = "DROPPED", "an operator dropped the dead letter of the request or group"
    EXIT_OWED = "EXIT_OWED", "the copy still owes an exit of this position: nothing is opened the other way before"
    EXIT_NOT_OWED = "EXIT_NOT_OWED", "what this try was for is not owed any more, or was tried since"
    EXIT_KEPT = "EXIT_KEPT", "the influencer opened again what the copy still owed: it is kept, and nothing is bought"
    NO_POSITION = "NO_POSITION", "the influencer reduced, but nothing copied from it is held"
    NO_EQUITY = "NO_EQUITY", "the portfolio's equity is not positive"
    INFLUENCER_EQUITY_UNKNOWN = (
        "INFLUENCER_EQUITY_UNKNOWN",
        "the influencer's equity is not known, so no proportion of it can be taken",
    )
    BELOW_MINIMUM = "BELOW_MINIMUM", "the sized order is below the minimum notional"
    ACCUMULATED = "ACCUMULATED", "the target is below the minimum and waits until it has added up"
    SPREAD_TOO_WIDE = "SPREAD_TOO_WIDE", "the spread is above its limit"
    PRICE_AWAY_FROM_INFLUENCER = (
        "PRICE_AWAY_FROM_INFLUENCER",
        "the best price is further from the influencer's than allowed",
    )
    PRICE_AWAY_FROM_MID = "PRICE_AWAY_FROM_MID", "the best price is further from the mid than allowed"
    INSUFFICIENT_DEPTH = (
        "INSUFFICIENT_DEPTH",
        "the book inside the price band holds less than the required multiple of the order",
    )
    NO_LIQUIDITY_WITHIN_BOUNDS = "NO_LIQUIDITY_WITHIN_BOUNDS", "nothing could be filled inside the price band"
    EXPOSURE_TOTAL = "EXPOSURE_TOTAL", "total exposure would exceed its share of equity"
    EXPOSURE_MARKET = "EXPOSURE_MARKET", "exposure to this market would exceed its share of equity"
    EXPOSURE_INFLUENCER = "EXPOSURE_INFLUENCER", "exposure copied from this influencer would exceed its share of equity"
    NOTIONAL_CAP = "NOTIONAL_CAP", "the position in this market would exceed its cap"
    INSUFFICIENT_CASH = "INSUFFICIENT_CASH", "the portfolio's free cash does not pay for the order"
    BREAKER_DAILY_LOSS = (
        "BREAKER_DAILY_LOSS",
        "the day's loss tripped the breaker: nothing is opened until the next UTC day",
    )
    BREAKER_WEEKLY_LOSS = (
        "BREAKER_WEEKLY_LOSS",
        "the week's loss tripped the breaker: nothing is opened until the next ISO week",
    )
    BREAKER_DRAWDOWN = (
        "BREAKER_DRAWDOWN",
        "the fall from the peak tripped the breaker: nothing is opened until it is reset",
    )
    RISK_CAP_GLOBAL = "RISK_CAP_GLOBAL", "the portfolio that copies everyone has reached one of its caps"
    ORDER_EXPIRED = "ORDER_EXPIRED", "the order did not reach the venue in time, and never will"
    ORDER_REFUSED = "ORDER_REFUSED", "the venue refused the order, for a reason that its answer states"
    ORDER_INVALID = "ORDER_INVALID", "the venue refused the order's price or size as illegal"
    INSUFFICIENT_MARGIN = "INSUFFICIENT_MARGIN", "the venue account has too little margin for the order"
    POSITION_DIFFERS = "POSITION_DIFFERS", "the venue account does not hold what the order was to reduce"
    REQUESTS_EXHAUSTED = "REQUESTS_EXHAUSTED", "the venue account has used up the actions that it is allowed"
    AGENT_UNUSABLE = "AGENT_UNUSABLE", "no order could be signed for the account: its agent's key is missing or refused"
    PARTIAL_FILL = "PARTIAL_FILL", "the book inside the band ended before the order was filled"
    REDUCED_TO_POSITION = (
        "REDUCED_TO_POSITION",
        "less was held than the decision expected to reduce, so less was ordered",
    )
