"""What completes a request that could not be decided, once an operator has dropped its dead letter.

The decision is a SKIP that changes nothing: what waits with the residuals waits on, what is owed stays owed, and what
the copy holds stays held. It computes nothing that the failed decision may have failed at.
"""

from domain.decision import RULES
from domain.events import CopyDecided, Decision, ExecutionRequested
from domain.ids import related
from domain.portfolio import NOTHING, Portfolio
from domain.reason_codes import Reason


def dropped(
    portfolio: Portfolio, request: ExecutionRequested, *, now: int, config_sequence: int, marks_sequence: int
) -> CopyDecided:
    """The SKIP of a dropped request, at `now` (ns). Its equity is not computed and counts as 0."""
    asset = (request.venue.value, request.asset)
    waiting = portfolio.residuals.get((request.subscription_id, asset), NOTHING)
    owed = portfolio.exits.get((request.subscription_id, asset))
    return CopyDecided(
        attempt_id=related("att", request.request_id),
        request_id=request.request_id,
        subscription_id=request.subscription_id,
        subscriber_id=request.subscriber_id,
        influencer_id=request.influencer_id,
        group_id=request.group_id,
        quote_id=request.quote.quote_id if request.quote else None,
        mode=request.mode,
        venue=request.venue,
        asset=request.asset,
        market=request.market,
        action=request.action,
        trade_side=request.trade_side,
        decision=Decision.SKIP,
        reasons=(Reason.DROPPED,),
        checks=(),
        target_notional_micros=0,
        share_micros=0,
        reduce_micros=0,
        limit_price_micros=0,
        mid_micros=0,
        levels=(),
        equity_micros=0,
        policy_hash=request.policy_hash,
        config_sequence=config_sequence,
        event_time=request.event_time,
        detect_time=request.detect_time,
        decided_at=now,
        marks_sequence=marks_sequence,
        residual_micros=waiting.notional_micros,
        residual_share_micros=waiting.share_micros,
        scope=request.scope,
        exit_id=owed.exit_id if owed else None,
        owed_micros=owed.share_micros if owed else 0,
        rules=RULES,
    )
