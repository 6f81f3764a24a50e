"""Sizing: how much of a group a subscription opens or reduces (docs/design.md, sizing).

An opening is sized in money: a mode, then clamps. A reduction gives up shares of what was copied: on perpetuals the
fraction that the influencer closed, on Polymarket the notional that the mode makes of the influencer's. A flip closes
everything copied, then opens the rest. What stays below the minimum waits, per subscription and asset, until it has
added up (the policy's `accumulate`).
"""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from domain.events import Action, ExecutionRequested, Sizing
from domain.guardrails import Policy
from domain.micros import MICRO, fraction, times
from domain.order_book import Book
from domain.portfolio import Residual
from domain.valuation import Exposure
from domain.venues import VENUES, Venue

Group = ExecutionRequested
"""The facts of a group with its quote: those that every request for it has."""


class Base(Struct, frozen=True, gc=False):
    """What a mode works on, in micros: the influencer's notional and equity (None = not known), the copier's equity."""

    notional_micros: int
    influencer_equity_micros: int | None
    equity_micros: int


_LARGEST_MICROS = 10**18
"""A trillion dollars, which fits into a bigint: an equity of a cent would make the target larger than that."""

Target = Callable[[Sizing, Base], int | None]


def _proportional(sizing: Sizing, base: Base) -> int | None:
    if base.influencer_equity_micros is None or base.influencer_equity_micros <= 0:
        return None
    share = fraction(base.equity_micros, base.notional_micros, base.influencer_equity_micros)
    return max(-_LARGEST_MICROS, min(fraction(share, sizing.percent_micros, 100 * MICRO), _LARGEST_MICROS))


class Parameter(NamedTuple):
    """The one number that a mode takes: its name in configuration lines, the field of Sizing that stores it in micros,
    and the most that it may be, in micros."""

    name: str
    field: str
    most_micros: int


PERCENT = Parameter("percent", "percent_micros", 1_000 * MICRO)
NOTIONAL = Parameter("notional_usd", "notional_micros", 1_000_000_000 * MICRO)


class SizingMode(NamedTuple):
    """The parameter of a mode, and its target notional in micros; None when something that it needs is not known."""

    parameter: Parameter
    target: Target


SIZING_MODES: dict[str, SizingMode] = {
    "copy_percent": SizingMode(
        PERCENT, lambda sizing, base: fraction(base.notional_micros, sizing.percent_micros, 100 * MICRO)
    ),
    "fixed_notional": SizingMode(NOTIONAL, lambda sizing, base: sizing.notional_micros),
    "percent_of_equity": SizingMode(
        PERCENT, lambda sizing, base: fraction(base.equity_micros, sizing.percent_micros, 100 * MICRO)
    ),
    "proportional": SizingMode(PERCENT, _proportional),
}
"""Every mode that a subscription may have, by the name that configuration uses."""


class Clamp(Struct, frozen=True, gc=False):
    """A ceiling of an opening: which guardrail, and how much it leaves, in micros of notional."""

    name: str
    limit_micros: int


class Opening(Struct, frozen=True):
    """Shares to open, in whole lots, and what they cost; the target with what waited, what that was clamped to, and
    what waits afterwards (signed)."""

    share_micros: int
    worth_micros: int
    wanted_micros: int
    clamped_micros: int
    clamp: Clamp
    residual_micros: int
    accumulated: bool


class Reduction(Struct, frozen=True, gc=False):
    """Shares to give up, in whole lots, and the shares that wait afterwards; `wanted` is both before any minimum."""

    share_micros: int
    wanted_micros: int
    residual_micros: int
    accumulated: bool


def opening_notional(group: Group) -> int:
    """The part of the influencer's notional that opened or added, in micros; 0 when it only reduced."""
    match group.action:
        case Action.OPEN | Action.INCREASE:
            return group.notional_micros
        case Action.FLIP:
            moved = abs(group.before_micros) + abs(group.after_micros)
            return fraction(group.notional_micros, abs(group.after_micros), moved)
    return 0


def target(group: Group, sizing: Sizing, notional_micros: int, equity_micros: int) -> int | None:
    """The target of a subscription's mode, in micros; None when something that the mode needs is not known."""
    base = Base(notional_micros, group.influencer_equity_micros, equity_micros)
    found = SIZING_MODES[sizing.mode].target(sizing, base)
    return None if found is None else max(0, found)


def clamp(venue: Venue, equity_micros: int, policy: Policy, at_risk: Exposure) -> Clamp:
    """The lowest ceiling of an opening; of equal ones the first."""
    equity = max(0, equity_micros)
    lowest = Clamp("max_notional", policy.max_notional_micros)
    of_equity = fraction(equity, policy.max_equity_fraction_micros, MICRO)
    if of_equity < lowest.limit_micros:
        lowest = Clamp("max_equity_fraction", of_equity)
    if policy.notional_cap_micros:
        left = max(0, policy.notional_cap_micros - at_risk.market_micros)
        if left < lowest.limit_micros:
            lowest = Clamp("notional_cap", left)
    if policy.max_leverage_micros:
        left = max(0, fraction(equity, policy.max_leverage_micros, MICRO) - at_risk.total_micros)
        if left < lowest.limit_micros:
            lowest = Clamp("max_leverage", left)
    if policy.max_loss_micros:
        # An outcome token can lose all that it cost; a perpetual is assumed to lose this part at most.
        move = VENUES[venue].worst_move_micros or max(1, policy.assumed_move_micros)
        loses = policy.max_loss_micros * MICRO // move
        if loses < lowest.limit_micros:
            lowest = Clamp("max_loss", loses)
    return lowest


class Lots(Struct, frozen=True, gc=False):
    """What an order must be: whole lots of the venue, at least its number of shares, worth the minimum; in micros.

    Below the minimum, targets wait until they have added up where `accumulate` is true.
    """

    step_micros: int
    min_share_micros: int
    min_notional_micros: int
    accumulate: bool


def lots_of(group: Group, policy: Policy) -> Lots:
    """The rules of an order. Its minimum is the policy's, the venue's or the market's, whichever is largest."""
    quote = group.quote
    of_venue = VENUES[group.venue].min_notional_micros
    if quote is None or quote.terms is None:
        step, fewest, minimum = quote.size_step_micros if quote else 1, 0, of_venue
    else:
        step, fewest = quote.size_step_micros, quote.terms.min_share_micros
        minimum = max(of_venue, quote.terms.min_notional_micros)
    return Lots(step, fewest, max(policy.min_notional_micros, minimum), bool(policy.accumulate))


def opening(
    sign: int, target_micros: int, book: Book, given_up_micros: int, ceiling: Clamp, waiting: Residual, lots: Lots
) -> Opening:
    """What to open together with what waits from before, taken from what the reduction leaves of the book; never for
    more than the ceiling. `sign` is that of the trade side."""

    def bought(notional_micros: int) -> tuple[int, int, bool]:
        shares = whole_lots(book.affordable(notional_micros, given_up_micros), lots.step_micros)
        cost = book.worth(shares, given_up_micros)
        if cost < lots.min_notional_micros <= notional_micros:
            # Only the rounding to lots is below the minimum: one lot more, where the ceiling allows it.
            more = book.worth(shares + lots.step_micros, given_up_micros)
            if more <= ceiling.limit_micros:
                shares, cost = shares + lots.step_micros, more
        return shares, cost, cost >= lots.min_notional_micros and shares >= lots.min_share_micros

    wanted = target_micros + sign * waiting.notional_micros
    clamped = max(0, min(wanted, ceiling.limit_micros))
    shares, cost, enough = bought(clamped)
    if enough:
        return Opening(shares, cost, wanted, clamped, ceiling, 0, accumulated=False)
    # What a ceiling keeps below the minimum would wait for ever.
    if lots.accumulate and target_micros > 0 and bought(ceiling.limit_micros)[2]:
        return Opening(0, 0, wanted, clamped, ceiling, sign * wanted, accumulated=True)
    return Opening(shares, cost, wanted, clamped, ceiling, waiting.notional_micros, accumulated=False)


def reduction(
    group: Group,
    sizing: Sizing,
    copied_micros: int,
    price_micros: int,
    equity_micros: int,
    waiting: Residual,
    lots: Lots,
    *,
    owed_micros: int,
    notional: bool,
) -> Reduction:
    """What to give up of the signed shares that were copied; nothing when the group does not point against them.

    `owed_micros` of them were given up before and are not done yet. `notional` makes the group give up what the mode
    makes of the influencer's notional.
    """
    if not reducible(group, copied_micros):
        return Reduction(0, 0, waiting.share_micros, accumulated=False)
    held, already = abs(copied_micros), waiting.share_micros + owed_micros
    worth = target(group, sizing, group.notional_micros, equity_micros) if notional else None
    if worth is None:
        wanted = given_up(group, copied_micros, already)
    else:
        wanted = min(held, already + worth * MICRO // price_micros)
    shares = whole_lots(wanted, lots.step_micros)
    if wanted == held or times(price_micros, shares) >= lots.min_notional_micros:
        return Reduction(shares, wanted, 0, accumulated=False)
    if times(price_micros, wanted) >= lots.min_notional_micros:
        # Only the rounding to lots is below the minimum: one lot more, or all that is held.
        more = min(shares + lots.step_micros, whole_lots(held, lots.step_micros))
        return Reduction(more, wanted, 0, accumulated=False)
    # A part of a position must be worth the venue's minimum; a whole one may always be closed.
    if lots.accumulate:
        return Reduction(0, wanted, wanted, accumulated=True)
    return Reduction(0, wanted, waiting.share_micros, accumulated=False)


def reducible(group: Group, copied_micros: int) -> bool:
    """True when the group reduces, and points against the signed shares that were copied."""
    return copied_micros * group.trade_side.sign < 0 and group.action not in (Action.OPEN, Action.INCREASE)


def by_notional(group: Group, policy: Policy) -> bool:
    """True when a reduction gives up what sizing makes of the influencer's notional, instead of a fraction."""
    if not policy.reduce_by_notional or group.exit is not None or not group.price_micros:
        return False
    return group.action in (Action.DECREASE, Action.CLOSE)


def given_up(group: Group, copied_micros: int, already_micros: int) -> int:
    """Shares to give up in all by the influencer's fraction; `already_micros` of them were given up before, and the
    fraction is of the rest."""
    if not reducible(group, copied_micros):
        return 0
    held = abs(copied_micros)
    already = min(held, already_micros)
    if group.exit is not None:
        return already
    if group.action in (Action.CLOSE, Action.FLIP):
        return held
    closed = abs(group.before_micros) - abs(group.after_micros)
    return already + fraction(held - already, closed, abs(group.before_micros))


def whole_lots(share_micros: int, size_step_micros: int) -> int:
    """The largest multiple of the venue's lot that is not above `share_micros`."""
    return share_micros - share_micros % size_step_micros
