"""Frames of the public trades feed: the trades that they contain, and what of them cannot be read."""

from typing import NamedTuple

import msgspec
import structlog
from msgspec import Raw

from gateways.hyperliquid.fill_parsing import LONGEST_COIN
from gateways.hyperliquid.parsing import FRAME, RAW_TRADES, TRADE_HEAD, TradeHead
from gateways.hyperliquid.raw_events import TRADES_CHANNEL
from gateways.venue_errors import WireError
from handlers import metrics

log = structlog.get_logger()

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, WireError)


class UnreadablePart(NamedTuple):
    """A frame or trade that cannot be read, and why."""

    text: str
    error: str


class TradesFrame(NamedTuple):
    """The trades of a frame in the order of the venue, each unmodified, and the parts that cannot be read."""

    trades: list[tuple[TradeHead, Raw]]
    unreadable: list[UnreadablePart]


def read_frame(text: str) -> TradesFrame:
    """The trades of a frame; none for a frame of another channel, which is only counted."""
    try:
        frame = FRAME.decode(text)
        if frame.channel != TRADES_CHANNEL:
            metrics.FRAMES.labels("other").inc()
            if frame.channel == "error":
                log.warning("ingest.venue_error", text=text[:500])
            return TradesFrame([], [])
        payloads = RAW_TRADES.decode(frame.data)
    except _UNREADABLE as error:
        return TradesFrame([], [UnreadablePart(text, f"malformed frame: {error}")])
    metrics.FRAMES.labels("trades").inc()
    metrics.TRADES.inc(len(payloads))
    found = TradesFrame([], [])
    for payload in payloads:
        try:
            found.trades.append((_head(payload), payload))
        except _UNREADABLE as error:
            trade = bytes(payload).decode(errors="replace")
            found.unreadable.append(UnreadablePart(trade, f"malformed trade: {error}"))
    return found


def _head(payload: Raw) -> TradeHead:
    head = TRADE_HEAD.decode(payload)
    if not 0 < len(head.coin) <= LONGEST_COIN or not head.coin.isprintable() or head.time <= 0:
        raise WireError(f"coin {head.coin[:100]!r} at time {head.time}")
    return head
