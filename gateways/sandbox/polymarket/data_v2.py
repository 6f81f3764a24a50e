"""The Data API's second version: envelopes in snake_case, pages by cursor, errors with `retryable` and `trace_id`.

A cursor is an anchor (page size, direction and the last row's place), not a query: filters have to be sent again, and a
walk is stable while rows are added. What the venue does not know it ignores, `next_cursor` as a parameter included.
"""

import base64
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from gateways.sandbox.polymarket.abi import CHAIN_ID, CONTRACTS
from gateways.sandbox.polymarket.chain import BLOCK_MS
from gateways.sandbox.polymarket.holdings import Holding, holdings, worth
from gateways.sandbox.polymarket.query import BadRequestError, Parameters, activity_of, picked, trades_of
from gateways.sandbox.polymarket.rows import Row, number
from gateways.sandbox.polymarket.times import iso
from gateways.sandbox.polymarket.venue import Venue

_PAGE: Final = 100
_LARGEST_PAGE: Final = 1_000
_MOST_CONDITIONS: Final = 20
_DUST_SHARES: Final = 0.01
_DUST_POSITION: Final = 0.1
_UNSET_PRICE: Final = "69"

T = TypeVar("T")


class _Cursor(msgspec.Struct, array_like=True):
    limit: int
    ascending: bool
    timestamp: int
    sequence: int


def trades(venue: Venue, given: Parameters) -> object:
    """`/v2/trades`, newest first. Raises BadRequestError."""
    _checked(given)
    rows = picked(venue.feed.of(given.user()), trades_of(given, floor=_DUST_SHARES))
    return _paged(rows, given, lambda row: (row.timestamp, row.sequence), Row.trade_v2, ascending=False)


def activity(venue: Venue, given: Parameters) -> object:
    """`/v2/activity` of one wallet. Raises BadRequestError."""
    _checked(given)
    user = _required_user(given)
    given.choice("sort_by", ("TIMESTAMP",))
    ascending = given.choice("sort_direction", ("ASC", "DESC")) == "ASC"
    rows = picked(venue.activity(user), activity_of(given))
    return _paged(rows, given, lambda row: (row.timestamp, row.sequence), Row.activity_v2, ascending=ascending)


def positions(venue: Venue, given: Parameters) -> object:
    """`/v2/positions` of one wallet, by condition and outcome. Raises BadRequestError."""
    _checked(given)
    user = _required_user(given)
    wanted = given.choice("status", ("OPEN", "REDEEMABLE", "REDEEMABLE_LOST", "MERGEABLE", "CLOSED")) or "OPEN"
    least, conditions = given.amount("filter_amount", _DUST_POSITION), given.listed("condition")
    held = [
        one
        for one in holdings(venue, user)
        if (not conditions or one.listing.condition in conditions)
        and (one.status == "CLOSED" or number(one.position.share_micros) >= least)
        and (
            one.status == wanted
            or (wanted == "OPEN" and one.status != "CLOSED")
            or (wanted == "MERGEABLE" and one.mergeable)
        )
    ]
    return _paged(held, given, lambda one: (one.position.last_s, one.place), _position, ascending=False)


def value(venue: Venue, given: Parameters) -> object:
    """`/v2/value`, to four decimals. Raises BadRequestError."""
    user, conditions = _required_user(given), given.listed("condition")
    held = [one for one in holdings(venue, user) if not conditions or one.listing.condition in conditions]
    return {"data": {"proxy_wallet": user, "value": number(worth(held) // 100 * 100)}}


def resolutions(venue: Venue, given: Parameters) -> object:
    """`/v2/resolutions` of the conditions or events asked for. Raises BadRequestError."""
    _checked(given)
    conditions, events = given.listed("condition"), given.listed("event_id")
    if not conditions and not events:
        raise BadRequestError("one of 'condition' and 'event_id' is required", "condition")
    states = [
        state
        for state in venue.markets.values()
        if state.listing.condition in conditions or state.listing.event_id in events
    ]
    data = [
        {
            "condition_id": state.listing.condition,
            "question_id": state.listing.question_id,
            "status": state.stage,
            "price": _UNSET_PRICE if state.payouts is None else number(state.payouts[0]),
            "payouts": list(state.payouts) if state.final and state.payouts else [],
            "resolved_at": iso(state.ended_ns) if state.final and state.ended_ns is not None else None,
            "resolved_block": state.resolved_block,
            "resolution_source": "",
            "transaction_hash": state.transaction,
            "was_disputed": state.disputed,
            "extended_review": False,
        }
        for state in states
    ]
    return {"data": data, "pagination": _pagination(_PAGE, None)}


def status(venue: Venue, given: Parameters) -> object:
    """`/v2/status`: how far behind the chain the rows are."""
    now_ns, chain = venue.now_ns(), venue.chain
    synced = chain.number_at(venue.feed.synced_ns or now_ns)
    behind = max(0, chain.head - synced)
    lag_s = max(0, (now_ns - chain.made_ns(synced)) // 1_000_000_000)
    late = behind * BLOCK_MS > 30_000
    cursor = {"source": "orders", "block": synced, "behind_max": behind}
    return {
        "data": {
            "computed_at": iso(now_ns),
            "age_seconds": 0,
            "serving": {
                "lag_seconds": lag_s,
                "worst": "activity_feed",
                "mechanisms": [{"name": "activity_feed", "age_seconds": lag_s, "blocks_behind": behind}],
            },
            "ingestion": {
                "cursors": 1,
                "chain_id": CHAIN_ID,
                "network": "polygon",
                "lagging": [cursor] if late else [],
                "most_lagged": cursor if late else None,
                "max_synced_block": synced,
                "min_synced_block": synced,
            },
        }
    }


def _position(one: Holding) -> dict[str, object]:
    position, listing = one.position, one.listing
    gain = one.value_micros - position.cost_micros if position.share_micros else 0
    return {
        "proxy_wallet": one.wallet,
        "token_id": listing.tokens[one.outcome],
        "condition_id": listing.condition,
        "current_size": number(position.share_micros),
        "avg_price": one.average,
        "entry_cost_usdc": number(position.cost_micros),
        "entry_fees_usdc": number(position.fee_micros),
        "total_cost_usdc": number(position.cost_micros + position.fee_micros),
        "current_price": number(one.price_micros),
        "current_value": number(one.value_micros),
        "total_size": number(position.bought_micros),
        "realized_pnl": number(position.realized_micros),
        "unrealized_pnl": number(gain),
        "total_pnl": number(position.realized_micros + gain),
        "percent_pnl": one.percent,
        "percent_realized_pnl": one.percent_realized,
        "status": one.status,
        "redeemable": one.resolved and position.share_micros > 0,
        "mergeable": one.mergeable,
        "negative_risk": listing.neg_risk,
        "archived": False,
        "title": listing.question,
        "slug": listing.slug,
        "icon": one.icon,
        "event_id": listing.event_id,
        "event_slug": listing.event_slug,
        "outcome": listing.outcomes[one.outcome],
        "outcome_index": one.outcome,
        "opposite_outcome": listing.outcomes[1 - one.outcome],
        "opposite_token_id": listing.tokens[1 - one.outcome],
        "end_date": one.end_date,
        "last_event_at": position.last_s,
        "first_entry_at": position.first_s,
        "name": "",
        "profile_image": "",
        "verified": False,
    }


def _paged(
    found: Sequence[T],
    given: Parameters,
    place: Callable[[T], tuple[int, int]],
    wire: Callable[[T], dict[str, object]],
    *,
    ascending: bool,
) -> dict[str, Any]:
    cursor = _cursor(given.text("cursor"))
    limit = cursor.limit if cursor else _limit(given)
    ascending = cursor.ascending if cursor else ascending
    ordered = sorted(found, key=place, reverse=not ascending)
    if cursor is not None:
        anchor = (cursor.timestamp, cursor.sequence)
        ordered = [one for one in ordered if (place(one) > anchor if ascending else place(one) < anchor)]
    page = ordered[:limit]
    more = len(ordered) > len(page) and bool(page)
    following = _Cursor(limit, ascending, *place(page[-1])) if more else None
    return {"data": [wire(one) for one in page], "pagination": _pagination(limit, following)}


def _pagination(limit: int, following: _Cursor | None) -> dict[str, object]:
    token = None if following is None else base64.urlsafe_b64encode(msgspec.json.encode(following)).decode()
    return {"limit": limit, "offset": 0, "has_more": following is not None, "next_cursor": token}


def _cursor(token: str | None) -> _Cursor | None:
    if token is None:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token), type=_Cursor)
    except (ValueError, msgspec.MsgspecError):
        raise BadRequestError("invalid 'cursor'", "cursor") from None


def _limit(given: Parameters) -> int:
    limit = given.number("limit", _PAGE)
    if limit > _LARGEST_PAGE:
        raise BadRequestError(f"invalid 'limit': must be at most {_LARGEST_PAGE}", "limit")
    return limit


def _checked(given: Parameters) -> None:
    if given.text("offset") is not None:
        raise BadRequestError("'offset' is not supported; use 'cursor'", "offset")
    conditions = given.listed("condition")
    if conditions and given.listed("event_id"):
        raise BadRequestError("'condition' and 'event_id' are mutually exclusive", "condition")
    if len(conditions) > _MOST_CONDITIONS:
        raise BadRequestError(f"invalid 'condition': at most {_MOST_CONDITIONS}", "condition")


def _required_user(given: Parameters) -> str:
    user = given.user()
    if user is None:
        raise BadRequestError("'user' is required", "user")
    if user in CONTRACTS:
        raise BadRequestError("'user' is a protocol contract", "user")
    return user
