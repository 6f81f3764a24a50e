"""The checks of a decision, each with its input, its limit and its result.

Checks come in two kinds. Those on the whole copy (mode, engine, quote, MARKET_CHECKS) stop everything. OPENING_CHECKS
stop only the part that opens: what reduces a position goes through. A guardrail is declared in domain/guardrails.py,
checked by one function in one of the two tuples, and explained by one reason. What comes out the same for every
subscriber of a group is made once for all of them.
"""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from domain import exits
from domain.assessment import Assessment, Band
from domain.breakers import REASON
from domain.events import (
    Check,
    ControlState,
    ExecutionRequested,
    ExitOwed,
    Mode,
    PositionState,
    RequestedQuote,
)
from domain.guardrails import Policy, allowance
from domain.mark_prices import Asset
from domain.micros import MICRO, times
from domain.portfolio import Portfolio, Residual, free_cash
from domain.reason_codes import Reason
from domain.sizing import Lots, Opening, Reduction
from domain.valuation import Exposure

_MILLISECOND = 1_000_000
_CEILING_REASON = {"notional_cap": Reason.NOTIONAL_CAP, "max_leverage": Reason.EXPOSURE_TOTAL}
"""Ceilings of the portfolio that may leave less than the minimum, and the reason that a decision names then."""


class Outcome(NamedTuple):
    """Checks that were made, and the reason of each that did not pass."""

    checks: tuple[Check, ...] = ()
    failed: tuple[Reason, ...] = ()


class Checklist:
    """Collects checks in the order they are made; `failed` holds the reason of each that did not pass."""

    __slots__ = ("checks", "failed")

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.failed: list[Reason] = []

    def require(
        self, passed: bool, reason: Reason, name: str, value: int | str | None, limit: int | str | None
    ) -> bool:
        """Record a check; returns whether it passed."""
        self.checks.append(Check(name, value, limit, passed))
        if not passed:
            self.failed.append(reason)
        return passed

    def note(self, name: str, value: int | str | None, limit: int | str | None) -> None:
        """Record what shaped the order without failing."""
        self.checks.append(Check(name, value, limit, True))

    def add(self, made: Outcome) -> None:
        """Record checks that were made before."""
        self.checks += made.checks
        self.failed += made.failed

    def outcome(self) -> Outcome:
        """All checks so far."""
        return Outcome(tuple(self.checks), tuple(self.failed))


class Case(Struct, frozen=True):
    """One request of a group against one portfolio, as every check reads it.

    `waiting` is its residual, `disabled` why an operator lets it open nothing, `lots` what its order must be, `owed`
    what the copy owes, `copied_micros` the signed shares that it holds or will hold.
    """

    group: Assessment
    request: ExecutionRequested
    portfolio: Portfolio
    policy: Policy
    disabled: Reason | None
    equity_micros: int
    waiting: Residual
    lots: Lots
    owed: ExitOwed | None
    copied_micros: int

    @property
    def asset(self) -> Asset:
        return self.group.asset


def check_mode(checks: Checklist, request: ExecutionRequested) -> None:
    """Live mode needs an account at the venue."""
    if request.mode is Mode.LIVE:
        account = request.account.address if request.account is not None else None
        checks.require(account is not None, Reason.LIVE_NOT_AVAILABLE, "account", account, None)


def check_exit(checks: Checklist, request: ExecutionRequested, owed: ExitOwed | None) -> bool:
    """A try is of what is owed now; what was done, settled or tried since is not tried again."""
    tried = request.exit
    if tried is None:
        return True
    next_try = f"{owed.exit_id} {owed.tries + 1}" if owed else None
    current = exits.is_current(request, owed)
    return checks.require(current, Reason.EXIT_NOT_OWED, "exit", f"{tried.exit_id} {tried.number}", next_try)


# --- the same for all subscribers of a group -----------------------------------------------------------------------


def check_engine(checks: Checklist, group: Assessment) -> bool:
    """A paused engine decides nothing, unless the policy lets what reduces through."""
    state = ControlState.PAUSED if group.paused else group.inputs.engine
    return checks.require(not group.stopped, Reason.ENGINE_PAUSED, "engine", state.value, ControlState.RUNNING.value)


def check_quote(checks: Checklist, group: Assessment) -> None:
    """The book must have been captured."""
    quote = group.quote
    reason = group.group.quote_reason or Reason.NO_QUOTE
    checks.require(quote is not None, reason, "quote", quote.quote_id if quote else reason.value, None)


def _market_open(checks: Checklist, group: Assessment, quote: RequestedQuote, band: Band) -> None:
    open_now = not group.inputs.resolved and (quote.terms is None or quote.terms.accepting)
    checks.require(open_now, Reason.MARKET_CLOSED, "market", "open" if open_now else "closed", "open")


def _price_near_influencer(checks: Checklist, group: Assessment, quote: RequestedQuote, band: Band) -> None:
    limit = band.near_influencer_micros
    near = group.sign * band.best_micros <= group.sign * limit
    checks.require(near, Reason.PRICE_AWAY_FROM_INFLUENCER, "price_vs_influencer_micros", band.best_micros, limit)


def _price_near_mid(checks: Checklist, group: Assessment, quote: RequestedQuote, band: Band) -> None:
    limit = band.near_mid_micros
    near = group.sign * band.best_micros <= group.sign * limit
    checks.require(near, Reason.PRICE_AWAY_FROM_MID, "price_vs_mid_micros", band.best_micros, limit)


def _liquidity_in_band(checks: Checklist, group: Assessment, quote: RequestedQuote, band: Band) -> None:
    available = band.book.depth_micros if band.book.share_micros >= quote.size_step_micros else 0
    checks.require(available > 0, Reason.NO_LIQUIDITY_WITHIN_BOUNDS, "liquidity_in_band_micros", available, 1)


MarketCheck = Callable[[Checklist, Assessment, RequestedQuote, Band], None]

MARKET_CHECKS: tuple[MarketCheck, ...] = (
    _market_open,
    _price_near_influencer,
    _price_near_mid,
    _liquidity_in_band,
)
"""Each stops the whole copy when it fails; a decision records them in this order."""


def _signal_age(checks: Checklist, group: Assessment, quote: RequestedQuote, band: Band) -> None:
    age_ms, limit = (group.now - group.group.event_time) // _MILLISECOND, group.limits.max_signal_age_ms
    checks.require(age_ms <= limit, Reason.STALE_SIGNAL, "signal_age_ms", age_ms, limit)


def _quote_age(checks: Checklist, group: Assessment, quote: RequestedQuote, band: Band) -> None:
    limit = group.limits.max_quote_age_ms
    if limit:
        age_ms = (group.now - quote.as_of) // _MILLISECOND
        checks.require(age_ms <= limit, Reason.STALE_QUOTE, "quote_age_ms", age_ms, limit)


def _position_known(checks: Checklist, group: Assessment, quote: RequestedQuote, band: Band) -> None:
    state, known = group.group.position_state, PositionState.KNOWN
    checks.require(state is known, Reason.POSITION_UNKNOWN, "position_state", state.value, known.value)


def _before_close(checks: Checklist, group: Assessment, quote: RequestedQuote, band: Band) -> None:
    limit, terms = group.limits.close_guard_ms, quote.terms
    if limit and terms is not None and terms.closes_at is not None:
        left_ms = (terms.closes_at - group.now) // _MILLISECOND
        if left_ms < 0:
            return  # past its listed end a market is open for as long as it accepts orders
        share = group.limits.close_guard_share_micros
        if share and terms.opens_at is not None:
            length_ms = (terms.closes_at - terms.opens_at) // _MILLISECOND
            limit = min(limit, length_ms * share // MICRO)
        checks.require(left_ms >= limit, Reason.MARKET_CLOSING, "ms_to_close", left_ms, limit)


def _spread(checks: Checklist, group: Assessment, quote: RequestedQuote, band: Band) -> None:
    spread, limits = quote.ask_micros - quote.bid_micros, group.limits
    limit = allowance(quote.mid_micros, group.group.venue, limits.spread_micros, limits.spread_bps)
    checks.require(spread <= limit, Reason.SPREAD_TOO_WIDE, "spread_micros", spread, limit)


# --- of one subscriber ---------------------------------------------------------------------------------------------


def check_reduction(checks: Checklist, case: Case, band: Band, given_up: Reduction) -> None:
    """Something must be held; a part of it must be worth the minimum, otherwise the reduction waits."""
    held = max(0, -case.copied_micros * case.group.sign)
    if not checks.require(held > 0, Reason.NO_POSITION, "copied_position_micros", held, 1):
        return
    if given_up.wanted_micros and not given_up.share_micros:
        checks.require(
            False,
            Reason.ACCUMULATED if given_up.accumulated and not checks.failed else Reason.BELOW_MINIMUM,
            "reduction_notional_micros",
            times(band.best_micros, given_up.wanted_micros),
            case.lots.min_notional_micros,
        )


def check_before_opening(checks: Checklist, case: Case) -> None:
    """Nothing is opened the other way while an exit of the position is owed, nor in a pause that lets exits through."""
    owed = case.owed
    if case.group.paused:
        checks.require(False, Reason.ENGINE_PAUSED, "engine", ControlState.PAUSED.value, ControlState.RUNNING.value)
    if owed is not None and owed.trade_side is case.group.group.trade_side:
        checks.require(False, Reason.EXIT_OWED, "owed_micros", owed.share_micros, 0)


def opens_again(case: Case) -> bool:
    """True when the group opens on the side that is held and owed, and the copy may open at all: then what is owed is
    kept, which needs no book and no price."""
    group, request = case.group, case.request
    facts = group.group
    return (
        case.owed is not None
        and group.opens
        and case.copied_micros * group.sign > 0
        and request.opening_blocked is None
        and facts.position_state is PositionState.KNOWN
        and (request.mode is Mode.PAPER or request.account is not None)
        and group.inputs.engine is ControlState.RUNNING
        and not group.inputs.stopped
        and case.disabled is None
        and not case.portfolio.breakers.tripped
        and (group.now - facts.event_time) // _MILLISECOND <= group.limits.max_signal_age_ms
    )


def check_target(checks: Checklist, case: Case, wanted_micros: int | None) -> bool:
    """Equity must be positive, and the sizing mode must give a target (`wanted_micros`); returns whether both hold."""
    if not checks.require(case.equity_micros > 0, Reason.NO_EQUITY, "equity_micros", case.equity_micros, 1):
        return False
    if wanted_micros is None:
        known = case.group.group.influencer_equity_micros
        checks.require(False, Reason.INFLUENCER_EQUITY_UNKNOWN, "influencer_equity_micros", known, 1)
    return wanted_micros is not None


class Sized(Struct, frozen=True):
    """An opening that was sized, as its checks read it.

    `at_risk` is the exposure without it, `added_micros` what it adds; `worth_micros` is what reduction and opening take
    from the book together; `alone` is true when nothing stops the copy as a whole.
    """

    case: Case
    band: Band
    at_risk: Exposure
    opened: Opening
    added_micros: int
    worth_micros: int
    alone: bool


def _switches(checks: Checklist, sized: Sized) -> None:
    disabled = sized.case.disabled
    if disabled is None:
        checks.checks.append(_SWITCHES_ON)
    else:
        checks.require(False, disabled, "switches", disabled.value, "on")


def _filters(checks: Checklist, sized: Sized) -> None:
    blocked = sized.case.request.opening_blocked
    if blocked is None:
        checks.checks.append(_WANTED)
    else:
        checks.require(False, Reason.FILTERED, "filters", blocked, "wanted")


def _breakers(checks: Checklist, sized: Sized) -> None:
    tripped = sized.case.portfolio.breakers.tripped
    for breaker in sorted(tripped):
        checks.require(False, REASON[breaker], "breaker", breaker.value, None)
    if not tripped:
        checks.checks.append(_NOT_TRIPPED)


_SWITCHES_ON = Check("switches", "on", "on", True)
_WANTED = Check("filters", "wanted", "wanted", True)
_NOT_TRIPPED = Check("breaker", None, None, True)


def _account(checks: Checklist, sized: Sized) -> None:
    """A live position that the venue account does not hold is not added to."""
    if sized.case.request.mode is Mode.LIVE:
        held, found = sized.case.portfolio.differing.get(sized.case.asset, (0, 0))
        checks.require(held == found, Reason.POSITION_DIFFERS, "account_position_micros", found, held)


def _depth(checks: Checklist, sized: Sized) -> None:
    available = sized.band.book.depth_micros
    wanted = sized.worth_micros * sized.case.policy.depth_ratio_micros // MICRO
    if wanted and available:
        checks.require(available >= wanted, Reason.INSUFFICIENT_DEPTH, "depth_in_band_micros", available, wanted)


def _exposure_total(checks: Checklist, sized: Sized) -> None:
    share = sized.case.policy.total_exposure_micros
    _exposure(checks, sized, Reason.EXPOSURE_TOTAL, "exposure_total_micros", sized.at_risk.total_micros, share)


def _exposure_market(checks: Checklist, sized: Sized) -> None:
    share = sized.case.policy.market_exposure_micros
    _exposure(checks, sized, Reason.EXPOSURE_MARKET, "exposure_market_micros", sized.at_risk.market_micros, share)


def _exposure_influencer(checks: Checklist, sized: Sized) -> None:
    share, now = sized.case.policy.influencer_exposure_micros, sized.at_risk.influencer_micros
    _exposure(checks, sized, Reason.EXPOSURE_INFLUENCER, "exposure_influencer_micros", now, share)


def _exposure(checks: Checklist, sized: Sized, reason: Reason, name: str, now_micros: int, share: int) -> None:
    with_it = now_micros + sized.added_micros
    limit = sized.case.equity_micros * share // MICRO  # equity is positive where something is opened
    checks.require(with_it <= limit, reason, name, with_it, limit)


def _cash(checks: Checklist, sized: Sized) -> None:
    if sized.case.group.paid_in_full:
        cost, cash = sized.band.book.cost(sized.opened.share_micros), free_cash(sized.case.portfolio)
        checks.require(cost <= cash, Reason.INSUFFICIENT_CASH, "cash_micros", cost, cash)


def _minimum(checks: Checklist, sized: Sized) -> None:
    case, opened = sized.case, sized.opened
    minimum, fewest = case.lots.min_notional_micros, case.lots.min_share_micros
    if case.waiting.notional_micros:
        checks.note("residual_micros", case.waiting.notional_micros, None)
    if opened.wanted_micros > opened.clamp.limit_micros:
        checks.note(f"{opened.clamp.name}_micros", opened.wanted_micros, opened.clamp.limit_micros)
    waits = opened.accumulated and sized.alone and not checks.failed
    reason = Reason.ACCUMULATED if waits else Reason.BELOW_MINIMUM
    if opened.clamp.limit_micros < minimum <= opened.wanted_micros:
        reason = _CEILING_REASON.get(opened.clamp.name, reason)
    notional = opened.clamped_micros if opened.accumulated else opened.worth_micros
    checks.require(notional >= minimum and not opened.accumulated, reason, "order_notional_micros", notional, minimum)
    if fewest and not opened.accumulated:
        checks.require(
            opened.share_micros >= fewest, Reason.BELOW_MINIMUM, "order_min_share_micros", opened.share_micros, fewest
        )


class Common(NamedTuple):
    """A check whose result is the same for all subscribers of a group: it reads Limits, not a Policy."""

    check: MarketCheck


OpeningCheck = Callable[[Checklist, Sized], None]

OPENING_CHECKS: tuple[Common | OpeningCheck, ...] = (
    Common(_signal_age),
    Common(_quote_age),
    _switches,
    _filters,
    Common(_position_known),
    Common(_before_close),
    _breakers,
    _account,
    Common(_spread),
    _depth,
    _exposure_total,
    _exposure_market,
    _exposure_influencer,
    _cash,
    _minimum,
)
"""Each stops the part that opens when it fails; a decision records them in this order. `_minimum` must be the last."""


def check_recording(checks: Checklist, case: Case) -> None:
    """What would be executed is skipped when the subscriber or the engine only records."""
    engine = case.group.inputs.engine
    if case.request.mode is Mode.RECORD_ONLY or engine is ControlState.RECORD_ONLY:
        recording = "engine" if engine is ControlState.RECORD_ONLY else "subscriber"
        checks.require(False, Reason.RECORD_ONLY, "mode", f"{Mode.RECORD_ONLY.value} ({recording})", Mode.PAPER.value)


# --- made once -----------------------------------------------------------------------------------------------------


class Made(NamedTuple):
    """The checks of a group that are made: those that stop the whole copy, and the opening checks with the common ones
    made, in order."""

    copy: Outcome
    opening: tuple[Outcome | OpeningCheck, ...]


def made_for(group: Assessment) -> Made:
    """Make the checks that are the same for all subscribers of a group."""
    checks = Checklist()
    if check_engine(checks, group):
        check_quote(checks, group)
    if group.quote is None or group.band is None:
        return Made(checks.outcome(), ())
    for market_check in MARKET_CHECKS:
        market_check(checks, group, group.quote, group.band)
    opening: list[Outcome | OpeningCheck] = []
    for one in OPENING_CHECKS:
        if not isinstance(one, Common):
            opening.append(one)
            continue
        made = Checklist()
        one.check(made, group, group.quote, group.band)
        before = opening.pop() if opening and isinstance(opening[-1], Outcome) else Outcome()
        assert isinstance(before, Outcome)
        opening.append(Outcome((*before.checks, *made.checks), (*before.failed, *made.failed)))
    return Made(checks.outcome(), tuple(opening))
