"""The CLOB's public answers: books, prices and what is fixed about a market."""

from collections.abc import Callable
from typing import Any, Final

from domain.micros import decimal_text
from gateways.sandbox.polymarket.market_state import MarketState
from gateways.sandbox.polymarket.markets import BY_CONDITION, BY_TOKEN, MIN_SHARE_MICROS, Listing
from gateways.sandbox.polymarket.rows import number
from gateways.sandbox.polymarket.times import iso
from gateways.sandbox.polymarket.venue import Venue

NO_BOOK: Final = "No orderbook exists for the requested token id"
_BATCH: Final = 500


class ClobError(ValueError):
    """A request that the CLOB refuses; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _state(venue: Venue, token: str | None) -> tuple[MarketState, int]:
    """The market and outcome of a token that trades. Raises ClobError."""
    if not token:
        raise ClobError(400, "Invalid token id")
    known = BY_TOKEN.get(token)
    state = None if known is None else venue.markets.get(known[0].name)
    if known is None or state is None or not state.has_book:
        raise ClobError(404, NO_BOOK)
    return state, known[1]


def book(venue: Venue, query: dict[str, str]) -> object:
    state, outcome = _state(venue, query.get("token_id"))
    return state.wire(outcome)


def midpoint(venue: Venue, query: dict[str, str]) -> object:
    state, outcome = _state(venue, query.get("token_id"))
    mid = _mid(state, outcome)
    if mid is None:
        raise ClobError(404, NO_BOOK)
    return {"mid": mid}


def price(venue: Venue, query: dict[str, str]) -> object:
    """The best price on one side: BUY is the best bid, SELL the best ask; 0 where that side is empty."""
    state, outcome = _state(venue, query.get("token_id"))
    return {"price": _best(state, outcome, query.get("side", ""))}


def spread(venue: Venue, query: dict[str, str]) -> object:
    bid, ask = _sides(venue, query)
    return {"spread": decimal_text(ask - bid)}


def last_trade_price(venue: Venue, query: dict[str, str]) -> object:
    """The last print, which outlives the book; 0.5 and no side before the first."""
    known = BY_TOKEN.get(query.get("token_id") or "")
    state = None if known is None else venue.markets.get(known[0].name)
    if known is None or state is None or state.last is None:
        return {"price": "0.5", "side": ""}
    bought = state.last[1] == (known[1] == 0)
    return {"price": decimal_text(state.last_price(known[1]) or 0), "side": "BUY" if bought else "SELL"}


def tick_size(venue: Venue, query: dict[str, str]) -> object:
    state, _ = _state(venue, query.get("token_id"))
    return {"minimum_tick_size": number(state.listing.tick_micros)}


def neg_risk(venue: Venue, query: dict[str, str]) -> object:
    state, _ = _state(venue, query.get("token_id"))
    return {"neg_risk": state.listing.neg_risk}


def fee_rate(venue: Venue, query: dict[str, str]) -> object:
    """The legacy figure: not the rate that is charged."""
    state, _ = _state(venue, query.get("token_id"))
    return {"base_fee": 1000 if state.listing.fee_rate_micros else 0}


def time(venue: Venue, query: dict[str, str]) -> object:
    return venue.now_ns() // 1_000_000_000


GETS: Final[dict[str, Callable[[Venue, dict[str, str]], object]]] = {
    "book": book,
    "midpoint": midpoint,
    "price": price,
    "spread": spread,
    "last-trade-price": last_trade_price,
    "tick-size": tick_size,
    "neg-risk": neg_risk,
    "fee-rate": fee_rate,
    "time": time,
}


def books(venue: Venue, asked: object) -> object:
    """`POST /books`: tokens without a book are left out."""
    return [state.wire(outcome) for state, outcome, _ in _known(venue, asked)]


def midpoints(venue: Venue, asked: object) -> object:
    """`POST /midpoints`: mids by token; tokens without one are left out."""
    mids = {state.listing.tokens[outcome]: _mid(state, outcome) for state, outcome, _ in _known(venue, asked)}
    return {token: mid for token, mid in mids.items() if mid is not None}


def prices(venue: Venue, asked: object) -> object:
    """`POST /prices`: `{"<token>": {"BUY": "...", "SELL": "..."}}`, the sides that were asked for."""
    answer: dict[str, dict[str, str]] = {}
    for state, outcome, side in _known(venue, asked):
        sides = answer.setdefault(state.listing.tokens[outcome], {})
        for each in (side,) if side else ("BUY", "SELL"):
            sides[each] = _best(state, outcome, each)
    return answer


POSTS: Final[dict[str, Callable[[Venue, object], object]]] = {
    "books": books,
    "midpoints": midpoints,
    "prices": prices,
}


def market(venue: Venue, condition: str) -> object:
    """`/markets/{condition}`. Raises ClobError."""
    listing, state = _listed(venue, condition)
    payouts = state.payouts if state.final else None
    winner = None if payouts is None or payouts[0] == payouts[1] else int(payouts[1] > payouts[0])
    return {
        "enable_order_book": True,
        "active": True,
        "closed": state.closed,
        "archived": False,
        "accepting_orders": state.accepting,
        "minimum_order_size": number(MIN_SHARE_MICROS),
        "minimum_tick_size": number(listing.tick_micros),
        "condition_id": listing.condition,
        "question_id": listing.question_id,
        "question": listing.question,
        "market_slug": listing.slug,
        "end_date_iso": iso(state.closes_ns),
        "game_start_time": None,
        "seconds_delay": 0,
        "maker_base_fee": 1000 if listing.fee_rate_micros else 0,
        "taker_base_fee": 1000 if listing.fee_rate_micros else 0,
        "neg_risk": listing.neg_risk,
        "neg_risk_market_id": listing.question_id if listing.neg_risk else "",
        "is_50_50_outcome": payouts is not None and winner is None,
        "tokens": [
            {
                "token_id": token,
                "outcome": listing.outcomes[outcome],
                "price": number(state.price(outcome)),
                "winner": winner == outcome,
            }
            for outcome, token in enumerate(listing.tokens)
        ],
    }


def clob_market(venue: Venue, condition: str) -> object:
    """`/clob-markets/{condition}`; without fees there is no `fd`. Raises ClobError."""
    listing, _ = _listed(venue, condition)
    body: dict[str, Any] = {
        "c": listing.condition,
        "t": [{"t": token, "o": listing.outcomes[outcome]} for outcome, token in enumerate(listing.tokens)],
        "mos": number(MIN_SHARE_MICROS),
        "mts": number(listing.tick_micros),
        "mbf": 0,
        "tbf": 0,
        "itode": True,
        "nr": listing.neg_risk,
    }
    if listing.fee_rate_micros:
        body["fd"] = {"r": number(listing.fee_rate_micros), "e": 1, "to": True}
    return body


def market_by_token(venue: Venue, token: str) -> object:
    """`/markets-by-token/{token}`. Raises ClobError."""
    known = BY_TOKEN.get(token)
    if known is None or known[0].name not in venue.markets:
        raise ClobError(404, "market not found")
    first, second = known[0].tokens
    return {"condition_id": known[0].condition, "primary_token_id": first, "secondary_token_id": second}


def _listed(venue: Venue, condition: str) -> tuple[Listing, MarketState]:
    listing = BY_CONDITION.get(condition.lower())
    if listing is None or listing.name not in venue.markets:
        raise ClobError(404, "market not found")
    return listing, venue.markets[listing.name]


def _known(venue: Venue, asked: object) -> list[tuple[MarketState, int, str]]:
    if not isinstance(asked, list) or not all(isinstance(one, dict) and "token_id" in one for one in asked):
        raise ClobError(400, "Invalid payload")
    if len(asked) > _BATCH:
        raise ClobError(400, "Payload exceeds the limit")
    found = []
    for one in asked:
        try:
            found.append((*_state(venue, str(one["token_id"])), str(one.get("side", "")).upper()))
        except ClobError:
            continue
    return found


def _mid(state: MarketState, outcome: int) -> str | None:
    mid = state.view(outcome).mid
    return None if mid is None else decimal_text(mid)


def _best(state: MarketState, outcome: int, side: str) -> str:
    if side.upper() not in ("BUY", "SELL"):
        raise ClobError(400, "Invalid side")
    bid, ask = state.best(outcome)
    level = bid if side.upper() == "BUY" else ask
    return "0" if level is None else decimal_text(level[0])


def _sides(venue: Venue, query: dict[str, str]) -> tuple[int, int]:
    state, outcome = _state(venue, query.get("token_id"))
    bid, ask = state.best(outcome)
    if bid is None or ask is None:
        raise ClobError(404, NO_BOOK)
    return bid[0], ask[0]
