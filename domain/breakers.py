"""The breakers: losses stop new positions and let reductions through (docs/design.md, breakers).

Equity is compared with its recorded value at the start of the UTC day, at the start of the ISO week, and at its peak.
Losses are time-weighted returns: a deposit or withdrawal scales all three references by what it does to the equity of
that time, so that it is neither a profit nor a loss, and what was lost before stays the same fraction. DAILY_LOSS and
WEEKLY_LOSS reset when their day or week is over, DRAWDOWN when an operator resets it. After a reset the reference is
the equity at the reset. A clock that goes back, such as that of another machine, begins no day and no week: losses stay
counted from the references of the latest ones.
"""

from msgspec import Struct
from msgspec.structs import replace

from domain.events import BreakerLimit, BreakerReset, BreakerTripped, CashDeposited, EquityMarked, Event
from domain.guardrails import Policy
from domain.micros import MICRO, fraction
from domain.reason_codes import Reason

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
_MONDAY = 3 * DAY
"""1970-01-01 was a Thursday: days since the Monday before."""
_PEAK_STEP = 2_500
"""A new peak is recorded once it is 0.25 % above the last recorded one, so no floor is further off than that."""

REASON = {
    BreakerLimit.DAILY_LOSS: Reason.BREAKER_DAILY_LOSS,
    BreakerLimit.WEEKLY_LOSS: Reason.BREAKER_WEEKLY_LOSS,
    BreakerLimit.DRAWDOWN: Reason.BREAKER_DRAWDOWN,
}

_REFERENCE = {
    BreakerLimit.DAILY_LOSS: "day_micros",
    BreakerLimit.WEEKLY_LOSS: "week_micros",
    BreakerLimit.DRAWDOWN: "peak_micros",
}


class Breakers(Struct, frozen=True):
    """What is tripped, and the equity (micros) that each limit compares with; day and week are counted from 1970.

    `equity_micros` is the equity recorded last; it is recorded before every deposit and withdrawal.
    `config_sequence` is the CONFIG sequence of the newest trip: an order to reset that trip has a higher one.
    """

    tripped: frozenset[BreakerLimit] = frozenset()
    day: int = -1
    week: int = -1
    day_micros: int = 0
    week_micros: int = 0
    peak_micros: int = 0
    equity_micros: int = 0
    config_sequence: int = 0


initial = Breakers()


def day_of(time: int) -> int:
    """The UTC day of a time in ns, counted from 1970-01-01."""
    return time // DAY


def week_of(time: int) -> int:
    """The ISO week of a time in ns, counted by its Mondays."""
    return (time + _MONDAY) // (7 * DAY)


def next_day(time: int) -> int:
    """When (ns) the UTC day of `time` is over."""
    return (day_of(time) + 1) * DAY


def evolve(state: Breakers, event: Event) -> Breakers:
    """The breakers after one event of their subscriber."""
    match event:
        case EquityMarked():
            return _marked(state, event.equity_micros, event.marked_at)
        case CashDeposited() if state.day >= 0:
            return _deposited(state, event.cash_delta_micros)
        case BreakerTripped():
            return replace(state, tripped=state.tripped | {event.limit}, config_sequence=event.config_sequence)
        case BreakerReset():
            # Compared with equity before the reset, it would trip again at once.
            reference = {_REFERENCE[event.limit]: event.equity_micros}
            return replace(state, tripped=state.tripped - {event.limit}, **reference)
    return state


def _deposited(state: Breakers, change_micros: int) -> Breakers:
    before, after = state.equity_micros, state.equity_micros + change_micros
    if before <= 0 or after <= 0:
        # Nothing was there to lose, or nothing is left: returns begin anew.
        return replace(state, day_micros=after, week_micros=after, peak_micros=after, equity_micros=after)
    return replace(
        state,
        day_micros=fraction(state.day_micros, after, before),
        week_micros=fraction(state.week_micros, after, before),
        peak_micros=fraction(state.peak_micros, after, before),
        equity_micros=after,
    )


def _marked(state: Breakers, equity_micros: int, at: int) -> Breakers:
    if day_of(at) > state.day:
        state = replace(state, day=day_of(at), day_micros=equity_micros)
    if week_of(at) > state.week:
        state = replace(state, week=week_of(at), week_micros=equity_micros)
    return replace(state, peak_micros=max(state.peak_micros, equity_micros), equity_micros=equity_micros)


def floors(state: Breakers, policy: Policy) -> tuple[tuple[BreakerLimit, int, int], ...]:
    """(limit, reference equity, equity below which it trips) of every limit that is on, in micros."""
    found = []
    for limit, reference, loss in (
        (BreakerLimit.DAILY_LOSS, state.day_micros, policy.daily_loss_micros),
        (BreakerLimit.WEEKLY_LOSS, state.week_micros, policy.weekly_loss_micros),
        (BreakerLimit.DRAWDOWN, state.peak_micros, policy.drawdown_micros),
    ):
        if loss and reference > 0:
            found.append((limit, reference, reference - fraction(reference, loss, MICRO)))
    return tuple(found)


def watch(
    state: Breakers,
    subscriber_id: str,
    equity_micros: int,
    policy: Policy,
    *,
    now: int,
    marks_sequence: int,
    config_sequence: int,
    reset_by: str | None = None,
) -> tuple[Event, ...]:
    """The events that equity at `now` (ns) leads to: a reference recorded, breakers reset, breakers tripped.

    `reset_by` is the operator whose order to reset all breakers is not carried out yet.
    """
    events: list[Event] = []

    def emit(event: Event) -> None:
        nonlocal state
        events.append(event)
        state = evolve(state, event)

    ended = [
        limit
        for limit, over in (
            (BreakerLimit.DAILY_LOSS, day_of(now) > state.day),
            (BreakerLimit.WEEKLY_LOSS, week_of(now) > state.week),
        )
        if over and limit in state.tripped
    ]
    peak = state.peak_micros + fraction(state.peak_micros, _PEAK_STEP, MICRO)
    if day_of(now) > state.day or week_of(now) > state.week or equity_micros > peak:
        emit(
            EquityMarked(
                subscriber_id=subscriber_id, equity_micros=equity_micros, marks_sequence=marks_sequence, marked_at=now
            )
        )
    for limit in sorted(state.tripped) if reset_by is not None else ended:
        emit(
            BreakerReset(
                subscriber_id=subscriber_id,
                limit=limit,
                equity_micros=equity_micros,
                actor=reset_by or "",
                config_sequence=config_sequence,
                reset_at=now,
            )
        )
    for limit, reference, floor in floors(state, policy):
        if equity_micros < floor and limit not in state.tripped:
            emit(
                BreakerTripped(
                    subscriber_id=subscriber_id,
                    limit=limit,
                    equity_micros=equity_micros,
                    floor_micros=floor,
                    reference_micros=reference,
                    marks_sequence=marks_sequence,
                    config_sequence=config_sequence,
                    tripped_at=now,
                )
            )
    return tuple(events)
