"""The CLOB's public market data: books, midpoints, last trades."""

from collections.abc import Sequence

import msgspec
import structlog
from msgspec import Raw, Struct

from domain.events import Level
from domain.micros import MICRO
from gateways.http_client import HttpClient
from gateways.polymarket import json_fields
from gateways.venue_errors import WireError
from gateways.venue_types import Book

log = structlog.get_logger()

TOKENS_PER_REQUEST = 200


class WireLevel(Struct):
    price: Raw
    size: Raw


class WireBook(Struct):
    asset_id: str
    timestamp: Raw
    bids: list[WireLevel]
    asks: list[WireLevel]


class _WireTrade(Struct):
    price: Raw = Raw()
    side: str = ""


_BOOK = msgspec.json.Decoder(WireBook)
_MIDPOINTS = msgspec.json.Decoder(dict[str, Raw])
_TRADE = msgspec.json.Decoder(_WireTrade)


def parse_book(payload: bytes) -> Book:
    """A book, best first on both sides, whatever order it came in. Raises WireError.

    Empty sides and crossed books stay as the venue sent them; levels of size 0 are left out.
    """
    return _book(_decoded(payload))


class Clob:
    """Requests to the CLOB. All raise VenueUnavailableError or WireError."""

    def __init__(self, client: HttpClient, base_url: str) -> None:
        self._client = client
        self._url = base_url.rstrip("/")

    async def affordable(self) -> None:
        """Wait until a request could go at once."""
        await self._client.affordable()

    async def book(self, token: str) -> Book | None:
        """The book of a token now; None when it has none (any more)."""
        payload = await self._client.get(f"{self._url}/book", {"token_id": json_fields.token(token)})
        if payload is None:
            return None
        wire = _decoded(payload)
        if wire.asset_id != token:
            raise WireError(f"the book of {wire.asset_id[:80]} came for {token}")
        return _book(wire)

    async def midpoints(self, tokens: Sequence[str]) -> dict[str, int]:
        """Middles of the books in micros; tokens without one are absent."""
        found: dict[str, int] = {}
        wanted = [json_fields.token(one) for one in dict.fromkeys(tokens)]
        for at in range(0, len(wanted), TOKENS_PER_REQUEST):
            part = wanted[at : at + TOKENS_PER_REQUEST]
            payload = await self._client.post(f"{self._url}/midpoints", [{"token_id": token} for token in part])
            found |= _middles(payload, part)
        return found

    async def last_trade_price(self, token: str) -> int | None:
        """The price of the last trade in micros; None when there was none."""
        payload = await self._client.get(f"{self._url}/last-trade-price", {"token_id": json_fields.token(token)})
        if payload is None:
            return None
        try:
            wire = _TRADE.decode(payload)
        except msgspec.MsgspecError as error:
            raise WireError(f"not a last trade: {error}") from error
        # For a token that never traded the venue answers 0.5, with an empty side.
        return price(wire.price, "last trade price") if wire.side else None


def _middles(payload: bytes | None, wanted: Sequence[str]) -> dict[str, int]:
    if payload is None:
        return {}
    try:
        answer = _MIDPOINTS.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not midpoints: {error}") from error
    found = {}
    for token in wanted:
        try:
            value = json_fields.number(answer.get(token, Raw()), "midpoint")
            if value is not None and not 0 < value < 1:
                raise WireError(f"midpoint {json_fields.shortest(value)[:80]} is not between 0 and 1")
        except WireError as error:
            # One bad value must not hide the marks of all others.
            log.warning("midpoint.refused", token=token, error=str(error))
            continue
        if value is not None:
            found[token] = json_fields.nearest_micros(value, "midpoint")
    return found


def _decoded(payload: bytes) -> WireBook:
    try:
        return _BOOK.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a book: {error}") from error


def _book(wire: WireBook) -> Book:
    time = json_fields.milliseconds(json_fields.needed(wire.timestamp, "timestamp"), "timestamp")
    return Book(time, tuple(sorted(levels(wire.bids), reverse=True)), tuple(sorted(levels(wire.asks))))


def levels(wires: list[WireLevel]) -> list[Level]:
    """The levels of a side in the order of the wire, without those of size 0. Raises WireError."""
    found = []
    for wire in wires:
        size = json_fields.exact_micros(json_fields.needed(wire.size, "size"), "size")
        if size < 0:
            raise WireError(f"size of {size} micros in a book is negative")
        at_price = price(wire.price, "price")
        if size:
            found.append((at_price, size))
    return found


def price(raw: Raw, what: str) -> int:
    """A price in micros. Raises WireError for what is not between 0 and 1."""
    value = json_fields.exact_micros(json_fields.needed(raw, what), what)
    if not 0 < value < MICRO:
        raise WireError(f"{what} of {value} micros is not between 0 and 1")
    return value
