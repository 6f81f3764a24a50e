"""`POST /info`: the venue's questions and answers. A body it does not understand is `Unparsable` (HTTP 422)."""

from typing import Any, Final

from gateways.sandbox.hyperliquid import account_info, market_info
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.subscriptions import Unparsable

_QUESTIONS: Final = market_info.QUESTIONS | account_info.QUESTIONS
_LIGHT: Final = frozenset({"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState"})
_BY_ROWS: Final = {
    "recentTrades": 20,
    "historicalOrders": 20,
    "userFills": 20,
    "userFillsByTime": 20,
    "userTwapSliceFills": 20,
    "userTwapSliceFillsByTime": 20,
    "fundingHistory": 20,
    "userFunding": 20,
    "userNonFundingLedgerUpdates": 20,
    "candleSnapshot": 60,
}
"""How many rows of an answer cost 1 on top."""


def answer(market: Market, now_ms: int, body: object) -> object:
    """The answer to one `/info` body, ready for JSON; `now_ms` is the venue's time. Raises `Unparsable`."""
    if not isinstance(body, dict):
        raise Unparsable("expected an object")
    kind = body.get("type")
    if not isinstance(kind, str) or kind not in _QUESTIONS:
        raise Unparsable(f"unknown type {kind!r}")
    return _QUESTIONS[kind](market, now_ms, body)


def weight(body: object) -> int:
    """What a request costs before its answer is known: 20 unless it is one of the light ones."""
    kind = str(body.get("type")) if isinstance(body, dict) else ""
    return 60 if kind == "userRole" else 2 if kind in _LIGHT else 20


def surcharge(body: dict[str, Any], answered: object) -> int:
    """What the rows of an answer cost on top: 1 for every 20 rows, or 60 candles."""
    rows = _BY_ROWS.get(body["type"])
    return 0 if rows is None or not isinstance(answered, list) else -(-len(answered) // rows)
