"""Whether and how one subscriber copies one group."""

from msgspec import Struct

from domain.breakers import REASON
from domain.decision import RULES
from domain.decision_inputs import DecisionInputs
from domain.events import Action, CopyDecided, Decision, ExecutionRequested, PortfolioScope, RequestedQuote
from domain.guardrails import Policy
from domain.ids import related
from domain.mark_prices import Asset
from domain.micros import fraction, times
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
    check_engine,
    check_mode,
    check_quote,
    check_recording,
    check_reduction,
    check_target,
)
from tests.domain.reference.order_book import beyond, needed, worth
from tests.domain.reference.portfolio import full_equity, full_expected, full_exposure
from tests.domain.reference.sizing import clamp, opening, opening_notional, reduction, target

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
    waiting = shrunk(request, portfolio.residuals.get((request.subscription_id, asset), NOTHING))
    case = Case(
        request, portfolio, policy, inputs, full_equity(portfolio, inputs.marks, inputs.marks_sequence), waiting, now
    )
    copy, opening_checks = Checklist(), Checklist()
    order = Order(residual=case.waiting)
    check_mode(copy, case)
    quote = check_quote(copy, case) if check_engine(copy, case) else None
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
    if not execute:
        share = 0
        # What is too small for now waits, what is only recorded counts as sent; what was refused is not copied later.
        waits = not set(copy.failed) - {Reason.ACCUMULATED, Reason.RECORD_ONLY}
        order = Order(target_micros=order.target_micros, residual=order.residual if waits else waiting)
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
        levels=needed(band.levels, share) if band and execute else (),
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
        rules=RULES,
    )


def sized(copy: Checklist, opening_checks: Checklist, case: Case, quote: RequestedQuote, band: Band) -> Order:
    """What to reduce and what to open, in whole lots; records the checks of both."""
    request, policy = case.request, case.policy
    copied = full_expected(case.portfolio, request.subscription_id, case.asset)
    given_up = reduction(request, copied, band.best_micros, case.equity_micros, case.waiting, policy)
    if not case.opens:
        check_reduction(copy, case, band, copied, given_up)
        residual = Residual(case.waiting.notional_micros, given_up.residual_micros)
        return Order(given_up.share_micros, 0, 0, residual)
    waiting = case.waiting
    wanted = target(request, opening_notional(request), case.equity_micros)
    if not check_target(opening_checks, case, wanted) or wanted is None:
        return Order(given_up.share_micros, 0, 0, waiting)
    at_risk = left_at_risk(case, quote, given_up)
    ceiling = clamp(request, case.equity_micros, policy, at_risk)
    book = band.levels or ((band.best_micros, 0),)
    left = beyond(book, given_up.share_micros) or book[-1:]
    opened = opening(request, wanted, left, ceiling, waiting, policy)
    notional = worth(book, given_up.share_micros + opened.share_micros)
    sized_opening = Sized(case, quote, band, at_risk, opened, notional, alone=not copy.failed)
    for check in OPENING_CHECKS:
        check(opening_checks, sized_opening)
    if opening_checks.failed:
        waits = opened.residual_micros if opening_checks.failed == [Reason.ACCUMULATED] else waiting.notional_micros
        return Order(given_up.share_micros, 0, wanted, Residual(waits, given_up.residual_micros))
    residual = Residual(opened.residual_micros, given_up.residual_micros)
    return Order(given_up.share_micros, opened.share_micros, wanted, residual)


def left_at_risk(case: Case, quote: RequestedQuote, given_up: Reduction) -> Exposure:
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
    released = times(quote.mid_micros, given_up.share_micros)
    return Exposure(
        max(0, now.total_micros - released),
        max(0, now.market_micros - released),
        max(0, now.influencer_micros - released),
    )


def shrunk(request: ExecutionRequested, waiting: Residual) -> Residual:
    """The residual after this request: what waits to be opened shrinks as the influencer's position does."""
    if waiting == NOTHING or request.action in (Action.OPEN, Action.INCREASE):
        return waiting
    if request.action in (Action.CLOSE, Action.FLIP):
        return NOTHING
    left = fraction(waiting.notional_micros, abs(request.after_micros), max(1, abs(request.before_micros)))
    return Residual(left, waiting.share_micros)
