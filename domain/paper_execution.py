"""From a decision to its order, fills and result on paper: one pure step, so that intent and outcome are one commit
(docs/design.md, paper fills).
"""

from domain.events import (
    CopyDecided,
    Event,
    ExecutionCompleted,
    OrderFilled,
    OrderSubmitted,
    PositionChanged,
)
from domain.guardrails import Policy
from domain.ids import cloid, derived
from domain.micros import MICRO, nearest
from domain.paper_fills import fees, walk
from domain.position import Position, cash_delta, fill_position
from domain.reason_codes import Reason


def fill_on_paper(
    decision: CopyDecided, position: Position, copied_micros: int, policy: Policy, *, now: int
) -> tuple[Event, ...]:
    """Everything that follows an EXECUTE on paper: order, one fill per level, result, position after.

    `position` is the subscriber's in the asset, over all its subscriptions; `copied_micros` the signed part of it that
    this subscription holds. The reducing part never exceeds that: an earlier order may have filled less than expected.
    """
    order_id = derived("ord", decision.attempt_id)
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
                fill_id=derived("fil", order_id, number),
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
