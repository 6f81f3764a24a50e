"""Matching: which subscriptions want a group, and why the others do not (docs/design.md, matching).

Filters, pauses and closures concern what opens. A group that reduces the influencer's position is requested all the
same, with the filter's name, so that no subscriber keeps what the influencer gave up. What was closed with `abandon`
requests nothing.
"""

from collections.abc import Sequence
from enum import StrEnum

from msgspec.structs import replace

from domain.configuration import Configuration
from domain.events import (
    Action,
    ExecutionRequested,
    ExitDue,
    ExitTry,
    Filters,
    GroupClosed,
    GroupExpired,
    GroupMatched,
    Level,
    LiveAccount,
    Mode,
    QuoteCaptured,
    QuoteFailed,
    RequestedQuote,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
    Terms,
    TradeSide,
    Venue,
)
from domain.ids import derived
from domain.reason_codes import Reason
from domain.venues import VENUES


class Filtered(StrEnum):
    """Why a subscription does not request a group."""

    INFLUENCER_INACTIVE = "INFLUENCER_INACTIVE"
    SUBSCRIPTION_INACTIVE = "SUBSCRIPTION_INACTIVE"
    SUBSCRIBER_INACTIVE = "SUBSCRIBER_INACTIVE"
    BEFORE_SUBSCRIPTION = "BEFORE_SUBSCRIPTION"
    INFLUENCER_CLOSED = "INFLUENCER_CLOSED"
    INFLUENCER_PAUSED = "INFLUENCER_PAUSED"
    SUBSCRIPTION_CLOSED = "SUBSCRIPTION_CLOSED"
    SUBSCRIPTION_PAUSED = "SUBSCRIPTION_PAUSED"
    SUBSCRIBER_CLOSED = "SUBSCRIBER_CLOSED"
    SUBSCRIBER_PAUSED = "SUBSCRIBER_PAUSED"
    ASSET_NOT_ALLOWED = "ASSET_NOT_ALLOWED"
    ASSET_BLOCKED = "ASSET_BLOCKED"
    MARKET_NOT_ALLOWED = "MARKET_NOT_ALLOWED"
    MARKET_BLOCKED = "MARKET_BLOCKED"
    SIDE_NOT_WANTED = "SIDE_NOT_WANTED"
    DAY_NOT_WANTED = "DAY_NOT_WANTED"
    HOUR_NOT_WANTED = "HOUR_NOT_WANTED"


OPENING_ONLY = frozenset(Filtered) - {
    Filtered.INFLUENCER_INACTIVE,
    Filtered.SUBSCRIPTION_INACTIVE,
    Filtered.SUBSCRIBER_INACTIVE,
    Filtered.BEFORE_SUBSCRIPTION,
}
"""Filters that let reductions through."""

_MINUTE = 60_000_000_000
_DAY_MINUTES = 24 * 60


def filter_of(
    configuration: Configuration, subscription: SubscriptionConfigured, group: GroupClosed
) -> Filtered | None:
    """None when the subscription wants the group."""
    influencer = configuration.influencers.get(group.influencer_id)
    subscriber = configuration.subscribers.get(subscription.subscriber_id)
    if influencer is None or influencer.is_abandoned:
        return Filtered.INFLUENCER_INACTIVE
    if subscription.is_abandoned:
        return Filtered.SUBSCRIPTION_INACTIVE
    if subscriber is None or subscriber.is_abandoned:
        return Filtered.SUBSCRIBER_INACTIVE
    if group.event_time < configuration.active_since.get(subscription.id, 0):
        return Filtered.BEFORE_SUBSCRIPTION
    if influencer.status is Status.CLOSED:
        return Filtered.INFLUENCER_CLOSED
    if influencer.status is Status.PAUSED or group.event_time < configuration.influencers_resumed_at.get(
        influencer.id, 0
    ):
        return Filtered.INFLUENCER_PAUSED  # paused now, or when it traded
    if subscription.status is Status.CLOSED:
        return Filtered.SUBSCRIPTION_CLOSED
    if subscription.status is Status.PAUSED or group.event_time < configuration.resumed_at.get(subscription.id, 0):
        return Filtered.SUBSCRIPTION_PAUSED  # paused now, or when the influencer traded
    if subscriber.status is Status.CLOSED:
        return Filtered.SUBSCRIBER_CLOSED
    if subscriber.status is Status.PAUSED:
        return Filtered.SUBSCRIBER_PAUSED
    return _opening_filter(subscription.filters, group)


def _opening_filter(filters: Filters, group: GroupClosed) -> Filtered | None:
    if filters.allowed_assets and group.asset not in filters.allowed_assets:
        return Filtered.ASSET_NOT_ALLOWED
    if group.asset in filters.blocked_assets:
        return Filtered.ASSET_BLOCKED
    if filters.allowed_markets and group.market not in filters.allowed_markets:
        return Filtered.MARKET_NOT_ALLOWED
    if group.market in filters.blocked_markets:
        return Filtered.MARKET_BLOCKED
    if filters.sides and group.trade_side not in filters.sides:
        return Filtered.SIDE_NOT_WANTED
    minutes = group.event_time // _MINUTE
    # 1970-01-01 was a Thursday, ISO weekday 4.
    if filters.days and (minutes // _DAY_MINUTES + 3) % 7 + 1 not in filters.days:
        return Filtered.DAY_NOT_WANTED
    if filters.hours and not any(_within(minutes % _DAY_MINUTES, *hours) for hours in filters.hours):
        return Filtered.HOUR_NOT_WANTED
    return None


def _within(minute: int, start: int, end: int) -> bool:
    return start <= minute < end if start <= end else minute >= start or minute < end


def reduces(group: GroupClosed) -> bool:
    """True when some of the influencer's position was given up."""
    return group.action in (Action.DECREASE, Action.CLOSE, Action.FLIP)


def quote_of(outcome: QuoteCaptured | QuoteFailed) -> tuple[RequestedQuote | None, Reason | None]:
    """The side of the book that a copy would take, or the reason why there is none."""
    if isinstance(outcome, QuoteFailed):
        return None, outcome.reason
    return side_of_book(
        outcome.bids,
        outcome.asks,
        outcome.group.venue,
        outcome.group.trade_side,
        quote_id=outcome.quote_id,
        size_step_micros=outcome.size_step_micros,
        captured_at=outcome.captured_at,
        venue_time=outcome.venue_time,
        current_at=outcome.current_at,
        terms=outcome.terms,
    )


def side_of_book(
    bids: tuple[Level, ...],
    asks: tuple[Level, ...],
    venue: Venue,
    trade_side: TradeSide,
    *,
    quote_id: str,
    size_step_micros: int,
    captured_at: int,
    venue_time: int,
    current_at: int | None,
    terms: Terms | None,
) -> tuple[RequestedQuote | None, Reason | None]:
    """The side of a captured book that an order would take, or the reason why the book cannot be used."""
    if not bids or not asks:
        return None, Reason.BOOK_EMPTY
    bid, ask = bids[0][0], asks[0][0]
    if bid >= ask:
        return None, Reason.BOOK_CROSSED
    if bid <= 0:
        return None, Reason.BOOK_INVALID
    return RequestedQuote(
        quote_id=quote_id,
        bid_micros=bid,
        ask_micros=ask,
        levels=asks if trade_side is TradeSide.BUY else bids,
        size_step_micros=size_step_micros,
        captured_at=captured_at,
        terms=terms,
        venue_time=_known_at(venue, venue_time, current_at),
    ), None


def _known_at(venue: Venue, venue_time: int, current_at: int | None) -> int | None:
    """The earliest time at which the book is known to have been the venue's, where one is known."""
    stated = venue_time if VENUES[venue].book_time_is_current else None
    return min((time for time in (stated, current_at) if time is not None), default=None)


def match_exits(configuration: Configuration, due: ExitDue, config_sequence: int) -> list[ExecutionRequested]:
    """One request per exit of a round. Statuses and filters concern what opens: an exit is tried whatever they are."""
    requests: list[ExecutionRequested] = []
    for owed in due.exits:
        subscription = configuration.subscriptions[owed.subscription_id]
        subscriber = configuration.subscribers[owed.subscriber_id]
        requests.append(
            ExecutionRequested(
                request_id=derived("req", owed.subscription_id, due.due_id),
                subscription_id=owed.subscription_id,
                subscriber_id=owed.subscriber_id,
                influencer_id=due.influencer_id,
                mode=subscriber.mode,
                group_id=due.group_id,
                venue=due.venue,
                asset=due.asset,
                market=due.market or (due.quote.terms.market if due.quote and due.quote.terms else ""),
                action=due.action,
                trade_side=due.trade_side,
                before_micros=0,
                after_micros=0,
                notional_micros=0,
                price_micros=due.price_micros,
                event_time=due.event_time,
                detect_time=due.detect_time,
                quote=due.quote,
                quote_reason=due.quote_reason,
                sizing=subscription.sizing,
                policy_hash=configuration.policy_of(subscription)[0],
                config_sequence=config_sequence,
                scope=subscriber.scope,
                exit=ExitTry(owed.exit_id, owed.number),
                account=_account_of(configuration, subscriber, due.venue),
            )
        )
    return requests


def _account_of(configuration: Configuration, subscriber: SubscriberConfigured, venue: Venue) -> LiveAccount | None:
    return configuration.live_account(subscriber.id, venue) if subscriber.mode is Mode.LIVE else None


def expired(
    configuration: Configuration,
    group: GroupClosed,
    quote_id: str,
    requests: Sequence[ExecutionRequested],
    config_sequence: int,
    now: int,
) -> GroupExpired | None:
    """That a group which only opens is too old at `now` (ns) for each of its requests; None when one is to be made."""
    if reduces(group) or not requests:
        return None
    age_ms = (now - group.event_time) // 1_000_000
    limit_ms = 0
    for request in requests:
        _, policy = configuration.policy_of(configuration.subscriptions[request.subscription_id])
        limit_ms = max(limit_ms, policy.max_signal_age_ms)
        if age_ms <= limit_ms:
            return None
    return GroupExpired(
        group_id=group.group_id,
        quote_id=quote_id,
        influencer_id=group.influencer_id,
        venue=group.venue,
        asset=group.asset,
        subscriptions=len(requests),
        age_ms=age_ms,
        limit_ms=limit_ms,
        config_sequence=config_sequence,
        expired_at=now,
    )


def match(
    configuration: Configuration, outcome: QuoteCaptured | QuoteFailed, config_sequence: int
) -> tuple[list[ExecutionRequested], GroupMatched]:
    """One request per active subscription that wants the group, and the summary of the fan-out."""
    group = outcome.group
    quote, reason = quote_of(outcome)
    if not group.market and quote is not None and quote.terms is not None:
        group = replace(group, market=quote.terms.market)
    requests: list[ExecutionRequested] = []
    filtered: dict[str, int] = {}
    for subscription in configuration.subscriptions_of(group.influencer_id):
        why = filter_of(configuration, subscription, group)
        if why is not None and not (why in OPENING_ONLY and reduces(group)):
            filtered[why.value] = filtered.get(why.value, 0) + 1
            continue
        policy_hash, _ = configuration.policy_of(subscription)
        subscriber = configuration.subscribers[subscription.subscriber_id]
        requests.append(
            ExecutionRequested(
                request_id=derived("req", subscription.id, group.group_id),
                subscription_id=subscription.id,
                subscriber_id=subscription.subscriber_id,
                influencer_id=group.influencer_id,
                mode=subscriber.mode,
                group_id=group.group_id,
                venue=group.venue,
                asset=group.asset,
                market=group.market,
                action=group.action,
                trade_side=group.trade_side,
                before_micros=group.before_micros,
                after_micros=group.after_micros,
                notional_micros=group.notional_micros,
                price_micros=group.price_micros,
                event_time=group.event_time,
                detect_time=group.detect_time,
                quote=quote,
                quote_reason=reason,
                sizing=subscription.sizing,
                policy_hash=policy_hash,
                config_sequence=config_sequence,
                scope=subscriber.scope,
                opening_blocked=why.value if why else None,
                position_state=group.position_state,
                influencer_equity_micros=group.influencer_equity_micros,
                cause=group.cause,
                account=_account_of(configuration, subscriber, group.venue),
            )
        )
    summary = GroupMatched(
        group_id=group.group_id,
        quote_id=outcome.quote_id,
        influencer_id=group.influencer_id,
        matched=len(requests),
        filtered=filtered,
    )
    return requests, summary
