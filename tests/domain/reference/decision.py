"""Whether and how one subscriber copies one group."""

from collections.abc import Sequence

from msgspec import Struct

from domain import exits
from domain.breakers import REASON
from domain.decision import RULES
from domain.decision_inputs import DecisionInputs
from domain.events import Action, CopyDecided, Decision, ExecutionRequested, Level, Mode, PortfolioScope, RequestedQuote
from domain.guardrails import Policy
from domain.ids import related
from domain.mark_prices import Asset
from domain.micros import MICRO, fraction, times
from domain.portfolio import NOTHING, Portfolio, Residual
from domain.reason_codes import Reason
from domain.sizing import Reduction
from domain.valuation import Exposure
from domain.venues import VENUES
from tests.domain.reference.checks import (
    MARKET_CHECKS,
    OPENING_CHECKS,
    Band,
    Case,
    Checklist,
    Sized,
    band_of,
    check_before_opening,
    check_engine,
    check_exit,
    check_mode,
    check_quote,
    check_recording,
    check_reduction,
    check_target,
    opens_again,
)
from tests.domain.reference.order_book import beyond, needed, worth
from tests.domain.reference.portfolio import full_equity, full_expected, full_exposure
from tests.domain.reference.sizing import (
    by_notional,
    clamp,
    given_up,
    minimum_notional,
    opening,
    opening_notional,
    reducible,
    reduction,
    size_step,
    target,
)

_CAPS = frozenset(
    {
        Reason.EXPOSURE_TOTAL,
        Reason.EXPOSURE_MARKET,
        Reason.EXPOSURE_INFLUENCER,
        Reason.NOTIONAL_CAP,
        Reason.INSUFFICIENT_CASH,
        *REASON.values(),
    }
)


class Order(Struct, frozen=True):
    """Shares to reduce and shares to open, the opening's target notional, and what waits afterwards."""

    reduce_micros: int = 0
    open_micros: int = 0
    target_micros: int = 0
    residual: Residual = NOTHING


def decide(
    portfolio: Portfolio, request: ExecutionRequested, policy: Policy, inputs: DecisionInputs, *, now: int
) -> CopyDecided:
    """EXECUTE or SKIP for one request; pure, so that the log alone can recompute it."""
    asset: Asset = (request.venue.value, request.asset)
    key = (request.subscription_id, asset)
    waiting, owed = shrunk(request, portfolio.residuals.get(key, NOTHING)), portfolio.exits.get(key)
    copied = full_expected(portfolio, request.subscription_id, asset)
    equity = full_equity(portfolio, inputs.marks, inputs.marks_sequence)
    case = Case(request, portfolio, policy, inputs, equity, waiting, now, owed, copied)
    copy, opening_checks = Checklist(), Checklist()
    order = Order(residual=case.waiting)
    check_mode(copy, case)
    quote = check_quote(copy, case) if check_exit(copy, case) and check_engine(copy, case) else None
    band = band_of(case, quote) if quote is not None else None
    if quote is not None and band is not None:
        for check in MARKET_CHECKS:
            check(copy, case, quote, band)
        order = sized(copy, opening_checks, case, quote, band)
    share = order.reduce_micros + order.open_micros
    if not share and not copy.failed and not opening_checks.failed:
        copy.require(False, Reason.BELOW_MINIMUM, "order_share_micros", 0, 1)
    if share > 0 and not copy.failed:
        check_recording(copy, case)

    reasons = [*copy.failed, *opening_checks.failed]
    if request.scope is PortfolioScope.EXEC_GLOBAL and _CAPS.intersection(reasons):
        reasons.insert(0, Reason.RISK_CAP_GLOBAL)
    execute = not copy.failed and share > 0
    levels = needed(band.levels, share, size_step(request)) if band and execute else ()
    kept = kept_of(case)
    owed_micros = owed_after(case, copy.failed, order.reduce_micros if execute else None, levels, kept)
    if not execute:
        share = 0
        # What is too small for now waits, what is only recorded counts as sent. What was refused is not copied later
        # if it opens; if it reduces, it is owed, with all that waited.
        waits = not set(copy.failed) - {Reason.ACCUMULATED, Reason.RECORD_ONLY}
        residual = order.residual if waits else waiting
        if owed_micros and reducible(request, copied):
            residual = Residual(residual.notional_micros, 0)
        order = Order(target_micros=order.target_micros, residual=residual)
    reserved = 0
    if execute and band is not None and VENUES[request.venue].paid_in_full:
        reserved = case.fees.most(band.limit_micros, order.open_micros)
    quote = request.quote  # a decision names its quote even where the engine was stopped
    return CopyDecided(
        attempt_id=related("att", request.request_id),
        request_id=request.request_id,
        subscription_id=request.subscription_id,
        subscriber_id=request.subscriber_id,
        influencer_id=request.influencer_id,
        group_id=request.group_id,
        quote_id=quote.quote_id if quote else None,
        mode=request.mode,
        venue=request.venue,
        asset=request.asset,
        market=request.market,
        action=request.action,
        trade_side=request.trade_side,
        decision=Decision.EXECUTE if execute else Decision.SKIP,
        reasons=tuple(dict.fromkeys(reasons)),
        checks=(*copy.checks, *opening_checks.checks),
        target_notional_micros=order.target_micros,
        share_micros=share,
        reduce_micros=order.reduce_micros,
        limit_price_micros=band.limit_micros if band else 0,
        mid_micros=quote.mid_micros if quote else 0,
        levels=levels,
        equity_micros=case.equity_micros,
        policy_hash=request.policy_hash,
        config_sequence=inputs.config_sequence,
        event_time=request.event_time,
        detect_time=request.detect_time,
        decided_at=now,
        marks_sequence=inputs.marks_sequence,
        residual_micros=order.residual.notional_micros,
        residual_share_micros=order.residual.share_micros,
        terms=quote.terms if quote else None,
        scope=request.scope,
        reserved_micros=reserved if order.open_micros else 0,
        exit_id=exit_id_of(case, owed_micros),
        exit_try=request.exit.number if request.exit else 0,
        owed_micros=owed_micros,
        kept_micros=kept,
        rules=RULES,
        reference_price_micros=request.price_micros,
    )


def sized(copy: Checklist, opening_checks: Checklist, case: Case, quote: RequestedQuote, band: Band) -> Order:
    """What to reduce and what to open, in whole lots; records the checks of both."""
    request, policy = case.request, case.policy
    owed_micros = case.owed.share_micros if case.owed else 0
    reduced = reduction(
        request,
        case.copied_micros,
        band.best_micros,
        case.equity_micros,
        case.waiting,
        policy,
        owed_micros=owed_micros,
    )
    if not case.opens:
        check_reduction(copy, case, band, case.copied_micros, reduced)
        residual = Residual(case.waiting.notional_micros, reduced.residual_micros)
        return Order(reduced.share_micros, 0, times(band.best_micros, reduced.wanted_micros), residual)
    waiting = case.waiting
    check_before_opening(opening_checks, case)
    wanted = target(request, opening_notional(request), case.equity_micros)
    if not check_target(opening_checks, case, wanted) or wanted is None:
        return Order(reduced.share_micros, 0, 0, waiting)
    at_risk = left_at_risk(case, quote, reduced)
    ceiling = clamp(request, case.equity_micros, policy, at_risk)
    to_open = wanted
    if kept := kept_of(case):
        to_open = min(wanted, ceiling.limit_micros) - times(request.price_micros, kept)
        if kept < owed_micros or to_open < minimum_notional(request, policy):
            opening_checks.require(False, Reason.EXIT_KEPT, "kept_micros", kept, owed_micros)
            return Order(reduced.share_micros, 0, wanted, waiting)
    book = band.levels or ((band.best_micros, 0),)
    left = beyond(book, reduced.share_micros) or book[-1:]
    opened = opening(request, to_open, left, ceiling, waiting, policy)
    notional = worth(book, reduced.share_micros + opened.share_micros)
    sized_opening = Sized(case, quote, band, at_risk, opened, notional, alone=not copy.failed)
    for check in OPENING_CHECKS:
        check(opening_checks, sized_opening)
    if opening_checks.failed:
        waits = opened.residual_micros if opening_checks.failed == [Reason.ACCUMULATED] else waiting.notional_micros
        return Order(reduced.share_micros, 0, wanted, Residual(waits, reduced.residual_micros))
    residual = Residual(opened.residual_micros, reduced.residual_micros)
    return Order(reduced.share_micros, opened.share_micros, wanted, residual)


def left_at_risk(case: Case, quote: RequestedQuote, reduced: Reduction) -> Exposure:
    """The exposure after the reduction: what a flip closes no longer counts against what it opens."""
    request = case.request
    now = full_exposure(
        case.portfolio,
        case.asset,
        request.market,
        request.influencer_id,
        case.inputs.marks,
        case.inputs.marks_sequence,
    )
    released = times(quote.mid_micros, reduced.share_micros)
    return Exposure(
        max(0, now.total_micros - released),
        max(0, now.market_micros - released),
        max(0, now.influencer_micros - released),
    )


def kept_of(case: Case) -> int:
    """Shares that are owed and that the copy keeps, because the influencer opened again: what the opening is worth, as
    far as one opening may go, at the influencer's price."""
    owed, request = case.owed, case.request
    if owed is None or not request.price_micros or not opens_again(case):
        return 0
    wanted = target(request, opening_notional(request), case.equity_micros) or 0
    ceiling = clamp(request, case.equity_micros, case.policy, Exposure(0, 0, 0))
    shares = max(0, min(wanted, ceiling.limit_micros)) * MICRO // request.price_micros
    # Less than a lot could not be sold by itself.
    return shares if owed.share_micros - shares >= size_step(request) else owed.share_micros


def owed_after(
    case: Case, failed: Sequence[Reason], ordered: int | None, levels: tuple[Level, ...], kept_micros: int
) -> int:
    """Shares that the copy owes after its decision.

    `ordered` are to be reduced (None: nothing is executed), `levels` hold what the order takes of the book, `failed` is
    why the copy as a whole is skipped.
    """
    request, before = case.request, case.owed.share_micros if case.owed else 0
    if not exits.is_current(request, case.owed):
        return before
    if not reducible(request, case.copied_micros):
        return 0 if request.exit is not None else before - kept_micros
    if by_notional(request, case.policy):
        return before
    if ordered is not None and request.mode is Mode.LIVE:
        return 0  # what the order does not fill is owed once its result is known
    if ordered is not None:
        return max(0, ordered - sum(size for _, size in levels))
    if not set(failed) - exits.TOO_SMALL:
        return 0
    return given_up(request, case.copied_micros, case.waiting.share_micros + before)


def exit_id_of(case: Case, owed_micros: int) -> str | None:
    """The exit that the copy owes before or after the decision; a new one begins with the request."""
    if case.owed is not None:
        return case.owed.exit_id
    if case.request.exit is not None:
        return case.request.exit.exit_id
    return exits.exit_id_of(case.request) if owed_micros else None


def shrunk(request: ExecutionRequested, waiting: Residual) -> Residual:
    """The residual after this request: what waits to be opened shrinks as the influencer's position does."""
    if waiting == NOTHING or request.action in (Action.OPEN, Action.INCREASE) or request.exit is not None:
        return waiting
    if request.action in (Action.CLOSE, Action.FLIP):
        return NOTHING
    left = fraction(waiting.notional_micros, abs(request.after_micros), max(1, abs(request.before_micros)))
    return Residual(left, waiting.share_micros)
