"""The market channel: which connection is subscribed to which token, and the frames in the venue's shapes.

A `book` follows every trade and replaces everything; `price_change` reports what was placed or cancelled.
`best_bid_ask` and `market_resolved` go to those who subscribed with `custom_feature_enabled`.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from domain.micros import decimal_text
from gateways.sandbox.polymarket.actions import Match, Quote
from gateways.sandbox.polymarket.books import Level
from gateways.sandbox.polymarket.market_state import MarketState
from gateways.sandbox.polymarket.markets import BY_TOKEN, ONE
from gateways.sandbox.polymarket.websocket_hub import Connection, WebsocketHub

PONG: Final = b"PONG"
INVALID: Final = b"INVALID OPERATION"


class MarketChannel:
    """Subscriptions of the market sockets."""

    def __init__(self, sockets: WebsocketHub, markets: dict[str, MarketState]) -> None:
        self._sockets = sockets
        self._markets = markets
        self._assets: dict[Connection, set[str]] = {}
        self._custom: set[Connection] = set()

    def leave(self, connection: Connection) -> None:
        self._assets.pop(connection, None)
        self._custom.discard(connection)

    def receive(self, connection: Connection, text: str) -> None:
        """One frame of a client: a subscription, a change of it, or PING."""
        if text == "PING":
            connection.send(PONG)
            return
        try:
            message = msgspec.json.decode(text)
        except msgspec.DecodeError:
            message = None
        match message:
            case {"assets_ids": list(assets)} if all(isinstance(asset, str) for asset in assets):
                self._change(connection, message, assets)
            case _:
                connection.send(INVALID)

    def _change(self, connection: Connection, message: dict[str, Any], assets: list[str]) -> None:
        mine = self._assets.setdefault(connection, set())
        if message.get("custom_feature_enabled") is True:
            self._custom.add(connection)
        if message.get("operation") == "unsubscribe":
            mine.difference_update(assets)
            return
        fresh = [asset for asset in assets if asset in BY_TOKEN and asset not in mine]
        mine.update(fresh)
        connection.subscribed = bool(mine)
        books = [frame for frame in map(self._book, fresh) if frame is not None]
        if books:
            self._sockets.push(connection, msgspec.json.encode(books))

    def _book(self, asset: str) -> dict[str, object] | None:
        listing, outcome = BY_TOKEN[asset]
        state = self._markets.get(listing.name)
        return _book(state, outcome) if state is not None and state.has_book else None

    # What the venue reports.

    def books(self, state: MarketState) -> None:
        """The whole book of both outcomes."""
        if not self._assets:
            return
        for outcome, token in enumerate(state.listing.tokens):
            self._publish((token,), _book(state, outcome))

    def traded(self, state: MarketState, match: Match) -> None:
        """A settlement: the book of both outcomes, then the taker's print."""
        if not self._assets:
            return
        self.books(state)
        entry = match.taker.entry
        assert entry.outcome is not None, "a trade has an outcome"
        token = state.listing.tokens[entry.outcome]
        self._publish(
            (token,),
            {
                "event_type": "last_trade_price",
                "asset_id": token,
                "market": state.listing.condition,
                "price": decimal_text(match.price_micros),
                "side": "BUY" if entry.buying else "SELL",
                "size": decimal_text(entry.share_micros),
                "fee_rate_bps": "0",
                "timestamp": str(state.updated_ms),
                "transaction_hash": match.transaction,
            },
        )
        self._tops(state)

    def quoted(self, state: MarketState, quote: Quote) -> None:
        """A placement or cancellation, seen from both outcomes."""
        if not self._assets:
            return
        changes = [_change(state, outcome, quote) for outcome in (0, 1)]
        self._publish(
            state.listing.tokens,
            {
                "event_type": "price_change",
                "market": state.listing.condition,
                "timestamp": str(state.updated_ms),
                "price_changes": changes,
            },
        )

    def resolved(self, state: MarketState, at_ms: int) -> None:
        """The end; a tie names no winner."""
        payouts = state.payouts or (0, 0)
        winner = None if payouts[0] == payouts[1] else int(payouts[1] > payouts[0])
        self._publish(
            state.listing.tokens,
            {
                "event_type": "market_resolved",
                "id": state.listing.gamma_id,
                "market": state.listing.condition,
                "assets_ids": list(state.listing.tokens),
                "winning_asset_id": "" if winner is None else state.listing.tokens[winner],
                "winning_outcome": "" if winner is None else state.listing.outcomes[winner],
                "timestamp": str(at_ms),
            },
            custom=True,
        )

    def _tops(self, state: MarketState) -> None:
        for outcome, token in enumerate(state.listing.tokens):
            bid, ask = state.best(outcome)
            if bid is not None and ask is not None:
                frame: dict[str, object] = {
                    "event_type": "best_bid_ask",
                    "market": state.listing.condition,
                    "asset_id": token,
                    "best_bid": decimal_text(bid[0]),
                    "best_ask": decimal_text(ask[0]),
                    "spread": decimal_text(ask[0] - bid[0]),
                    "timestamp": str(state.updated_ms),
                }
                self._publish((token,), frame, custom=True)

    def _publish(self, tokens: Iterable[str], frame: dict[str, object], *, custom: bool = False) -> None:
        wanted = set(tokens)
        encoded: bytes | None = None
        for connection, assets in tuple(self._assets.items()):
            if assets & wanted and (not custom or connection in self._custom):
                encoded = encoded or msgspec.json.encode(frame)
                self._sockets.push(connection, encoded)


def _book(state: MarketState, outcome: int) -> dict[str, object]:
    return {"event_type": "book"} | state.wire(outcome)


def _change(state: MarketState, outcome: int, quote: Quote) -> dict[str, object]:
    bid, ask = state.best(outcome)
    return {
        "asset_id": state.listing.tokens[outcome],
        "price": decimal_text(ONE - quote.price_micros if outcome else quote.price_micros),
        "size": decimal_text(quote.share_micros),
        "side": "BUY" if quote.buying == (outcome == 0) else "SELL",
        "hash": state.wire(outcome)["hash"],
        "best_bid": _price(bid, "0"),
        "best_ask": _price(ask, "1"),
    }


def _price(level: Level | None, otherwise: str) -> str:
    return otherwise if level is None else decimal_text(level[0])
