"""Live orders: from a decision to the order that is sent, and from its result to fills, position and what is owed
(docs/design.md, live orders).
"""

from domain import exits
from domain.events import (
    AccountReported,
    CopyDecided,
    Decision,
    Event,
    ExecutionCompleted,
    ExecutionRequested,
    ExitOwed,
    FillCorrected,
    Mode,
    OrderConfirmed,
    OrderFilled,
    OrderResulted,
    OrderSubmitted,
    PositionChanged,
    PositionCompared,
)
from domain.guardrails import Policy
from domain.ids import cloid, fill_id, related
from domain.micros import MICRO, nearest
from domain.portfolio import Portfolio, part_of
from domain.position import Position, cash_delta, fill_position

ORDER_LIFE_NS = 5_000_000_000
"""How long after its decision the venue may take a live order: later its price is not that of the decision."""


def submit(
    portfolio: Portfolio,
    decision: CopyDecided,
    request: ExecutionRequested,
    owed: ExitOwed | None,
    policy: Policy,
    *,
    now: int,
) -> OrderSubmitted | None:
    """The order that a decision in live mode sends, given the portfolio for which it was made; None for a SKIP."""
    if decision.decision is not Decision.EXECUTE or decision.mode is not Mode.LIVE or request.account is None:
        return None
    holding = portfolio.holdings.get((decision.venue.value, decision.asset))
    # What the account holds and has ordered over all its subscriptions: two of them may hold against each other, and
    # then the account has nothing that this order could reduce.
    expected = 0
    if holding is not None:
        expected = holding.position.share_micros + sum(order.delta_micros for order in holding.orders.values())
    opens = decision.share_micros > decision.reduce_micros
    return OrderSubmitted(
        order_id=related("ord", decision.attempt_id),
        cloid=cloid(decision.attempt_id),
        attempt_id=decision.attempt_id,
        subscription_id=decision.subscription_id,
        subscriber_id=decision.subscriber_id,
        influencer_id=decision.influencer_id,
        group_id=decision.group_id,
        mode=decision.mode,
        venue=decision.venue,
        asset=decision.asset,
        trade_side=decision.trade_side,
        share_micros=decision.share_micros,
        reduce_micros=decision.reduce_micros,
        limit_price_micros=decision.limit_price_micros,
        submitted_at=now,
        account=request.account,
        reduce_only=not opens and -decision.trade_side.sign * expected >= decision.share_micros,
        size_step_micros=decision.terms.size_step_micros if decision.terms else 1,
        expires_at=now + ORDER_LIFE_NS,
        fee_part_micros=policy.taker_fee_micros,
        owes=exits.owes(decision, request, owed, policy, now=now),
    )


def book(portfolio: Portfolio, result: OrderResulted) -> tuple[Event, ...]:
    """Fills, result, position and what is owed after a live order, given the portfolio before its result."""
    order = result.order
    asset = (order.venue.value, order.asset)
    holding = portfolio.holdings.get(asset)
    position = holding.position if holding is not None else Position()
    sign = order.trade_side.sign
    events: list[Event] = []
    for number, fill in enumerate(result.fills):
        events.append(
            OrderFilled(
                fill_id=fill_id(order.order_id, number),
                order_id=order.order_id,
                attempt_id=order.attempt_id,
                subscription_id=order.subscription_id,
                subscriber_id=order.subscriber_id,
                influencer_id=order.influencer_id,
                venue=order.venue,
                asset=order.asset,
                trade_side=order.trade_side,
                share_micros=fill.share_micros,
                price_micros=fill.price_micros,
                notional_micros=fill.notional_micros,
                fee_micros=fill.fee_micros,
                share_delta_micros=sign * fill.share_micros,
                cash_delta_micros=cash_delta(order.trade_side, fill.notional_micros, fill.fee_micros),
                filled_at=fill.filled_at or result.resulted_at,
            )
        )
        position = fill_position(position, sign * fill.share_micros, fill.notional_micros)
    filled = sum(fill.share_micros for fill in result.fills)
    notional = sum(fill.notional_micros for fill in result.fills)
    events += [
        ExecutionCompleted(
            order_id=order.order_id,
            attempt_id=order.attempt_id,
            subscription_id=order.subscription_id,
            subscriber_id=order.subscriber_id,
            venue=order.venue,
            asset=order.asset,
            requested_micros=order.share_micros,
            filled_micros=filled,
            notional_micros=notional,
            fee_micros=sum(fill.fee_micros for fill in result.fills),
            average_price_micros=nearest(notional * MICRO, filled) if filled else 0,
            reasons=result.reasons,
            completed_at=result.resulted_at,
        ),
        PositionChanged(
            subscriber_id=order.subscriber_id,
            venue=order.venue,
            asset=order.asset,
            order_id=order.order_id,
            share_micros=position.share_micros,
            cost_micros=position.cost_micros,
            average_price_micros=position.average_price_micros,
            realized_micros=position.realized_micros,
            changed_at=result.resulted_at,
        ),
    ]
    held = -sign * (part_of(portfolio, order.subscription_id, asset).share_micros + sign * filled)
    owed = exits.owed_after_order(
        order,
        filled,
        portfolio.exits.get((order.subscription_id, asset)),
        max(0, held),
        result.reasons,
        now=result.resulted_at,
    )
    return (*events, owed) if owed is not None else tuple(events)


def compare(portfolio: Portfolio, report: AccountReported) -> tuple[PositionCompared, ...]:
    """What has changed between the log's live positions and those of the venue account. An asset with an order whose
    result is not booked yet is compared another time."""
    venue = report.venue.value
    held = {asset[1]: holding for asset, holding in portfolio.holdings.items() if asset[0] == venue}
    differing = {asset[1]: both for asset, both in portfolio.differing.items() if asset[0] == venue}
    changed = []
    for asset in sorted(held.keys() | report.positions.keys() | differing.keys()):
        holding = held.get(asset)
        if holding is not None and holding.orders:
            continue
        here, there = holding.position.share_micros if holding is not None else 0, report.positions.get(asset, 0)
        if (here, there) != differing.get(asset, (here, here)):
            changed.append(
                PositionCompared(
                    subscriber_id=report.subscriber_id,
                    venue=report.venue,
                    asset=asset,
                    held_micros=here,
                    found_micros=there,
                    compared_at=report.reported_at,
                )
            )
    return tuple(changed)


def correct(confirmed: OrderConfirmed) -> FillCorrected | None:
    """The booking that makes a live order cost what the venue's own fills say; None when it does already."""
    order = confirmed.order
    notional, fee = confirmed.notional_delta_micros, confirmed.fee_delta_micros
    if not notional and not fee:
        return None
    return FillCorrected(
        order_id=order.order_id,
        attempt_id=order.attempt_id,
        subscription_id=order.subscription_id,
        subscriber_id=order.subscriber_id,
        influencer_id=order.influencer_id,
        venue=order.venue,
        asset=order.asset,
        trade_side=order.trade_side,
        notional_delta_micros=notional,
        fee_delta_micros=fee,
        cash_delta_micros=cash_delta(order.trade_side, notional, fee),
        corrected_at=confirmed.confirmed_at,
    )
