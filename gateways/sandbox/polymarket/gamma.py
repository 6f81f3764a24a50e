"""Gamma: market objects as the venue serves them, with JSON inside strings, and public profiles."""

from collections.abc import Sequence
from typing import Final

import msgspec

from domain.micros import decimal_text
from gateways.sandbox.polymarket.market_state import MarketState
from gateways.sandbox.polymarket.markets import MIN_SHARE_MICROS
from gateways.sandbox.polymarket.rows import about, number
from gateways.sandbox.polymarket.times import closed_text, day, iso
from gateways.sandbox.polymarket.traders import INFLUENCERS, PROFILES
from gateways.sandbox.polymarket.venue import Venue

_PAGE: Final = 20
_LARGEST_PAGE: Final = 500


class GammaError(ValueError):
    """A request that Gamma refuses; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def market(state: MarketState, now_ns: int) -> dict[str, object]:
    """One market object. `outcomePrices` are mids while it trades and payouts once there are any."""
    listing = state.listing
    if state.payouts is not None:
        prices = [decimal_text(price) for price in state.payouts]
    else:
        prices = [decimal_text(state.price(outcome)) for outcome in (0, 1)]
    rate = listing.fee_rate_micros
    body: dict[str, object] = {
        "id": listing.gamma_id,
        "question": listing.question,
        "conditionId": listing.condition,
        "questionID": listing.question_id,
        "slug": listing.slug,
        "icon": about(listing).icon,
        "description": f"A market of the sandbox: {listing.question}",
        "startDate": iso(state.opened_ns),
        "createdAt": iso(state.opened_ns),
        "updatedAt": iso(now_ns),
        "endDate": iso(state.closes_ns),
        "endDateIso": day(state.closes_ns),
        "outcomes": _text(listing.outcomes),
        "outcomePrices": _text(prices),
        "clobTokenIds": _text(listing.tokens),
        "active": True,
        "closed": state.closed,
        "archived": False,
        "acceptingOrders": state.accepting,
        "enableOrderBook": True,
        "orderPriceMinTickSize": number(listing.tick_micros),
        "orderMinSize": number(MIN_SHARE_MICROS),
        "negRisk": listing.neg_risk,
        "feesEnabled": rate > 0,
        "makerBaseFee": 1000 if rate else 0,
        "takerBaseFee": 1000 if rate else 0,
        "volume": decimal_text(state.volume_micros),
        "volumeNum": number(state.volume_micros),
        "umaResolutionStatuses": _text([] if state.payouts is None else [state.stage]),
        "automaticallyResolved": state.final and not state.disputed,
        "version": "v1",
        "events": [{"id": listing.event_id, "slug": listing.event_slug, "title": listing.question}],
    }
    if rate:
        body |= {
            "feeType": listing.fee_type,
            "feeSchedule": {"exponent": 1, "rate": number(rate), "takerOnly": True, "rebateRate": 0.2},
        }
    bid, ask = state.best(0)
    if state.has_book and bid is not None and ask is not None:
        body |= {"bestBid": number(bid[0]), "bestAsk": number(ask[0]), "spread": number(ask[0] - bid[0])}
    last = state.last_price(0)
    if last is not None:
        body["lastTradePrice"] = number(last)
    if state.payouts is not None:
        body["umaResolutionStatus"] = state.stage
    if state.closed and state.ended_ns is not None:
        body |= {"closedTime": closed_text(state.ended_ns), "umaEndDate": iso(state.ended_ns)}
    return body


def _text(values: Sequence[str]) -> str:
    return "[" + ", ".join(msgspec.json.encode(value).decode() for value in values) + "]"


def markets(venue: Venue, given: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    """`/markets`: without `closed=true` only the open ones, with it only the closed ones. Raises GammaError."""
    found, offset, limit = _found(venue, given), _whole(given, "offset", 0), _whole(given, "limit", _PAGE)
    return found[offset : offset + min(limit, _LARGEST_PAGE)]


def keyset(venue: Venue, given: Sequence[tuple[str, str]]) -> dict[str, object]:
    """`/markets/keyset`: pages by `after_cursor`. Raises GammaError."""
    found, limit = _found(venue, given), min(_whole(given, "limit", _PAGE), _LARGEST_PAGE)
    ids = [str(body["id"]) for body in found]
    after = _values(given, "after_cursor")
    if after and after[0] not in ids:
        raise GammaError(422, "invalid cursor")
    start = ids.index(after[0]) + 1 if after else 0
    page = found[start : start + limit]
    more = bool(page) and start + limit < len(found)
    return {"markets": page} | ({"next_cursor": page[-1]["id"]} if more else {})


def one(venue: Venue, *, slug: str | None = None, number: str | None = None) -> dict[str, object] | None:
    """`/markets/slug/{slug}` and `/markets/{id}`."""
    for state in venue.markets.values():
        if slug == state.listing.slug or number == state.listing.gamma_id:
            return market(state, venue.now_ns())
    return None


def profile(given: Sequence[tuple[str, str]]) -> dict[str, object] | None:
    """`/public-profile`: of a followed wallet, asked for by itself or by its signer. Raises GammaError."""
    asked = _values(given, "address")
    if not asked or len(asked[0]) != 42 or not asked[0].lower().startswith("0x"):
        raise GammaError(400, "invalid address")
    address = asked[0].lower()
    for who in INFLUENCERS:
        if address in (who.address, who.signer):
            return {
                "createdAt": "2025-06-01T00:00:00Z",
                "proxyWallet": who.address,
                "displayUsernamePublic": True,
                "bio": "",
                "pseudonym": PROFILES[who.address].pseudonym,
                "name": who.label,
                "profileImage": "",
                "users": [{"id": who.id, "creator": True, "mod": False}],
                "verifiedBadge": False,
            }
    return None


def _found(venue: Venue, given: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    conditions, tokens = _values(given, "condition_ids"), _values(given, "clob_token_ids")
    slugs, closed = _values(given, "slug"), _values(given, "closed")
    wants_closed = bool(closed) and closed[0].lower() == "true"
    return [
        market(state, venue.now_ns())
        for state in venue.markets.values()
        if state.closed == wants_closed
        and (not conditions or state.listing.condition in conditions)
        and (not tokens or set(tokens) & set(state.listing.tokens))
        and (not slugs or state.listing.slug in slugs)
    ]


def _values(given: Sequence[tuple[str, str]], name: str) -> list[str]:
    """The values under a name that may be repeated or hold a comma list."""
    return [part for key, value in given if key == name for part in value.split(",") if part]


def _whole(given: Sequence[tuple[str, str]], name: str, default: int) -> int:
    values = _values(given, name)
    if not values:
        return default
    if not values[0].isdecimal():
        raise GammaError(422, f"invalid {name}")
    return int(values[0])
