"""The decision: whether and how one subscriber copies one group, with every check that was made (docs/design.md,
decisions).

What the decisions on a group have in common is worked out once; what is left for each subscriber is its portfolio, its
sizing and its policy.
"""

from collections.abc import Sequence

from msgspec import Struct

from domain import exits
from domain.assessment import Assessment, Band, Limits, limits_of
from domain.breakers import REASON
from domain.checks import (
    Case,
    Checklist,
    Made,
    Outcome,
    Sized,
    check_before_opening,
    check_exit,
    check_mode,
    check_recording,
    check_reduction,
    check_target,
    made_for,
    opens_again,
)
from domain.decision_inputs import DecisionInputs
from domain.events import Action, CopyDecided, Decision, ExecutionRequested, ExitOwed, Level, Mode, PortfolioScope
from domain.guardrails import Policy
from domain.ids import related
from domain.micros import MICRO, fraction, times
from domain.portfolio import NOTHING, Portfolio, Residual, expected_copied
from domain.reason_codes import Reason
from domain.sizing import (
    Group,
    Reduction,
    by_notional,
    clamp,
    given_up,
    lots_of,
    opening,
    reducible,
    reduction,
    target,
)
from domain.valuation import Exposure

RULES = 7
"""The version of the rules below. Raised whenever the same case would be decided, sized or checked otherwise."""
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
_STILL_WAITS = frozenset({Reason.ACCUMULATED, Reason.RECORD_ONLY})
"""What is too small for now waits, what is only recorded counts as sent. What was refused is not copied later if it
opens; if it reduces, it is owed, with all that waited."""


class Assessments:
    """One group at a time `now` (ns) with these inputs, assessed once for each set of limits that policies have."""

    def __init__(self, group: Group, inputs: DecisionInputs, now: int) -> None:
        self.group = group
        self.inputs = inputs
        self.now = now
        self._by_limits: dict[tuple[Limits, exits.Widening], tuple[Assessment, Made]] = {}
        self._by_policy: dict[str, tuple[Assessment, Made]] = {}

    def decide(
        self, portfolio: Portfolio, request: ExecutionRequested, policy: Policy, disabled: Reason | None
    ) -> CopyDecided:
        """EXECUTE or SKIP for one request for the group, whose policy hash names `policy`.

        `disabled` is why an operator lets it open nothing. Takes as long for an empty portfolio as for a full one.
        """
        owed = portfolio.exits.get((request.subscription_id, (request.venue.value, request.asset)))
        if request.exit is None:
            found = self._by_policy.get(request.policy_hash)
            if found is None:
                found = self._by_policy[request.policy_hash] = self._assessed(limits_of(policy), exits.PLAIN)
        else:
            widening = exits.widening(policy, owed.refused) if owed is not None else exits.PLAIN
            found = self._assessed(limits_of(policy), widening)
        assessment, made = found
        return _decided(assessment, made, portfolio, request, policy, disabled, owed)

    def _assessed(self, limits: Limits, widening: exits.Widening) -> tuple[Assessment, Made]:
        found = self._by_limits.get((limits, widening))
        if found is None:
            assessment = Assessment(self.group, limits, self.inputs, self.now, widening)
            found = self._by_limits[limits, widening] = assessment, made_for(assessment)
        return found


def decide(
    portfolio: Portfolio, request: ExecutionRequested, policy: Policy, inputs: DecisionInputs, *, now: int
) -> CopyDecided:
    """EXECUTE or SKIP for one request; the same arguments decide the same, so the log alone can recompute it."""
    return Assessments(request, inputs, now).decide(portfolio, request, policy, inputs.disabled)


class Order(Struct, frozen=True):
    """Shares to reduce and shares to open, the target notional of the opening or of what only reduces, and what waits
    afterwards."""

    reduce_micros: int = 0
    open_micros: int = 0
    target_micros: int = 0
    residual: Residual = NOTHING


def _decided(
    group: Assessment,
    made: Made,
    portfolio: Portfolio,
    request: ExecutionRequested,
    policy: Policy,
    disabled: Reason | None,
    owed: ExitOwed | None,
) -> CopyDecided:
    facts, inputs, band = group.group, group.inputs, group.band
    equity = portfolio.cash_micros + portfolio.valuation.at(inputs.marks, inputs.marks_sequence).worth_micros
    before = portfolio.residuals.get((request.subscription_id, group.asset), NOTHING)
    waiting = before if before is NOTHING else shrunk(facts, before)
    lots = lots_of(facts, policy)
    copied = expected_copied(portfolio, request.subscription_id, group.asset)
    case = Case(group, request, portfolio, policy, disabled, equity, waiting, lots, owed, copied)
    copy, opening_checks = Checklist(), Checklist()
    check_mode(copy, request)
    if check_exit(copy, request, owed):
        copy.add(made.copy)
    else:
        band = None
    order = Order(residual=waiting) if band is None else sized(copy, opening_checks, case, band, made)
    share = order.reduce_micros + order.open_micros
    if not share and not copy.failed and not opening_checks.failed:
        copy.require(False, Reason.BELOW_MINIMUM, "order_share_micros", 0, 1)
    if share > 0 and not copy.failed:
        check_recording(copy, case)

    failed = copy.failed + opening_checks.failed
    reasons = tuple(dict.fromkeys(failed)) if failed else ()
    if request.scope is PortfolioScope.EXEC_GLOBAL and not _CAPS.isdisjoint(reasons):
        reasons = (Reason.RISK_CAP_GLOBAL, *reasons)
    execute = band is not None and share > 0 and not copy.failed
    levels = band.book.reached(share, lots.step_micros) if band is not None and execute else ()
    kept = kept_of(case)
    owed_micros = owed_after(case, copy.failed, order.reduce_micros if execute else None, levels, kept)
    residual = order.residual if _STILL_WAITS.issuperset(copy.failed) else waiting
    if not execute and owed_micros and reducible(facts, copied):
        residual = Residual(residual.notional_micros, 0)
    reserved = 0
    if execute and band is not None and order.open_micros and group.paid_in_full:
        reserved = group.fees.most(band.limit_micros, order.open_micros)
    quote = facts.quote  # a decision names its quote even where the engine was stopped
    return CopyDecided(
        attempt_id=related("att", request.request_id),
        request_id=request.request_id,
        subscription_id=request.subscription_id,
        subscriber_id=request.subscriber_id,
        influencer_id=facts.influencer_id,
        group_id=facts.group_id,
        quote_id=quote.quote_id if quote else None,
        mode=request.mode,
        venue=facts.venue,
        asset=facts.asset,
        market=facts.market,
        action=facts.action,
        trade_side=facts.trade_side,
        decision=Decision.EXECUTE if execute else Decision.SKIP,
        reasons=reasons,
        checks=(*copy.checks, *opening_checks.checks),
        target_notional_micros=order.target_micros,
        share_micros=share if execute else 0,
        reduce_micros=order.reduce_micros if execute else 0,
        limit_price_micros=band.limit_micros if band else 0,
        mid_micros=group.mid_micros,
        levels=levels,
        equity_micros=equity,
        policy_hash=request.policy_hash,
        config_sequence=inputs.config_sequence,
        event_time=facts.event_time,
        detect_time=facts.detect_time,
        decided_at=group.now,
        marks_sequence=inputs.marks_sequence,
        residual_micros=residual.notional_micros,
        residual_share_micros=residual.share_micros,
        terms=quote.terms if quote else None,
        scope=request.scope,
        reserved_micros=reserved,
        exit_id=exit_id_of(case, owed_micros),
        exit_try=request.exit.number if request.exit else 0,
        owed_micros=owed_micros,
        kept_micros=kept,
        rules=RULES,
        reference_price_micros=facts.price_micros,
    )


def sized(copy: Checklist, opening_checks: Checklist, case: Case, band: Band, made: Made) -> Order:
    """What to reduce and what to open, in whole lots; records the checks of both."""
    group, request, policy, waiting, lots = case.group, case.request, case.policy, case.waiting, case.lots
    facts, equity = group.group, case.equity_micros
    owed_micros = case.owed.share_micros if case.owed else 0
    reduced = reduction(
        facts,
        request.sizing,
        case.copied_micros,
        band.best_micros,
        equity,
        waiting,
        lots,
        owed_micros=owed_micros,
        notional=by_notional(facts, policy),
    )
    if not group.opens:
        check_reduction(copy, case, band, reduced)
        residual = Residual(waiting.notional_micros, reduced.residual_micros)
        return Order(reduced.share_micros, 0, times(band.best_micros, reduced.wanted_micros), residual)
    check_before_opening(opening_checks, case)
    wanted = target(facts, request.sizing, group.opening_notional_micros, equity)
    if not check_target(opening_checks, case, wanted) or wanted is None:
        return Order(reduced.share_micros, residual=waiting)
    at_risk = left_at_risk(case, reduced)
    ceiling = clamp(facts.venue, equity, policy, at_risk)
    to_open = wanted
    if kept := kept_of(case):
        to_open = min(wanted, ceiling.limit_micros) - times(facts.price_micros, kept)
        if kept < owed_micros or to_open < lots.min_notional_micros:
            opening_checks.require(False, Reason.EXIT_KEPT, "kept_micros", kept, owed_micros)
            return Order(reduced.share_micros, 0, wanted, waiting)
    opened = opening(group.sign, to_open, band.book, reduced.share_micros, ceiling, waiting, lots)
    worth = band.book.worth(reduced.share_micros + opened.share_micros)
    added = times(group.mid_micros, opened.share_micros)
    sized_opening = Sized(case, band, at_risk, opened, added, worth, alone=not copy.failed)
    for check in made.opening:
        if isinstance(check, Outcome):
            opening_checks.add(check)
        else:
            check(opening_checks, sized_opening)
    if opening_checks.failed:
        waits = opened.residual_micros if opening_checks.failed == [Reason.ACCUMULATED] else waiting.notional_micros
        return Order(reduced.share_micros, 0, wanted, Residual(waits, reduced.residual_micros))
    residual = Residual(opened.residual_micros, reduced.residual_micros)
    return Order(reduced.share_micros, opened.share_micros, wanted, residual)


def left_at_risk(case: Case, reduced: Reduction) -> Exposure:
    """The exposure after the reduction: what a flip closes no longer counts against what it opens."""
    group = case.group
    now = case.portfolio.valuation.exposure(group.asset, group.group.market, group.group.influencer_id)
    if not reduced.share_micros:
        return now
    released = times(group.mid_micros, reduced.share_micros)
    return Exposure(
        max(0, now.total_micros - released),
        max(0, now.market_micros - released),
        max(0, now.influencer_micros - released),
    )


def kept_of(case: Case) -> int:
    """Shares that are owed and that the copy keeps, because the influencer opened again: what the opening is worth, as
    far as one opening may go, at the influencer's price."""
    owed, group = case.owed, case.group
    price = group.group.price_micros
    if owed is None or not price or not opens_again(case):
        return 0
    wanted = target(group.group, case.request.sizing, group.opening_notional_micros, case.equity_micros) or 0
    ceiling = clamp(group.group.venue, case.equity_micros, case.policy, Exposure(0, 0, 0))
    shares = max(0, min(wanted, ceiling.limit_micros)) * MICRO // price
    # Less than a lot could not be sold by itself.
    return shares if owed.share_micros - shares >= case.lots.step_micros else owed.share_micros


def owed_after(
    case: Case, failed: Sequence[Reason], ordered: int | None, levels: tuple[Level, ...], kept_micros: int
) -> int:
    """Shares that the copy owes after its decision.

    `ordered` are to be reduced (None: nothing is executed), `levels` hold what the order takes of the book, `failed` is
    why the copy as a whole is skipped.
    """
    facts, request, before = case.group.group, case.request, case.owed.share_micros if case.owed else 0
    if not exits.is_current(request, case.owed):
        return before
    if not reducible(facts, case.copied_micros):
        return 0 if request.exit is not None else before - kept_micros
    if by_notional(facts, case.policy):
        return before
    if ordered is not None and request.mode is Mode.LIVE:
        return 0  # what the order does not fill is owed once its result is known
    if ordered is not None:
        return max(0, ordered - sum(size for _, size in levels))
    if exits.TOO_SMALL.issuperset(failed):
        return 0
    return given_up(facts, case.copied_micros, case.waiting.share_micros + before)


def exit_id_of(case: Case, owed_micros: int) -> str | None:
    """The exit that the copy owes before or after the decision; a new one begins with the request."""
    if case.owed is not None:
        return case.owed.exit_id
    if case.request.exit is not None:
        return case.request.exit.exit_id
    return exits.exit_id_of(case.request) if owed_micros else None


def shrunk(group: Group, waiting: Residual) -> Residual:
    """The residual after this group: what waits to be opened shrinks as the influencer's position does."""
    if group.action in (Action.OPEN, Action.INCREASE) or group.exit is not None:
        return waiting
    if group.action in (Action.CLOSE, Action.FLIP):
        return NOTHING
    left = fraction(waiting.notional_micros, abs(group.after_micros), max(1, abs(group.before_micros)))
    return Residual(left, waiting.share_micros)
