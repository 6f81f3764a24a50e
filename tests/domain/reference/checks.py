"""All checks of one decision, in the order in which it records them."""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from domain import exits
from domain.breakers import REASON
from domain.decision_inputs import DecisionInputs
from domain.events import (
    Action,
    Check,
    ControlState,
    ExecutionRequested,
    ExitOwed,
    Level,
    Mode,
    PositionState,
    RequestedQuote,
    TradeSide,
)
from domain.guardrails import Policy, allowance
from domain.mark_prices import Asset
from domain.micros import MICRO, fraction, times
from domain.paper_fills import Fees, fees, inside, venue_price, walk
from domain.portfolio import Portfolio, Residual
from domain.reason_codes import Reason
from domain.sizing import Opening, Reduction
from domain.valuation import Exposure
from domain.venues import VENUES
from tests.domain.reference.order_book import depth
from tests.domain.reference.portfolio import full_reserved
from tests.domain.reference.sizing import min_share, minimum_notional, size_step

_MILLISECOND = 1_000_000
_CEILING_REASON = {"notional_cap": Reason.NOTIONAL_CAP, "max_leverage": Reason.EXPOSURE_TOTAL}
"""Ceilings of the portfolio that may leave less than the minimum, and the reason that a decision names then."""


_ONLY_OPEN = (Action.OPEN, Action.INCREASE)


class Checklist:
    """Collects checks in the order they are made; `failed` holds the reason of each that did not pass."""

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


class Band(Struct, frozen=True):
    """The worst acceptable price, the best of the book, the levels between, and the two limits that it comes from."""

    limit_micros: int
    best_micros: int
    levels: tuple[Level, ...]
    near_influencer_micros: int
    near_mid_micros: int


class Case(NamedTuple):
    """One request against one portfolio, as every check reads it: `waiting` is its residual, `owed` what the copy owes,
    `copied_micros` the signed shares that it holds or will hold, `now` the time in ns."""

    request: ExecutionRequested
    portfolio: Portfolio
    policy: Policy
    inputs: DecisionInputs
    equity_micros: int
    waiting: Residual
    now: int
    owed: ExitOwed | None = None
    copied_micros: int = 0

    @property
    def asset(self) -> Asset:
        return self.request.venue.value, self.request.asset

    @property
    def opens(self) -> bool:
        return self.request.action not in (Action.DECREASE, Action.CLOSE)

    @property
    def fees(self) -> Fees:
        return fees(self.request.quote.terms if self.request.quote else None, self.policy)


def check_mode(checks: Checklist, case: Case) -> None:
    """Live mode needs an account at the venue."""
    request = case.request
    if request.mode is Mode.LIVE:
        account = request.account.address if request.account is not None else None
        checks.require(account is not None, Reason.LIVE_NOT_AVAILABLE, "account", account, None)


def check_exit(checks: Checklist, case: Case) -> bool:
    """A try is of what is owed now; what was done, settled or tried since is not tried again."""
    tried, owed = case.request.exit, case.owed
    if tried is None:
        return True
    current = exits.is_current(case.request, owed)
    next_try = f"{owed.exit_id} {owed.tries + 1}" if owed else None
    return checks.require(current, Reason.EXIT_NOT_OWED, "exit", f"{tried.exit_id} {tried.number}", next_try)


def check_engine(checks: Checklist, case: Case) -> bool:
    """A paused engine decides nothing, unless the policy lets what reduces through; what opens and was detected during
    the pause is not copied later. What is owed is done after the pause, whenever it was detected."""
    inputs, request = case.inputs, case.request
    stopped = inputs.engine is ControlState.PAUSED if request.exit is not None else inputs.stopped
    state = ControlState.PAUSED if stopped else inputs.engine
    passes = not stopped or (bool(case.policy.exits_while_paused) and request.action not in _ONLY_OPEN)
    return checks.require(passes, Reason.ENGINE_PAUSED, "engine", state.value, ControlState.RUNNING.value)


def check_quote(checks: Checklist, case: Case) -> RequestedQuote | None:
    """The quote that the other checks use; None when the book could not be captured."""
    quote = case.request.quote
    reason = case.request.quote_reason or Reason.NO_QUOTE
    checks.require(quote is not None, reason, "quote", quote.quote_id if quote else reason.value, None)
    return quote


def band_of(case: Case, quote: RequestedQuote) -> Band:
    """The price limits of one case, in micros, and the levels of the book inside them."""
    request, policy = case.request, case.policy
    sign, terms = request.trade_side.sign, quote.terms
    # A reduction may go further than an opening, by the factor of its guardrail.
    factor = MICRO if case.opens else policy.reduction_band_micros
    beyond_influencer = allowance(
        request.price_micros, request.venue, policy.influencer_price_micros, policy.influencer_price_bps
    )
    beyond_mid = allowance(quote.mid_micros, request.venue, policy.mid_price_micros, policy.mid_price_bps)
    wider = exits.widening(policy, case.owed.refused) if request.exit is not None and case.owed else exits.PLAIN
    of_influencer = allowance(request.price_micros, request.venue, wider.absolute_micros, wider.bps)
    of_mid = allowance(quote.mid_micros, request.venue, wider.absolute_micros, wider.bps)
    near_influencer = request.price_micros + sign * max(fraction(beyond_influencer, factor, MICRO), of_influencer)
    near_mid = quote.mid_micros + sign * max(fraction(beyond_mid, factor, MICRO), of_mid)
    if not request.price_micros:
        near_influencer = near_mid  # the influencer did not trade
    buying = request.trade_side is TradeSide.BUY
    limit = min(near_influencer, near_mid) if buying else max(near_influencer, near_mid)
    limit = venue_price(limit, request.trade_side, terms) if terms else limit
    if wider.at_market:
        limit = near_influencer = near_mid = quote.levels[-1][0]
    best = quote.ask_micros if buying else quote.bid_micros
    return Band(limit, best, inside(quote.levels, request.trade_side, limit), near_influencer, near_mid)


def _market_open(checks: Checklist, case: Case, quote: RequestedQuote, band: Band) -> None:
    open_now = not case.inputs.resolved and (quote.terms is None or quote.terms.accepting)
    checks.require(open_now, Reason.MARKET_CLOSED, "market", "open" if open_now else "closed", "open")


def _price_near_influencer(checks: Checklist, case: Case, quote: RequestedQuote, band: Band) -> None:
    sign, limit = case.request.trade_side.sign, band.near_influencer_micros
    near = sign * band.best_micros <= sign * limit
    checks.require(near, Reason.PRICE_AWAY_FROM_INFLUENCER, "price_vs_influencer_micros", band.best_micros, limit)


def _price_near_mid(checks: Checklist, case: Case, quote: RequestedQuote, band: Band) -> None:
    sign, limit = case.request.trade_side.sign, band.near_mid_micros
    near = sign * band.best_micros <= sign * limit
    checks.require(near, Reason.PRICE_AWAY_FROM_MID, "price_vs_mid_micros", band.best_micros, limit)


def _liquidity_in_band(checks: Checklist, case: Case, quote: RequestedQuote, band: Band) -> None:
    a_lot = sum(size for _, size in band.levels) >= size_step(case.request)
    available = depth(band.levels) if a_lot else 0
    checks.require(available > 0, Reason.NO_LIQUIDITY_WITHIN_BOUNDS, "liquidity_in_band_micros", available, 1)


MARKET_CHECKS: tuple[Callable[[Checklist, Case, RequestedQuote, Band], None], ...] = (
    _market_open,
    _price_near_influencer,
    _price_near_mid,
    _liquidity_in_band,
)
"""Each stops the whole copy when it fails; a decision records them in this order."""


def check_reduction(checks: Checklist, case: Case, band: Band, copied: int, given_up: Reduction) -> None:
    """Something must be held; a part of it must be worth the minimum, otherwise the reduction waits."""
    held = max(0, -copied * case.request.trade_side.sign)
    if not checks.require(held > 0, Reason.NO_POSITION, "copied_position_micros", held, 1):
        return
    if given_up.wanted_micros and not given_up.share_micros:
        checks.require(
            False,
            Reason.ACCUMULATED if given_up.accumulated and not checks.failed else Reason.BELOW_MINIMUM,
            "reduction_notional_micros",
            times(band.best_micros, given_up.wanted_micros),
            minimum_notional(case.request, case.policy),
        )


def check_before_opening(checks: Checklist, case: Case) -> None:
    """Nothing is opened the other way while an exit of the position is owed, nor in a pause that lets exits through."""
    inputs, owed = case.inputs, case.owed
    if inputs.stopped:
        checks.require(False, Reason.ENGINE_PAUSED, "engine", ControlState.PAUSED.value, ControlState.RUNNING.value)
    if owed is not None and owed.trade_side is case.request.trade_side:
        checks.require(False, Reason.EXIT_OWED, "owed_micros", owed.share_micros, 0)


def opens_again(case: Case) -> bool:
    """True when the request opens on the side that is held and owed, and the copy may open at all: then what is owed is
    kept, which needs no book and no price."""
    request, inputs, owed = case.request, case.inputs, case.owed
    return (
        owed is not None
        and case.opens
        and case.copied_micros * request.trade_side.sign > 0
        and request.opening_blocked is None
        and request.position_state is PositionState.KNOWN
        and (request.mode is Mode.PAPER or request.account is not None)
        and inputs.engine is ControlState.RUNNING
        and not inputs.stopped
        and inputs.disabled is None
        and not case.portfolio.breakers.tripped
        and (case.now - request.event_time) // _MILLISECOND <= case.policy.max_signal_age_ms
    )


def check_target(checks: Checklist, case: Case, wanted_micros: int | None) -> bool:
    """Equity must be positive, and the sizing mode must give a target (`wanted_micros`); returns whether both hold."""
    if not checks.require(case.equity_micros > 0, Reason.NO_EQUITY, "equity_micros", case.equity_micros, 1):
        return False
    if wanted_micros is None:
        known = case.request.influencer_equity_micros
        checks.require(False, Reason.INFLUENCER_EQUITY_UNKNOWN, "influencer_equity_micros", known, 1)
    return wanted_micros is not None


class Sized(NamedTuple):
    """An opening that was sized, as its checks read it.

    `at_risk` is the exposure without it, `worth_micros` what reduction and opening take from the book together;
    `alone` is true when nothing stops the copy as a whole.
    """

    case: Case
    quote: RequestedQuote
    band: Band
    at_risk: Exposure
    opened: Opening
    worth_micros: int
    alone: bool


def _signal_age(checks: Checklist, sized: Sized) -> None:
    age_ms = (sized.case.now - sized.case.request.event_time) // _MILLISECOND
    limit = sized.case.policy.max_signal_age_ms
    checks.require(age_ms <= limit, Reason.STALE_SIGNAL, "signal_age_ms", age_ms, limit)


def _quote_age(checks: Checklist, sized: Sized) -> None:
    limit = sized.case.policy.max_quote_age_ms
    if limit:
        age_ms = (sized.case.now - sized.quote.as_of) // _MILLISECOND
        checks.require(age_ms <= limit, Reason.STALE_QUOTE, "quote_age_ms", age_ms, limit)


def _switches(checks: Checklist, sized: Sized) -> None:
    disabled = sized.case.inputs.disabled
    reason = disabled or Reason.MARKET_BLOCKED
    checks.require(disabled is None, reason, "switches", disabled.value if disabled else "on", "on")


def _filters(checks: Checklist, sized: Sized) -> None:
    blocked = sized.case.request.opening_blocked
    checks.require(blocked is None, Reason.FILTERED, "filters", blocked or "wanted", "wanted")


def _position_known(checks: Checklist, sized: Sized) -> None:
    state, known = sized.case.request.position_state, PositionState.KNOWN
    checks.require(state is known, Reason.POSITION_UNKNOWN, "position_state", state.value, known.value)


def _before_close(checks: Checklist, sized: Sized) -> None:
    limit, terms = sized.case.policy.close_guard_ms, sized.quote.terms
    if limit and terms is not None and terms.closes_at is not None:
        left_ms = (terms.closes_at - sized.case.now) // _MILLISECOND
        if left_ms < 0:
            return  # past its listed end a market is open for as long as it accepts orders
        share = sized.case.policy.close_guard_share_micros
        if share and terms.opens_at is not None:
            limit = min(limit, (terms.closes_at - terms.opens_at) // _MILLISECOND * share // MICRO)
        checks.require(left_ms >= limit, Reason.MARKET_CLOSING, "ms_to_close", left_ms, limit)


def _breakers(checks: Checklist, sized: Sized) -> None:
    tripped = sized.case.portfolio.breakers.tripped
    for breaker in sorted(tripped):
        checks.require(False, REASON[breaker], "breaker", breaker.value, None)
    if not tripped:
        checks.note("breaker", None, None)


def _account(checks: Checklist, sized: Sized) -> None:
    request, portfolio = sized.case.request, sized.case.portfolio
    if request.mode is Mode.LIVE:
        held, found = portfolio.differing.get((request.venue.value, request.asset), (0, 0))
        checks.require(held == found, Reason.POSITION_DIFFERS, "account_position_micros", found, held)


def _spread(checks: Checklist, sized: Sized) -> None:
    quote, policy = sized.quote, sized.case.policy
    spread = quote.ask_micros - quote.bid_micros
    limit = allowance(quote.mid_micros, sized.case.request.venue, policy.spread_micros, policy.spread_bps)
    checks.require(spread <= limit, Reason.SPREAD_TOO_WIDE, "spread_micros", spread, limit)


def _depth(checks: Checklist, sized: Sized) -> None:
    available = depth(sized.band.levels)
    wanted = fraction(sized.worth_micros, sized.case.policy.depth_ratio_micros, MICRO)
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
    with_it = now_micros + times(sized.quote.mid_micros, sized.opened.share_micros)
    limit = fraction(sized.case.equity_micros, share, MICRO)
    checks.require(with_it <= limit, reason, name, with_it, limit)


def _cash(checks: Checklist, sized: Sized) -> None:
    if not VENUES[sized.case.request.venue].paid_in_full:
        return
    taken = walk(sized.band.levels, sized.opened.share_micros, sized.case.fees)
    cost = sum(fill.notional_micros + fill.fee_micros for fill in taken)
    portfolio = sized.case.portfolio
    cash = portfolio.cash_micros - full_reserved(portfolio)
    checks.require(cost <= cash, Reason.INSUFFICIENT_CASH, "cash_micros", cost, cash)


def _minimum(checks: Checklist, sized: Sized) -> None:
    case, opened = sized.case, sized.opened
    minimum, fewest = minimum_notional(case.request, case.policy), min_share(case.request)
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


OPENING_CHECKS: tuple[Callable[[Checklist, Sized], None], ...] = (
    _signal_age,
    _quote_age,
    _switches,
    _filters,
    _position_known,
    _before_close,
    _breakers,
    _account,
    _spread,
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
    if case.request.mode is Mode.RECORD_ONLY or case.inputs.engine is ControlState.RECORD_ONLY:
        recording = "engine" if case.inputs.engine is ControlState.RECORD_ONLY else "subscriber"
        checks.require(False, Reason.RECORD_ONLY, "mode", f"{Mode.RECORD_ONLY.value} ({recording})", Mode.PAPER.value)
