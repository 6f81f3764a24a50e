"""The checks of a decision, each with what it looked at, its limit and its result (DESIGN 6.5, row by row).

Checks come in two kinds. Those on the whole copy (mode, engine, quote, market, price, liquidity) stop everything. Those
on the opening (age, switches, filters, breakers, spread, depth, exposure, cash, minimum) stop only the part that opens:
what reduces a position goes through.
"""

from typing import NamedTuple

from msgspec import Struct

from domain.breakers import REASON
from domain.decision_inputs import DecisionInputs
from domain.events import (
    Action,
    Check,
    ControlState,
    ExecutionRequested,
    Level,
    Mode,
    PositionState,
    TradeSide,
)
from domain.guardrails import Policy, allowance
from domain.mark_prices import Asset
from domain.micros import MICRO, fraction, times
from domain.paper_fills import Fees, depth, fees, inside, on_tick, walk
from domain.portfolio import (
    Exposure,
    Portfolio,
    Residual,
    free_cash,
)
from domain.reason_codes import Reason
from domain.sizing import (
    Opening,
    Reduction,
    min_share,
    minimum_notional,
    opening_notional,
    target,
)

_MILLISECOND = 1_000_000
_FULL = {"notional_cap": Reason.NOTIONAL_CAP, "max_leverage": Reason.EXPOSURE_TOTAL}
"""Ceilings of the portfolio that may leave less than the minimum, and what to say then."""


class Checklist:
    """Collects checks in the order they are made; `failed` holds the reason of each that did not pass."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.failed: list[Reason] = []

    def require(
        self, passed: bool, reason: Reason, name: str, value: int | str | None, limit: int | str | None
    ) -> bool:
        self.checks.append(Check(name, value, limit, passed))
        if not passed:
            self.failed.append(reason)
        return passed

    def note(self, name: str, value: int | str | None, limit: int | str | None) -> None:
        """Something that shaped the order without failing."""
        self.checks.append(Check(name, value, limit, True))


class Band(Struct, frozen=True):
    """The worst acceptable price, the book levels inside it, and the best price among them."""

    limit_micros: int
    best_micros: int
    levels: tuple[Level, ...]


class Case(NamedTuple):
    """One request against one portfolio: what every check looks at."""

    request: ExecutionRequested
    portfolio: Portfolio
    policy: Policy
    seen: DecisionInputs
    equity_micros: int
    waiting: Residual
    now: int

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
    """Only paper executes."""
    mode = case.request.mode
    if mode is Mode.LIVE:
        checks.require(False, Reason.LIVE_NOT_AVAILABLE, "mode", mode.value, Mode.PAPER.value)


def check_engine(checks: Checklist, case: Case) -> bool:
    """A paused engine decides nothing, and never later what came while it was paused."""
    seen = case.seen
    state = ControlState.PAUSED if seen.stopped else seen.engine
    return checks.require(not seen.stopped, Reason.ENGINE_PAUSED, "engine", state.value, ControlState.RUNNING.value)


def check_market(checks: Checklist, case: Case) -> Band | None:
    """Quote, market and price; the band that fills must stay inside, or None without a quote."""
    request, policy = case.request, case.policy
    quote = request.quote
    reason = request.quote_reason or Reason.NO_QUOTE
    if (
        not checks.require(quote is not None, reason, "quote", quote.quote_id if quote else reason.value, None)
        or quote is None
    ):
        return None
    terms = quote.terms
    open_now = not case.seen.resolved and (terms is None or terms.accepting)
    checks.require(open_now, Reason.MARKET_CLOSED, "market", "open" if open_now else "closed", "open")

    buying = request.trade_side is TradeSide.BUY
    sign = request.trade_side.sign
    best = quote.ask_micros if buying else quote.bid_micros
    times_band = MICRO if case.opens else policy.reduction_band_micros
    near_influencer = request.price_micros + sign * fraction(
        allowance(request.price_micros, request.venue, policy.influencer_price_micros, policy.influencer_price_bps),
        times_band,
        MICRO,
    )
    near_mid = quote.mid_micros + sign * fraction(
        allowance(quote.mid_micros, request.venue, policy.mid_price_micros, policy.mid_price_bps), times_band, MICRO
    )
    checks.require(
        sign * best <= sign * near_influencer,
        Reason.PRICE_AWAY_FROM_INFLUENCER,
        "price_vs_influencer_micros",
        best,
        near_influencer,
    )
    checks.require(sign * best <= sign * near_mid, Reason.PRICE_AWAY_FROM_MID, "price_vs_mid_micros", best, near_mid)
    limit = min(near_influencer, near_mid) if buying else max(near_influencer, near_mid)
    limit = on_tick(limit, request.trade_side, terms.tick_micros if terms else 1)
    levels = inside(quote.levels, request.trade_side, limit)
    available = depth(levels)
    checks.require(available > 0, Reason.NO_LIQUIDITY_WITHIN_BOUNDS, "liquidity_in_band_micros", available, 1)
    return Band(limit, best, levels)


def check_reduction(checks: Checklist, case: Case, band: Band, copied: int, given_up: Reduction) -> None:
    """Something must be held, and a part of it must be worth the minimum; otherwise it waits."""
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


def check_target(checks: Checklist, case: Case) -> int | None:
    """What the mode wants to open, in micros of notional; None when it cannot be told or there is no equity."""
    if not checks.require(case.equity_micros > 0, Reason.NO_EQUITY, "equity_micros", case.equity_micros, 1):
        return None
    wanted = target(case.request, opening_notional(case.request), case.equity_micros)
    if wanted is None:
        checks.require(
            False,
            Reason.INFLUENCER_EQUITY_UNKNOWN,
            "influencer_equity_micros",
            case.request.influencer_equity_micros,
            1,
        )
    return wanted


def check_minimum(checks: Checklist, case: Case, opened: Opening, *, waits: bool) -> None:
    """The clamped target, in whole lots, must be worth the minimum; where only that is wrong, it `waits`."""
    minimum, fewest = minimum_notional(case.request, case.policy), min_share(case.request)
    if case.waiting.notional_micros:
        checks.note("residual_micros", case.waiting.notional_micros, None)
    if opened.wanted_micros > opened.clamp.limit_micros:
        checks.note(f"{opened.clamp.name}_micros", opened.wanted_micros, opened.clamp.limit_micros)
    reason = Reason.ACCUMULATED if waits else Reason.BELOW_MINIMUM
    if opened.clamp.limit_micros < minimum <= opened.wanted_micros:
        reason = _FULL.get(opened.clamp.name, reason)
    notional = opened.clamped_micros if opened.accumulated else opened.worth_micros
    checks.require(notional >= minimum and not opened.accumulated, reason, "order_notional_micros", notional, minimum)
    if fewest and not opened.accumulated:
        checks.require(
            opened.share_micros >= fewest, Reason.BELOW_MINIMUM, "order_min_share_micros", opened.share_micros, fewest
        )


def check_openable(checks: Checklist, case: Case) -> None:
    """Whether anything may be opened now: age, switches, filters, what is known, the close, breakers, spread."""
    request, policy = case.request, case.policy
    age_ms = (case.now - request.event_time) // _MILLISECOND
    limit = policy.max_signal_age_ms
    checks.require(age_ms <= limit, Reason.STALE_SIGNAL, "signal_age_ms", age_ms, limit)
    disabled = case.seen.disabled
    checks.require(
        disabled is None, disabled or Reason.MARKET_BLOCKED, "switches", disabled.value if disabled else "on", "on"
    )
    blocked = request.opening_blocked
    checks.require(blocked is None, Reason.FILTERED, "filters", blocked or "wanted", "wanted")
    state = request.position_state
    checks.require(
        state is PositionState.KNOWN, Reason.POSITION_UNKNOWN, "position_state", state.value, PositionState.KNOWN.value
    )
    quote = request.quote
    assert quote is not None
    if policy.close_guard_ms and quote.terms is not None and quote.terms.closes_at is not None:
        left_ms = (quote.terms.closes_at - case.now) // _MILLISECOND
        checks.require(
            left_ms >= policy.close_guard_ms, Reason.MARKET_CLOSING, "ms_to_close", left_ms, policy.close_guard_ms
        )
    tripped = case.portfolio.breakers.tripped
    for breaker in sorted(tripped):
        checks.require(False, REASON[breaker], "breaker", breaker.value, None)
    if not tripped:
        checks.note("breaker", None, None)
    spread = quote.ask_micros - quote.bid_micros
    spread_limit = allowance(quote.mid_micros, request.venue, policy.spread_micros, policy.spread_bps)
    checks.require(spread <= spread_limit, Reason.SPREAD_TOO_WIDE, "spread_micros", spread, spread_limit)


def check_exposure(checks: Checklist, case: Case, at_risk: Exposure, added_micros: int) -> None:
    """What is at risk with the opening, in all, in the market and of the influencer, each a share of equity."""
    policy = case.policy
    for name, reason, now_micros, share in (
        ("exposure_total_micros", Reason.EXPOSURE_TOTAL, at_risk.total_micros, policy.total_exposure_micros),
        ("exposure_market_micros", Reason.EXPOSURE_MARKET, at_risk.market_micros, policy.market_exposure_micros),
        (
            "exposure_influencer_micros",
            Reason.EXPOSURE_INFLUENCER,
            at_risk.influencer_micros,
            policy.influencer_exposure_micros,
        ),
    ):
        limit = fraction(case.equity_micros, share, MICRO)
        checks.require(now_micros + added_micros <= limit, reason, name, now_micros + added_micros, limit)


def check_depth(checks: Checklist, case: Case, band: Band, notional_micros: int) -> None:
    """The band must hold the required multiple of the order."""
    available = depth(band.levels)
    wanted = fraction(notional_micros, case.policy.depth_ratio_micros, MICRO)
    if wanted and available:
        checks.require(available >= wanted, Reason.INSUFFICIENT_DEPTH, "depth_in_band_micros", available, wanted)


def check_cash(checks: Checklist, case: Case, band: Band, opened: Opening) -> None:
    """An outcome token is paid in full, with the fee, from cash that no other order will take."""
    taken = walk(band.levels, opened.share_micros, case.fees)
    cost = sum(fill.notional_micros + fill.fee_micros for fill in taken)
    cash = free_cash(case.portfolio)
    checks.require(cost <= cash, Reason.INSUFFICIENT_CASH, "cash_micros", cost, cash)


def check_recording(checks: Checklist, case: Case) -> None:
    """One who only records is told so where it alone stood in the way."""
    if case.request.mode is Mode.RECORD_ONLY or case.seen.engine is ControlState.RECORD_ONLY:
        recording = "engine" if case.seen.engine is ControlState.RECORD_ONLY else "subscriber"
        checks.require(False, Reason.RECORD_ONLY, "mode", f"{Mode.RECORD_ONLY.value} ({recording})", Mode.PAPER.value)
