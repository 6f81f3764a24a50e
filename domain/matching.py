"""Matching: which subscriptions want a group, and why the others do not (DESIGN 6.5, filters)."""

from enum import StrEnum

from domain.directory import Directory
from domain.events import (
    ExecutionRequested,
    GroupClosed,
    GroupMatched,
    QuoteCaptured,
    QuoteFailed,
    RequestedQuote,
    Status,
    SubscriptionConfigured,
    TradeSide,
)
from domain.ids import derived
from domain.reasons import Reason


class Filtered(StrEnum):
    """Why a subscription did not ask for a group."""

    INFLUENCER_INACTIVE = "INFLUENCER_INACTIVE"
    SUBSCRIPTION_INACTIVE = "SUBSCRIPTION_INACTIVE"
    SUBSCRIBER_INACTIVE = "SUBSCRIBER_INACTIVE"
    BEFORE_SUBSCRIPTION = "BEFORE_SUBSCRIPTION"
    ASSET_NOT_ALLOWED = "ASSET_NOT_ALLOWED"
    ASSET_BLOCKED = "ASSET_BLOCKED"
    SIDE_NOT_WANTED = "SIDE_NOT_WANTED"


def filter_of(directory: Directory, subscription: SubscriptionConfigured, group: GroupClosed) -> Filtered | None:
    """None when the subscription wants the group."""
    influencer = directory.influencers.get(group.influencer_id)
    subscriber = directory.subscribers.get(subscription.subscriber_id)
    filters = subscription.filters
    if influencer is None or influencer.status is not Status.ACTIVE:
        return Filtered.INFLUENCER_INACTIVE
    if subscription.status is not Status.ACTIVE:
        return Filtered.SUBSCRIPTION_INACTIVE
    if subscriber is None or subscriber.status is not Status.ACTIVE:
        return Filtered.SUBSCRIBER_INACTIVE
    if group.event_time < directory.active_since.get(subscription.id, 0):
        return Filtered.BEFORE_SUBSCRIPTION
    if filters.allowed_assets and group.asset not in filters.allowed_assets:
        return Filtered.ASSET_NOT_ALLOWED
    if group.asset in filters.blocked_assets:
        return Filtered.ASSET_BLOCKED
    if filters.sides and group.trade_side not in filters.sides:
        return Filtered.SIDE_NOT_WANTED
    return None


def quote_of(outcome: QuoteCaptured | QuoteFailed) -> tuple[RequestedQuote | None, Reason | None]:
    """The side of the book that a copy would take, or the reason why there is none."""
    if isinstance(outcome, QuoteFailed):
        return None, outcome.reason
    if not outcome.bids or not outcome.asks:
        return None, Reason.BOOK_EMPTY
    bid, ask = outcome.bids[0][0], outcome.asks[0][0]
    if bid >= ask:
        return None, Reason.BOOK_CROSSED
    levels = outcome.asks if outcome.group.trade_side is TradeSide.BUY else outcome.bids
    return RequestedQuote(outcome.quote_id, bid, ask, levels, outcome.size_step_micros, outcome.captured_at), None


def match(
    directory: Directory, outcome: QuoteCaptured | QuoteFailed, config_sequence: int
) -> tuple[list[ExecutionRequested], GroupMatched]:
    """One request per active subscription that wants the group, and the summary of the fan-out."""
    group = outcome.group
    quote, reason = quote_of(outcome)
    requests: list[ExecutionRequested] = []
    filtered: dict[str, int] = {}
    for subscription in directory.subscriptions_of(group.influencer_id):
        why = filter_of(directory, subscription, group)
        if why is not None:
            filtered[why.value] = filtered.get(why.value, 0) + 1
            continue
        policy_hash, _ = directory.policy_of(subscription)
        requests.append(
            ExecutionRequested(
                request_id=derived("req", subscription.id, group.group_id),
                subscription_id=subscription.id,
                subscriber_id=subscription.subscriber_id,
                influencer_id=group.influencer_id,
                mode=directory.subscribers[subscription.subscriber_id].mode,
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
