"""What one request opens or reduces."""

from domain.events import Action, ExecutionRequested, Level
from domain.guardrails import Policy
from domain.micros import MICRO, fraction, times
from domain.portfolio import Residual
from domain.sizing import SIZING_MODES, Base, Clamp, Opening, Reduction
from domain.valuation import Exposure
from domain.venues import VENUES
from tests.domain.reference.order_book import affordable, worth


def opening_notional(request: ExecutionRequested) -> int:
    """The part of the influencer's notional that opened or added, in micros; 0 when it only reduced."""
    match request.action:
        case Action.OPEN | Action.INCREASE:
            return request.notional_micros
        case Action.FLIP:
            moved = abs(request.before_micros) + abs(request.after_micros)
            return fraction(request.notional_micros, abs(request.after_micros), moved)
    return 0


def target(request: ExecutionRequested, notional_micros: int, equity_micros: int) -> int | None:
    """The target of the subscription's mode, in micros; None when something that the mode needs is not known."""
    base = Base(notional_micros, request.influencer_equity_micros, equity_micros)
    found = SIZING_MODES[request.sizing.mode].target(request.sizing, base)
    return None if found is None else max(0, found)


def clamp(request: ExecutionRequested, equity_micros: int, policy: Policy, at_risk: Exposure) -> Clamp:
    """The lowest ceiling of an opening."""
    equity = max(0, equity_micros)
    clamps = [
        Clamp("max_notional", policy.max_notional_micros),
        Clamp("max_equity_fraction", fraction(equity, policy.max_equity_fraction_micros, MICRO)),
    ]
    if policy.notional_cap_micros:
        clamps.append(Clamp("notional_cap", max(0, policy.notional_cap_micros - at_risk.market_micros)))
    if policy.max_leverage_micros:
        left = fraction(equity, policy.max_leverage_micros, MICRO) - at_risk.total_micros
        clamps.append(Clamp("max_leverage", max(0, left)))
    if policy.max_loss_micros:
        # An outcome token can lose all that it cost; a perpetual is assumed to lose this part at most.
        move = VENUES[request.venue].worst_move_micros or max(1, policy.assumed_move_micros)
        clamps.append(Clamp("max_loss", policy.max_loss_micros * MICRO // move))
    return min(clamps, key=lambda found: found.limit_micros)


def minimum_notional(request: ExecutionRequested, policy: Policy) -> int:
    """The smallest order worth sending, in micros: the policy's minimum or the venue's, whichever is larger."""
    terms = request.quote.terms if request.quote else None
    of_venue = VENUES[request.venue].min_notional_micros
    return max(policy.min_notional_micros, of_venue, terms.min_notional_micros if terms else 0)


def opening(
    request: ExecutionRequested,
    target_micros: int,
    levels: tuple[Level, ...],
    ceiling: Clamp,
    waiting: Residual,
    policy: Policy,
) -> Opening:
    """What to open by taking from the levels, together with what waits from before; never for more than the ceiling."""
    sign, minimum, step = request.trade_side.sign, minimum_notional(request, policy), size_step(request)

    def lots(notional_micros: int) -> tuple[int, int, bool]:
        shares = whole_lots(affordable(levels, notional_micros), step)
        cost = worth(levels, shares)
        if cost < minimum <= notional_micros and worth(levels, shares + step) <= ceiling.limit_micros:
            shares += step
            cost = worth(levels, shares)
        return shares, cost, cost >= minimum and shares >= min_share(request)

    wanted = target_micros + sign * waiting.notional_micros
    clamped = max(0, min(wanted, ceiling.limit_micros))
    shares, cost, enough = lots(clamped)
    if enough:
        return Opening(shares, cost, wanted, clamped, ceiling, 0, accumulated=False)
    # What a ceiling keeps below the minimum would wait for ever.
    if policy.accumulate and target_micros > 0 and lots(ceiling.limit_micros)[2]:
        return Opening(0, 0, wanted, clamped, ceiling, sign * wanted, accumulated=True)
    return Opening(shares, cost, wanted, clamped, ceiling, waiting.notional_micros, accumulated=False)


def reduction(
    request: ExecutionRequested,
    copied_micros: int,
    price_micros: int,
    equity_micros: int,
    waiting: Residual,
    policy: Policy,
    *,
    owed_micros: int = 0,
) -> Reduction:
    """What to give up of the signed shares that were copied; nothing when the group does not point against them.

    `owed_micros` of them were given up before and are not done yet.
    """
    if not reducible(request, copied_micros):
        return Reduction(0, 0, waiting.share_micros, accumulated=False)
    held, already = abs(copied_micros), waiting.share_micros + owed_micros
    wanted = None
    if by_notional(request, policy):
        notional = target(request, request.notional_micros, equity_micros)
        wanted = None if notional is None else min(held, already + notional * MICRO // price_micros)
    if wanted is None:
        wanted = given_up(request, copied_micros, already)
    shares = whole_lots(wanted, size_step(request))
    if wanted == held or times(price_micros, shares) >= minimum_notional(request, policy):
        return Reduction(shares, wanted, 0, accumulated=False)
    if times(price_micros, wanted) >= minimum_notional(request, policy):
        # Only the rounding to lots is below the minimum: one lot more, or all that is held.
        step = size_step(request)
        return Reduction(min(shares + step, whole_lots(held, step)), wanted, 0, accumulated=False)
    # A part of a position must be worth the venue's minimum; a whole one may always be closed.
    if policy.accumulate:
        return Reduction(0, wanted, wanted, accumulated=True)
    return Reduction(0, wanted, waiting.share_micros, accumulated=False)


def reducible(request: ExecutionRequested, copied_micros: int) -> bool:
    """True when the request reduces, and points against the signed shares that were copied."""
    return copied_micros * request.trade_side.sign < 0 and request.action not in (Action.OPEN, Action.INCREASE)


def by_notional(request: ExecutionRequested, policy: Policy) -> bool:
    """True when a reduction gives up what sizing makes of the influencer's notional, instead of a fraction."""
    reduces = request.action in (Action.DECREASE, Action.CLOSE) and request.exit is None
    return bool(policy.reduce_by_notional) and reduces and bool(request.price_micros)


def given_up(request: ExecutionRequested, copied_micros: int, already_micros: int) -> int:
    """Shares to give up in all by the influencer's fraction; `already_micros` of them were given up before, and the
    fraction is of the rest."""
    if not reducible(request, copied_micros):
        return 0
    held = abs(copied_micros)
    already = min(held, already_micros)
    if request.exit is not None:
        return already
    if request.action in (Action.CLOSE, Action.FLIP):
        return held
    closed = abs(request.before_micros) - abs(request.after_micros)
    return already + fraction(held - already, closed, abs(request.before_micros))


def size_step(request: ExecutionRequested) -> int:
    """The venue's lot, in micros of shares."""
    return request.quote.size_step_micros if request.quote else 1


def min_share(request: ExecutionRequested) -> int:
    """The smallest order that the venue takes, in micros of shares."""
    terms = request.quote.terms if request.quote else None
    return terms.min_share_micros if terms else 0


def whole_lots(share_micros: int, size_step_micros: int) -> int:
    """The largest multiple of the venue's lot that is not above `share_micros`."""
    return share_micros - share_micros % size_step_micros
