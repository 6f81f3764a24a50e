"""Sizing: how much of a group a subscription opens or reduces (DESIGN 6.4).

An opening is sized in money (a mode, then clamped), a reduction in shares: the fraction of the position that
the influencer gave up, of what was copied from it. A flip closes everything copied, then opens the rest.
"""

from collections.abc import Callable

from domain.events import Action, ExecutionRequested, Sizing
from domain.micros import MICRO, fraction
from domain.policy import VENUE_MIN_NOTIONAL_MICROS, Policy

Target = Callable[[Sizing, int, int], int]

TARGETS: dict[str, Target] = {
    "copy_percent": lambda sizing, notional, equity: fraction(notional, sizing.percent_micros, 100 * MICRO),
    "fixed_notional": lambda sizing, notional, equity: sizing.notional_micros,
    "percent_of_equity": lambda sizing, notional, equity: fraction(equity, sizing.percent_micros, 100 * MICRO),
}
"""Target notional in micros of each mode, from (sizing, the influencer's opening notional, the copier's equity)."""


def opening_notional(request: ExecutionRequested) -> int:
    """The part of the influencer's notional that opened or added, in micros; 0 when it only reduced."""
    match request.action:
        case Action.OPEN | Action.INCREASE:
            return request.notional_micros
        case Action.FLIP:
            moved = abs(request.before_micros) + abs(request.after_micros)
            return fraction(request.notional_micros, abs(request.after_micros), moved)
    return 0


def opening_target(request: ExecutionRequested, equity_micros: int, policy: Policy) -> int:
    """Notional in micros to open, clamped from above; 0 when the group opens nothing."""
    notional = opening_notional(request)
    if not notional:
        return 0
    target = TARGETS[request.sizing.mode](request.sizing, notional, equity_micros)
    cap = min(policy.max_notional_micros, fraction(equity_micros, policy.max_equity_fraction_micros, MICRO))
    return max(0, min(target, cap))


def minimum_notional(request: ExecutionRequested, policy: Policy) -> int:
    """The smallest order worth sending, in micros: the policy's minimum or the venue's, whichever is larger."""
    return max(policy.min_notional_micros, VENUE_MIN_NOTIONAL_MICROS[request.venue])


def reduction(request: ExecutionRequested, copied_micros: int) -> int:
    """Shares in micros to give up of what was copied; a magnitude, 0 when there is nothing to reduce."""
    if copied_micros * request.trade_side.sign >= 0 or request.action in (Action.OPEN, Action.INCREASE):
        return 0
    held = abs(copied_micros)
    if request.action is Action.DECREASE:
        given_up = abs(request.before_micros) - abs(request.after_micros)
        return fraction(held, given_up, abs(request.before_micros))
    return held


def whole_lots(share_micros: int, size_step_micros: int) -> int:
    """The largest multiple of the venue's lot that is not above `share_micros`."""
    return share_micros - share_micros % size_step_micros
