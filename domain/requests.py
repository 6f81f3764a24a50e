"""The stored form of requests, what those of one group share being stored once (docs/design.md, streams), and when
they are due."""

from domain.events import CopyRequested, ExecutionRequested, GroupRequested
from domain.guardrails import Policy
from domain.venues import VENUES

_SHARED = GroupRequested.__struct_fields__
_OWN = CopyRequested.__struct_fields__


def quoted_by(request: ExecutionRequested, policy: Policy) -> int:
    """When (ns) the book of a group is captured at the latest: its window and the latency model after its detection."""
    latency_ms = policy.latency_ms + policy.latency_jitter_ms
    return request.detect_time + VENUES[request.venue].group_window_ns + latency_ms * 1_000_000


def shared_part(request: ExecutionRequested) -> GroupRequested:
    """What a request shares with the others of its group."""
    return GroupRequested(**{name: getattr(request, name) for name in _SHARED})


def own_part(request: ExecutionRequested) -> CopyRequested:
    """What a request has of its own; its id becomes the event's."""
    return CopyRequested(**{name: getattr(request, name) for name in _OWN})


def put_together(request_id: str, shared: GroupRequested, own: CopyRequested) -> ExecutionRequested:
    """The request that `shared_part` and `own_part` were made of."""
    return ExecutionRequested(
        request_id=request_id,
        subscription_id=own.subscription_id,
        subscriber_id=own.subscriber_id,
        influencer_id=shared.influencer_id,
        mode=own.mode,
        group_id=shared.group_id,
        venue=shared.venue,
        asset=shared.asset,
        market=shared.market,
        action=shared.action,
        trade_side=shared.trade_side,
        before_micros=shared.before_micros,
        after_micros=shared.after_micros,
        notional_micros=shared.notional_micros,
        price_micros=shared.price_micros,
        event_time=shared.event_time,
        detect_time=shared.detect_time,
        quote=shared.quote,
        quote_reason=shared.quote_reason,
        sizing=own.sizing,
        policy_hash=own.policy_hash,
        config_sequence=shared.config_sequence,
        scope=own.scope,
        opening_blocked=own.opening_blocked,
        position_state=shared.position_state,
        influencer_equity_micros=shared.influencer_equity_micros,
        cause=shared.cause,
        exit=own.exit,
        account=own.account,
    )
