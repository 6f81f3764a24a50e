"""Grouping: signals of one influencer, asset and trade side inside one window are copied as one (docs/design.md,
grouping).

A window closes by the log's clock (a signal outside of it, or one of the other side) or by a timer. The close is an
event, so a replay does not compute it again.

Positions are those of the influencer over all of its addresses: what one of them sells while another holds more is a
DECREASE.

What an influencer gives up without a trade that was seen is a group of its own, at once: a reduction by a MERGE or
REDEEM, and one that a gap reveals. It has no price and never opens anything.
"""

from msgspec import Struct, structs

from domain.events import (
    Action,
    Event,
    GapDetected,
    GroupCause,
    GroupClosed,
    PositionState,
    SignalGrouped,
    SignalRecorded,
    TradeSide,
)
from domain.ids import derived
from domain.micros import MICRO, nearest
from domain.signals import action_of, side_of
from domain.venues import VENUES

SETTLE_NS = 100_000_000
"""A window stays open at least this long (ns) after its first signal was processed, so that signals of one trade that
arrive late join it."""
MOVEMENTS = frozenset({Action.SPLIT, Action.MERGE, Action.REDEEM})
"""Changes of positions without a trade: copies follow what they give up, at the market."""


class OpenGroup(Struct, frozen=True):
    """A window that still collects: its first signal's facts, and the sums so far."""

    first: SignalGrouped
    after_micros: int = 0
    delta_micros: int = 0
    notional_micros: int = 0
    leverage: int | None = None
    signal_ids: tuple[str, ...] = ()
    signal_sequences: tuple[int, ...] = ()
    last_event_time: int = 0
    position_state: PositionState = PositionState.KNOWN
    influencer_equity_micros: int | None = None


def evolve(group: OpenGroup | None, event: Event) -> OpenGroup | None:
    """The open window after `event`; None when none is open."""
    match event:
        case SignalGrouped():
            group = group or OpenGroup(event)
            return structs.replace(
                group,
                after_micros=event.after_micros,
                delta_micros=group.delta_micros + event.delta_micros,
                notional_micros=group.notional_micros + event.notional_micros,
                leverage=event.leverage,
                signal_ids=(*group.signal_ids, event.signal_id),
                signal_sequences=(*group.signal_sequences, event.signal_sequence),
                last_event_time=max(group.last_event_time, event.event_time),
                position_state=_less_sure(group.position_state, event.position_state),
                influencer_equity_micros=event.influencer_equity_micros,
            )
        case GroupClosed():
            return None
    return group


def _less_sure(one: PositionState, other: PositionState) -> PositionState:
    return PositionState.ASSUMED if PositionState.ASSUMED in (one, other) else one


def join(group: OpenGroup | None, signal: SignalRecorded, sequence: int, *, now: int = 0) -> tuple[Event, ...]:
    """Put a signal into its window, closing the one that is open when the signal does not belong to it.

    `now` (ns) is when the signal is processed; a window that it opens stays open `SETTLE_NS` longer at least. HISTORIC
    signals join none, nor do movements (SPLIT, MERGE, REDEEM): what they give up is a group of its own.
    """
    if signal.position_state is PositionState.HISTORIC:
        return ()
    if signal.action in MOVEMENTS:
        return given_up(group, signal, sequence, now=now)
    window = VENUES[signal.venue].group_window_ns
    closed: tuple[Event, ...] = ()
    if group is not None:
        if signal.signal_id in group.signal_ids:
            return ()
        same_side = signal.trade_side is group.first.trade_side
        if not same_side or abs(signal.event_time - group.first.event_time) > window:
            closed = (close(group, signal.detect_time),)
            group = None
    group_id = group.first.group_id if group else derived("grp", signal.influencer_id, signal.signal_id)
    closes_at = group.first.closes_at if group else max(signal.detect_time + window, now + SETTLE_NS)
    return (
        *closed,
        SignalGrouped(
            group_id=group_id,
            signal_id=signal.signal_id,
            signal_sequence=sequence,
            influencer_id=signal.influencer_id,
            venue=signal.venue,
            address=signal.address,
            asset=signal.asset,
            market=signal.market,
            trade_side=signal.trade_side,
            before_micros=signal.before_micros + signal.others_micros,
            after_micros=signal.after_micros + signal.others_micros,
            delta_micros=signal.delta_micros,
            notional_micros=signal.notional_micros,
            leverage=signal.leverage,
            event_time=signal.event_time,
            detect_time=signal.detect_time,
            closes_at=closes_at,
            position_state=signal.position_state,
            influencer_equity_micros=signal.influencer_equity_micros,
        ),
    )


def given_up(
    group: OpenGroup | None, found: SignalRecorded | GapDetected, sequence: int, *, now: int
) -> tuple[Event, ...]:
    """What a movement or a gap takes from a position, as a group without a price; the open window of its asset closes
    before it. Nothing when the position does not shrink; what it has on the other side afterwards was never traded in
    sight and is not opened."""
    if isinstance(found, SignalRecorded):
        found_id, before, after, cause = found.signal_id, found.before_micros, found.after_micros, GroupCause.MOVEMENT
    else:
        found_id, before, after, cause = found.gap_id, found.expected_micros, found.found_micros, GroupCause.GAP
    before, after = before + found.others_micros, after + found.others_micros
    if before * after < 0:
        after = 0
    if abs(after) >= abs(before):
        return ()
    closed: tuple[Event, ...] = () if group is None else (close(group, now),)
    return (
        *closed,
        GroupClosed(
            group_id=derived("grp", found.influencer_id, found_id),
            influencer_id=found.influencer_id,
            venue=found.venue,
            address=found.address,
            asset=found.asset,
            market=found.market,
            action=action_of(before, after),
            side=side_of(after),
            trade_side=TradeSide.SELL if before > 0 else TradeSide.BUY,
            before_micros=before,
            after_micros=after,
            delta_micros=after - before,
            notional_micros=0,
            price_micros=0,
            leverage=None,
            signal_ids=(),
            signal_sequences=(sequence,),
            event_time=found.event_time,
            last_event_time=found.event_time,
            detect_time=found.detect_time,
            closed_at=now,
            cause=cause,
        ),
    )


def expire(group: OpenGroup, now: int) -> tuple[Event, ...]:
    """Close the window when its time has passed."""
    return (close(group, now),) if now >= group.first.closes_at else ()


def close(group: OpenGroup, now: int) -> GroupClosed:
    """The net effect of a window; its price is the volume-weighted average of its fills.

    The position before is computed from the fills: an account snapshot inside the window may have corrected the fold.
    """
    first = group.first
    before_micros = group.after_micros - group.delta_micros
    return GroupClosed(
        group_id=first.group_id,
        influencer_id=first.influencer_id,
        venue=first.venue,
        address=first.address,
        asset=first.asset,
        market=first.market,
        action=action_of(before_micros, group.after_micros),
        side=side_of(group.after_micros),
        trade_side=first.trade_side,
        before_micros=before_micros,
        after_micros=group.after_micros,
        delta_micros=group.delta_micros,
        notional_micros=group.notional_micros,
        price_micros=nearest(group.notional_micros * MICRO, abs(group.delta_micros)),
        leverage=group.leverage,
        signal_ids=group.signal_ids,
        signal_sequences=group.signal_sequences,
        event_time=first.event_time,
        last_event_time=group.last_event_time,
        detect_time=first.detect_time,
        closed_at=now,
        position_state=group.position_state,
        influencer_equity_micros=group.influencer_equity_micros,
    )
