"""Owed exits: what an influencer gives up is owed by every copy of it until it is done (docs/design.md, owed exits).

A decision that does not do a reduction whole leaves the rest owed, one exit per subscription and asset. It is tried
again on the log's clock, each try a decision like any other. Fills lower what is owed, a settlement ends it, and an
opening of the influencer on the same side lowers it before anything is bought. The band of a try widens with every
decision that found no price inside its band, step by step up to the widest, and then any price is taken.
"""

from typing import NamedTuple

from msgspec.structs import replace

from domain.events import (
    Action,
    CopyDecided,
    Decision,
    Event,
    ExecutionRequested,
    ExitEnd,
    ExitEnded,
    ExitOwed,
    GroupCause,
    Mode,
    OrderSubmitted,
    PositionSettled,
    TradeSide,
    Venue,
)
from domain.guardrails import Policy
from domain.holding import Part
from domain.ids import derived
from domain.mark_prices import Asset
from domain.micros import MICRO, fraction
from domain.operator_switches import Switch
from domain.reason_codes import Reason
from domain.requests import quoted_by

_MILLISECOND = 1_000_000
_IN_TIME_NS = 1_000_000_000
"""A decision this close to when it was due was in time."""
REFUSED = frozenset({Reason.PRICE_AWAY_FROM_INFLUENCER, Reason.PRICE_AWAY_FROM_MID, Reason.NO_LIQUIDITY_WITHIN_BOUNDS})
"""Reasons for which the next try may go further from the price."""
TOO_SMALL = frozenset({Reason.ACCUMULATED, Reason.BELOW_MINIMUM})
"""Reasons of a reduction that is not worth an order: it waits with the residuals or is dropped, and is not owed."""

Exits = dict[tuple[str, Asset], ExitOwed]
"""What each subscription owes of each asset."""


def evolve(exits: Exits, event: Event) -> None:
    """Fold one event in place; others change nothing."""
    match event:
        case ExitOwed():
            exits[event.subscription_id, (event.venue.value, event.asset)] = event
        case ExitEnded() | PositionSettled():
            exits.pop((event.subscription_id, (event.venue.value, event.asset)), None)


# --- the band of a try -----------------------------------------------------------------------------------------


class Widening(NamedTuple):
    """How far a try may go from the influencer's price and from the mid, at least: dollars in micros, or bps by the
    venue; `at_market` takes any price of the book."""

    absolute_micros: int = 0
    bps: int = 0
    at_market: bool = False


PLAIN = Widening()


def widening(policy: Policy, refused: int) -> Widening:
    """The band of a try after so many decisions that found no price inside theirs."""
    steps = (
        policy.exit_step_1_micros,
        policy.exit_step_2_micros,
        policy.exit_step_3_micros,
        policy.exit_step_4_micros,
        policy.exit_step_5_micros,
        policy.exit_step_6_micros,
    )
    if not refused or not policy.exit_widening:
        return PLAIN
    if refused > len(steps):
        return Widening(at_market=True)
    step = steps[refused - 1]
    return Widening(fraction(policy.exit_max_band_micros, step, MICRO), fraction(policy.exit_max_band_bps, step, MICRO))


def wait_ns(policy: Policy, tries: int) -> int:
    """How long after a decision was due the next try is, in ns, when so many tries were made."""
    waits = (
        policy.exit_wait_1_ms,
        policy.exit_wait_2_ms,
        policy.exit_wait_3_ms,
        policy.exit_wait_4_ms,
        policy.exit_wait_5_ms,
        policy.exit_wait_6_ms,
    )
    return waits[min(tries, len(waits) - 1)] * _MILLISECOND


# --- what is owed after a decision -----------------------------------------------------------------------------


def is_current(request: ExecutionRequested, owed: ExitOwed | None) -> bool:
    """True when a try is of what is owed now, and the next one of it."""
    tried = request.exit
    return tried is None or (owed is not None and (owed.exit_id, owed.tries + 1) == (tried.exit_id, tried.number))


def filled_micros(decision: CopyDecided) -> int:
    """The shares that the order of a decision takes from the book that it was decided at."""
    return min(decision.share_micros, sum(size for _, size in decision.levels))


def follow(
    decision: CopyDecided, request: ExecutionRequested, owed: ExitOwed | None, policy: Policy, *, now: int
) -> tuple[ExitOwed | ExitEnded, ...]:
    """What a decision changes of what its copy owes; `owed` is what was owed before it."""
    tried, before = request.exit is not None, owed.share_micros if owed else 0
    if not is_current(request, owed) or (not tried and decision.owed_micros == before):
        return ()
    if not decision.owed_micros:
        return (ended(owed, _how(decision), now=now, tried=tried),) if owed else ()
    return (_owed(decision, request, owed, policy, decision.owed_micros, now=now),)


def owes(
    decision: CopyDecided, request: ExecutionRequested, owed: ExitOwed | None, policy: Policy, *, now: int
) -> ExitOwed | None:
    """What a live order that reduces leaves owed where it fills nothing; None for one that only opens. `owed` is what
    was owed before the decision."""
    if not decision.reduce_micros or decision.decision is not Decision.EXECUTE:
        return None
    made = _owed(decision, request, owed, policy, decision.reduce_micros, now=now)
    return replace(made, exit_id=made.exit_id or exit_id_of(request))


def unfilled(order: OrderSubmitted, filled_micros: int, owed: ExitOwed | None, held_micros: int) -> int:
    """Shares that are owed once the result of a live order is known, of the `held_micros` that are left; `owed` is what
    has come to be owed since it was decided."""
    missing = max(0, order.reduce_micros - filled_micros)
    return min(held_micros, missing + (owed.share_micros if owed else 0)) if missing else 0


def owed_after_order(
    order: OrderSubmitted,
    filled_micros: int,
    owed: ExitOwed | None,
    held_micros: int,
    reasons: tuple[Reason, ...],
    *,
    now: int,
) -> ExitOwed | None:
    """What a live order left owed of its reduction; None when that filled. Fills reduce first."""
    share = unfilled(order, filled_micros, owed, held_micros) if order.owes is not None else 0
    if not share or order.owes is None:
        return None
    newest = owed or order.owes
    return replace(
        newest,
        exit_id=newest.exit_id,
        attempt_id=order.attempt_id,
        share_micros=share,
        tries=max(newest.tries, order.owes.tries),
        refused=max(newest.refused, order.owes.refused),
        reasons=reasons,
        due_at=max(now, newest.due_at),
        owed_at=now,
    )


def _owed(
    decision: CopyDecided,
    request: ExecutionRequested,
    owed: ExitOwed | None,
    policy: Policy,
    share_micros: int,
    *,
    now: int,
) -> ExitOwed:
    """What is owed after a decision, and when it is tried next."""
    tried = request.exit is not None
    refused = owed.refused if owed else 0
    if (tried or owed is None) and (REFUSED.intersection(decision.reasons) or decision.decision is Decision.EXECUTE):
        refused += 1
    tries = (owed.tries if owed else 0) + tried
    if owed is not None and not tried and owed.due_at > now:
        due_at = owed.due_at
    else:
        # Counted from when this decision was due, so that the same history tries at the same times.
        due = owed.due_at if owed is not None and tried else quoted_by(request, policy)
        due_at = max(now, (due if abs(now - due) <= _IN_TIME_NS else now) + wait_ns(policy, tries))
    newest = owed if owed is not None and (tried or decision.kept_micros) else request
    return ExitOwed(
        exit_id=decision.exit_id or "",
        subscription_id=request.subscription_id,
        subscriber_id=request.subscriber_id,
        influencer_id=request.influencer_id,
        group_id=newest.group_id,
        attempt_id=decision.attempt_id,
        venue=request.venue,
        asset=request.asset,
        market=request.market or (owed.market if owed else ""),
        action=Action.DECREASE if newest.action is Action.DECREASE else Action.CLOSE,
        trade_side=newest.trade_side,
        share_micros=share_micros,
        price_micros=newest.price_micros,
        event_time=newest.event_time,
        detect_time=newest.detect_time,
        cause=newest.cause,
        owed_since=owed.owed_since if owed else request.detect_time,
        tries=tries,
        refused=refused,
        reasons=decision.reasons,
        due_at=due_at,
        while_paused=bool(policy.exits_while_paused),
        owed_at=now,
    )


def ordered(
    part: Part,
    subscription_id: str,
    subscriber_id: str,
    asset: Asset,
    market: str,
    owed: ExitOwed | None,
    order: Switch,
    *,
    while_paused: bool,
    now: int,
) -> ExitOwed | None:
    """All that a subscription holds of an asset is owed, because an operator or the configuration ordered to close it;
    None when it was opened after the order, or is owed already."""
    held = abs(part.share_micros)
    if not held or part.config_sequence >= order.sequence or (owed is not None and owed.share_micros >= held):
        return None
    return ExitOwed(
        exit_id=owed.exit_id if owed else derived("exi", order.sequence, subscription_id, *asset),
        subscription_id=subscription_id,
        subscriber_id=subscriber_id,
        influencer_id=part.influencer_id,
        group_id=derived("clo", order.sequence, subscription_id, *asset),
        attempt_id="",
        venue=Venue(asset[0]),
        asset=asset[1],
        market=market,
        action=Action.CLOSE,
        trade_side=TradeSide.SELL if part.share_micros > 0 else TradeSide.BUY,
        share_micros=held,
        price_micros=0,
        event_time=order.at,
        detect_time=order.at,
        cause=GroupCause.ORDERED,
        owed_since=owed.owed_since if owed else order.at,
        tries=owed.tries if owed else 0,
        refused=owed.refused if owed else 0,
        reasons=owed.reasons if owed else (),
        due_at=now,
        while_paused=while_paused,
        owed_at=now,
    )


def ended(owed: ExitOwed, how: ExitEnd, *, now: int, tried: bool = False) -> ExitEnded:
    """The end of what is owed; `tried` when a try ended it."""
    return ExitEnded(
        exit_id=owed.exit_id,
        subscription_id=owed.subscription_id,
        subscriber_id=owed.subscriber_id,
        influencer_id=owed.influencer_id,
        group_id=owed.group_id,
        venue=owed.venue,
        asset=owed.asset,
        market=owed.market,
        trade_side=owed.trade_side,
        cause=owed.cause,
        share_micros=owed.share_micros,
        price_micros=owed.price_micros,
        how=how,
        tries=owed.tries + tried,
        refused=owed.refused,
        reasons=owed.reasons,
        while_paused=owed.while_paused,
        owed_since=owed.owed_since,
        ended_at=now,
    )


def _how(decision: CopyDecided) -> ExitEnd:
    if decision.kept_micros:
        return ExitEnd.OPENED_AGAIN
    if decision.decision is Decision.EXECUTE:
        return ExitEnd.ORDERED if decision.mode is Mode.LIVE else ExitEnd.FILLED
    return ExitEnd.NOT_HELD if Reason.NO_POSITION in decision.reasons else ExitEnd.BELOW_MINIMUM


def exit_id_of(request: ExecutionRequested) -> str:
    """The id of the exit that begins with this request's decision."""
    return derived("exi", request.request_id)
