"""The Data API's first version: arrays in camelCase, pages by offset, errors `{"error": text}`."""

from typing import Any, Final

from gateways.sandbox.polymarket.holdings import Holding, holdings, worth
from gateways.sandbox.polymarket.query import BadRequestError, Parameters, activity_of, picked, trades_of
from gateways.sandbox.polymarket.rows import number
from gateways.sandbox.polymarket.venue import Venue

_PAGE: Final = 100
_TRADES_PAGE: Final = 10_000
_ACTIVITY_PAGE: Final = 500
_POSITIONS_PAGE: Final = 500
_POSITIONS_OFFSET: Final = 10_000


def trades(venue: Venue, given: Parameters) -> object:
    """`/trades`: newest first. Raises BadRequestError."""
    if (given.text("filter_type") is None) != (given.text("filter_amount") is None):
        raise BadRequestError("filterType and filterAmount must be provided together", "filterType")
    _either(given)
    offset, limit = _page(given, _TRADES_PAGE, venue.limits.trades_offset)
    rows = picked(venue.feed.of(given.user()), trades_of(given, floor=0.0))[::-1]
    return [row.trade_v1() for row in rows[offset : offset + limit]]


def activity(venue: Venue, given: Parameters) -> object:
    """`/activity` of one wallet, newest first unless the request wants another order. Raises BadRequestError."""
    user = _required_user(given)
    _either(given)
    offset, limit = _page(given, _ACTIVITY_PAGE, venue.limits.activity_offset)
    rows = picked(venue.activity(user), activity_of(given))
    by = given.choice("sort_by", ("TIMESTAMP", "TOKENS", "CASH")) or "TIMESTAMP"
    if by == "TOKENS":
        rows.sort(key=lambda row: row.size)
    elif by == "CASH":
        rows.sort(key=lambda row: row.usdc_size)
    if given.choice("sort_direction", ("ASC", "DESC")) != "ASC":
        rows.reverse()
    return [row.activity_v1() for row in rows[offset : offset + limit]]


def positions(venue: Venue, given: Parameters) -> object:
    """`/positions`: what one wallet holds, most valuable first. Raises BadRequestError."""
    user = _required_user(given)
    _either(given)
    offset, limit = _page(given, _POSITIONS_PAGE, _POSITIONS_OFFSET)
    held = _held(venue, user, given, given.amount("size_threshold", 1.0))
    key = _SORTS[given.choice("sort_by", _SORTS) or "CURRENT"]
    held.sort(key=key, reverse=given.choice("sort_direction", ("ASC", "DESC")) != "ASC")
    return [_position(one) for one in held[offset : offset + limit]]


def value(venue: Venue, given: Parameters) -> object:
    """`/value`: what the positions of one wallet are worth. Raises BadRequestError."""
    user = _required_user(given)
    markets = given.listed("market")
    held = [one for one in holdings(venue, user) if not markets or one.listing.condition in markets]
    return [{"user": user, "value": number(worth(held))}]


def _held(venue: Venue, user: str, given: Parameters, least: float) -> list[Holding]:
    markets, events, title = given.listed("market"), given.listed("event_id"), given.text("title") or ""
    return [
        one
        for one in holdings(venue, user)
        if one.position.share_micros > 0
        and number(one.position.share_micros) >= least
        and (not markets or one.listing.condition in markets)
        and (not events or one.listing.event_id in events)
        and title.lower() in one.listing.question.lower()
        and (not given.flag("redeemable", default=False) or one.resolved)
        and (not given.flag("mergeable", default=False) or one.mergeable)
    ]


_SORTS: Final[dict[str, Any]] = {
    "CURRENT": lambda one: one.value_micros,
    "INITIAL": lambda one: one.position.cost_micros,
    "TOKENS": lambda one: one.position.share_micros,
    "CASHPNL": lambda one: one.value_micros - one.position.cost_micros,
    "PERCENTPNL": lambda one: one.percent,
    "TITLE": lambda one: one.listing.question,
    "RESOLVING": lambda one: one.end_date,
    "PRICE": lambda one: one.price_micros,
    "AVGPRICE": lambda one: one.average,
}


def _position(one: Holding) -> dict[str, object]:
    position, listing = one.position, one.listing
    return {
        "proxyWallet": one.wallet,
        "asset": listing.tokens[one.outcome],
        "conditionId": listing.condition,
        "size": number(position.share_micros),
        "avgPrice": one.average,
        "initialValue": number(position.cost_micros),
        "currentValue": number(one.value_micros),
        "cashPnl": number(one.value_micros - position.cost_micros),
        "percentPnl": one.percent,
        "totalBought": number(position.bought_micros),
        "realizedPnl": number(position.realized_micros),
        "percentRealizedPnl": one.percent_realized,
        "curPrice": number(one.price_micros),
        "redeemable": one.resolved,
        "mergeable": one.mergeable,
        "title": listing.question,
        "slug": listing.slug,
        "icon": one.icon,
        "eventId": listing.event_id,
        "eventSlug": listing.event_slug,
        "outcome": listing.outcomes[one.outcome],
        "outcomeIndex": one.outcome,
        "oppositeOutcome": listing.outcomes[1 - one.outcome],
        "oppositeAsset": listing.tokens[1 - one.outcome],
        "endDate": one.end_date,
        "negativeRisk": listing.neg_risk,
    }


def _required_user(given: Parameters) -> str:
    user = given.user()
    if user is None:
        raise BadRequestError("required query param 'user' not provided", "user")
    return user


def _either(given: Parameters) -> None:
    if given.text("market") is not None and given.text("event_id") is not None:
        raise BadRequestError("market and eventId are mutually exclusive", "market")


def _page(given: Parameters, most: int, offset_most: int) -> tuple[int, int]:
    offset = given.number("offset", 0)
    if offset > offset_most:
        raise BadRequestError(f"max historical activity offset of {offset_most} exceeded", "offset")
    return offset, given.number("limit", _PAGE, most=most)
