"""From a decision to its order, fills and result on paper: one pure step, so that intent and outcome are one commit
(docs/design.md, paper fills).
"""

from domain.events import (
    CopyDecided,
    Decision,
    Event,
    ExecutionCompleted,
    Mode,
    OrderFilled,
    OrderSubmitted,
    PositionChanged,
    PositionSettled,
    SettlementCorrected,
)
from domain.guardrails import Policy
from domain.ids import cloid, fill_id, related
from domain.micros import MICRO, nearest
from domain.paper_fills import fees, walk
from domain.portfolio import Portfolio, part_of, settled_last
from domain.position import Position, cash_delta, fill_position
from domain.reason_codes import Reason


def execute_on_paper(portfolio: Portfolio, decision: CopyDecided, policy: Policy, *, now: int) -> tuple[Event, ...]:
    """What follows a decision on the paper venue, given the portfolio for which it was made; nothing for a SKIP."""
    if decision.decision is not Decision.EXECUTE or decision.mode is not Mode.PAPER:
        return ()
    asset = (decision.venue.value, decision.asset)
    held = portfolio.holdings.get(asset)
    position = held.position if held is not None else Position()
    copied_micros = part_of(portfolio, decision.subscription_id, asset).share_micros
    return fill_on_paper(decision, position, copied_micros, policy, now=now)


def position_after(portfolio: Portfolio, event: PositionSettled) -> PositionChanged:
    """The subscriber's position in an asset after a payout, given the portfolio before it."""
    held = portfolio.holdings.get((event.venue.value, event.asset))
    position = held.position if held is not None else Position()
    after = fill_position(position, event.share_delta_micros, abs(event.cash_delta_micros))
    return PositionChanged(
        subscriber_id=event.subscriber_id,
        venue=event.venue,
        asset=event.asset,
        order_id=event.settlement_id,
        share_micros=after.share_micros,
        cost_micros=after.cost_micros,
        average_price_micros=after.average_price_micros,
        realized_micros=after.realized_micros,
        changed_at=event.settled_at,
    )


def position_corrected(portfolio: Portfolio, event: SettlementCorrected) -> PositionChanged:
    """The subscriber's closed position in an asset after a correction of its payout, given the portfolio before it."""
    newest = settled_last(portfolio, (event.venue.value, event.asset))
    realized = portfolio.settled[newest].realized_micros if newest is not None else 0
    return PositionChanged(
        subscriber_id=event.subscriber_id,
        venue=event.venue,
        asset=event.asset,
        order_id=event.correction_id,
        share_micros=0,
        cost_micros=0,
        average_price_micros=0,
        realized_micros=realized + event.cash_delta_micros,
        changed_at=event.corrected_at,
    )


def fill_on_paper(
    decision: CopyDecided, position: Position, copied_micros: int, policy: Policy, *, now: int
) -> tuple[Event, ...]:
    """Everything that follows an EXECUTE on paper: order, one fill per level, result, position after.

    `position` is the subscriber's in the asset, over all its subscriptions; `copied_micros` the signed part of it that
    this subscription holds. The reducing part never exceeds that.
    """
    order_id = related("ord", decision.attempt_id)
    sign = decision.trade_side.sign
    held = max(0, -sign * copied_micros)
    reduce_micros = min(decision.reduce_micros, held)
    share_micros = decision.share_micros - decision.reduce_micros + reduce_micros
    taken = walk(decision.levels, share_micros, fees(decision.terms, policy))
    events: list[Event] = [
        OrderSubmitted(
            order_id=order_id,
            cloid=cloid(decision.attempt_id),
            attempt_id=decision.attempt_id,
            subscription_id=decision.subscription_id,
            subscriber_id=decision.subscriber_id,
            mode=decision.mode,
            venue=decision.venue,
            asset=decision.asset,
            trade_side=decision.trade_side,
            share_micros=share_micros,
            reduce_micros=reduce_micros,
            limit_price_micros=decision.limit_price_micros,
            submitted_at=now,
        )
    ]
    for number, fill in enumerate(taken):
        events.append(
            OrderFilled(
                fill_id=fill_id(order_id, number),
                order_id=order_id,
                attempt_id=decision.attempt_id,
                subscription_id=decision.subscription_id,
                subscriber_id=decision.subscriber_id,
                influencer_id=decision.influencer_id,
                venue=decision.venue,
                asset=decision.asset,
                trade_side=decision.trade_side,
                share_micros=fill.share_micros,
                price_micros=fill.price_micros,
                notional_micros=fill.notional_micros,
                fee_micros=fill.fee_micros,
                share_delta_micros=sign * fill.share_micros,
                cash_delta_micros=cash_delta(decision.trade_side, fill.notional_micros, fill.fee_micros),
                filled_at=now,
            )
        )
        position = fill_position(position, sign * fill.share_micros, fill.notional_micros)
    filled = sum(fill.share_micros for fill in taken)
    notional = sum(fill.notional_micros for fill in taken)
    reasons: tuple[Reason, ...] = ()
    if not filled:
        reasons = (Reason.NO_LIQUIDITY_WITHIN_BOUNDS if share_micros else Reason.NO_POSITION,)
    elif filled < share_micros:
        reasons = (Reason.PARTIAL_FILL,)
    elif share_micros < decision.share_micros:
        reasons = (Reason.REDUCED_TO_POSITION,)
    events += [
        ExecutionCompleted(
            order_id=order_id,
            attempt_id=decision.attempt_id,
            subscription_id=decision.subscription_id,
            subscriber_id=decision.subscriber_id,
            venue=decision.venue,
            asset=decision.asset,
            requested_micros=decision.share_micros,
            filled_micros=filled,
            notional_micros=notional,
            fee_micros=sum(fill.fee_micros for fill in taken),
            average_price_micros=nearest(notional * MICRO, filled) if filled else 0,
            reasons=reasons,
            completed_at=now,
        ),
        PositionChanged(
            subscriber_id=decision.subscriber_id,
            venue=decision.venue,
            asset=decision.asset,
            order_id=order_id,
            share_micros=position.share_micros,
            cost_micros=position.cost_micros,
            average_price_micros=position.average_price_micros,
            realized_micros=position.realized_micros,
            changed_at=now,
        ),
    ]
    return tuple(events)
