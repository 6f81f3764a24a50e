"""The decision: whether and how one subscriber copies one group, with every check that was made (DESIGN 6.5).

Checks come in two kinds. Those on the market (age, quote, spread, price, depth) stop the whole copy. Those on the
opening (minimum, exposure) stop only the part that opens: what reduces a position goes through.
"""

from msgspec import Struct

from domain.events import (
    Action,
    Check,
    CopyDecided,
    Decision,
    ExecutionRequested,
    Level,
    Mode,
    TradeSide,
)
from domain.ids import derived
from domain.micros import MICRO, fraction, times
from domain.paper import depth, inside
from domain.policy import Policy, allowance
from domain.portfolio import Asset, Portfolio, equity, expected_copied, exposure
from domain.reasons import Reason
from domain.sizing import minimum_notional, opening_target, reduction, whole_lots


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


class Band(Struct, frozen=True):
    """The worst acceptable price and the book levels inside it."""

    limit_micros: int
    levels: tuple[Level, ...]


class Size(Struct, frozen=True):
    """Shares to reduce and shares to open, in micros, and the opening's target notional."""

    reduce_micros: int = 0
    open_micros: int = 0
    target_notional_micros: int = 0


def decide(
    portfolio: Portfolio, request: ExecutionRequested, policy: Policy, *, now: int, portfolio_sequence: int
) -> CopyDecided:
    """EXECUTE or SKIP for one request; pure, so that the log alone can recompute it."""
    asset: Asset = (request.venue.value, request.asset)
    equity_micros = equity(portfolio)
    market, opening = Checklist(), Checklist()

    age_ms = (now - request.event_time) // 1_000_000
    market.require(
        age_ms <= policy.max_signal_age_ms, Reason.STALE_SIGNAL, "signal_age_ms", age_ms, policy.max_signal_age_ms
    )
    band = check_market(market, request, policy)
    size = Size()
    if band is not None and request.quote is not None:
        size = sized(request, portfolio, asset, equity_micros, policy, market)
        check_depth(market, request, policy, band, size)
        size = check_opening(opening, request, portfolio, asset, equity_micros, policy, size)
    share = size.reduce_micros + size.open_micros
    if not share and not market.failed and not opening.failed:
        market.require(
            False, Reason.BELOW_MINIMUM, "order_share_micros", 0, request.quote.size_step_micros if request.quote else 1
        )
    check_mode(market, request.mode, would_execute=share > 0 and not market.failed)

    reasons = [*market.failed, *opening.failed]
    execute = not market.failed and share > 0
    if not execute:
        size, share = Size(target_notional_micros=size.target_notional_micros), 0
    return CopyDecided(
        attempt_id=derived("att", request.request_id),
        request_id=request.request_id,
        subscription_id=request.subscription_id,
        subscriber_id=request.subscriber_id,
        influencer_id=request.influencer_id,
        group_id=request.group_id,
        quote_id=request.quote.quote_id if request.quote else None,
        mode=request.mode,
        venue=request.venue,
        asset=request.asset,
        market=request.market,
        action=request.action,
        trade_side=request.trade_side,
        decision=Decision.EXECUTE if execute else Decision.SKIP,
        reasons=tuple(reasons),
        checks=(*market.checks, *opening.checks),
        target_notional_micros=size.target_notional_micros,
        share_micros=share,
        reduce_micros=size.reduce_micros,
        limit_price_micros=band.limit_micros if band else 0,
        mid_micros=request.quote.mid_micros if request.quote else 0,
        levels=needed(band.levels, share) if band and execute else (),
        equity_micros=equity_micros,
        policy_hash=request.policy_hash,
        portfolio_sequence=portfolio_sequence,
        config_sequence=request.config_sequence,
        event_time=request.event_time,
        detect_time=request.detect_time,
        decided_at=now,
    )


def check_market(checks: Checklist, request: ExecutionRequested, policy: Policy) -> Band | None:
    """Quote, spread and price; the band that fills must stay inside, or None without a quote."""
    quote = request.quote
    reason = request.quote_reason or Reason.NO_QUOTE
    if (
        not checks.require(quote is not None, reason, "quote", quote.quote_id if quote else reason.value, None)
        or quote is None
    ):
        return None
    buying = request.trade_side is TradeSide.BUY
    spread = quote.ask_micros - quote.bid_micros
    spread_limit = allowance(quote.mid_micros, request.venue, policy.spread_micros, policy.spread_bps)
    checks.require(spread <= spread_limit, Reason.SPREAD_TOO_WIDE, "spread_micros", spread, spread_limit)

    sign = request.trade_side.sign
    best = quote.ask_micros if buying else quote.bid_micros
    near_influencer = request.price_micros + sign * allowance(
        request.price_micros, request.venue, policy.influencer_price_micros, policy.influencer_price_bps
    )
    near_mid = quote.mid_micros + sign * allowance(
        quote.mid_micros, request.venue, policy.mid_price_micros, policy.mid_price_bps
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
    return Band(limit, inside(quote.levels, request.trade_side, limit))


def sized(
    request: ExecutionRequested,
    portfolio: Portfolio,
    asset: Asset,
    equity_micros: int,
    policy: Policy,
    market: Checklist,
) -> Size:
    """What to reduce and what to open, in whole lots."""
    quote = request.quote
    assert quote is not None
    step = quote.size_step_micros
    copied = expected_copied(portfolio, request.subscription_id, asset)
    reduce_micros = whole_lots(reduction(request, copied), step)
    target = opening_target(request, equity_micros, policy)
    price = quote.ask_micros if request.trade_side is TradeSide.BUY else quote.bid_micros
    open_micros = whole_lots(target * MICRO // price, step)
    reduces = request.after_micros == 0 or abs(request.after_micros) < abs(request.before_micros)
    if reduces and not target:
        held = -copied * request.trade_side.sign
        market.require(held > 0, Reason.NO_POSITION, "copied_position_micros", max(held, 0), 1)
    if reduce_micros and reduce_micros < abs(copied):
        # A part of a position must be worth the venue's minimum; a whole one may always be closed.
        notional, minimum = times(price, reduce_micros), minimum_notional(request, policy)
        if not market.require(
            notional >= minimum, Reason.BELOW_MINIMUM, "reduction_notional_micros", notional, minimum
        ):
            reduce_micros = 0
    return Size(reduce_micros, open_micros, target)


def check_depth(checks: Checklist, request: ExecutionRequested, policy: Policy, band: Band, size: Size) -> None:
    """The band must hold something, and the required multiple of the order."""
    available = depth(band.levels)
    checks.require(available > 0, Reason.NO_LIQUIDITY_WITHIN_BOUNDS, "liquidity_in_band_micros", available, 1)
    quote = request.quote
    assert quote is not None
    price = quote.ask_micros if request.trade_side is TradeSide.BUY else quote.bid_micros
    wanted = fraction(times(price, size.reduce_micros + size.open_micros), policy.depth_ratio_micros, MICRO)
    if wanted and available:
        checks.require(available >= wanted, Reason.INSUFFICIENT_DEPTH, "depth_in_band_micros", available, wanted)


def check_opening(
    checks: Checklist,
    request: ExecutionRequested,
    portfolio: Portfolio,
    asset: Asset,
    equity_micros: int,
    policy: Policy,
    size: Size,
) -> Size:
    """Minimum and exposure of the part that opens; the part is dropped when one of them fails."""
    if request.action in (Action.DECREASE, Action.CLOSE):
        return size
    if not checks.require(equity_micros > 0, Reason.NO_EQUITY, "equity_micros", equity_micros, 1):
        return Size(size.reduce_micros, 0, size.target_notional_micros)
    quote = request.quote
    assert quote is not None
    price = quote.ask_micros if request.trade_side is TradeSide.BUY else quote.bid_micros
    notional = times(price, size.open_micros)
    minimum = minimum_notional(request, policy)
    checks.require(notional >= minimum, Reason.BELOW_MINIMUM, "order_notional_micros", notional, minimum)

    now = exposure(portfolio, asset, request.influencer_id)
    for name, reason, at_risk, share in (
        ("exposure_total_micros", Reason.EXPOSURE_TOTAL, now.total_micros, policy.total_exposure_micros),
        ("exposure_market_micros", Reason.EXPOSURE_MARKET, now.market_micros, policy.market_exposure_micros),
        (
            "exposure_influencer_micros",
            Reason.EXPOSURE_INFLUENCER,
            now.influencer_micros,
            policy.influencer_exposure_micros,
        ),
    ):
        limit = fraction(equity_micros, share, MICRO)
        checks.require(at_risk + notional <= limit, reason, name, at_risk + notional, limit)
    return Size(size.reduce_micros, 0 if checks.failed else size.open_micros, size.target_notional_micros)


def check_mode(checks: Checklist, mode: Mode, *, would_execute: bool) -> None:
    """Only paper executes; a subscriber who only records is told so where it alone stood in the way."""
    if mode is Mode.LIVE:
        checks.require(False, Reason.LIVE_NOT_AVAILABLE, "mode", mode.value, Mode.PAPER.value)
    if mode is Mode.RECORD_ONLY and would_execute:
        checks.require(False, Reason.RECORD_ONLY, "mode", mode.value, Mode.PAPER.value)


def needed(levels: tuple[Level, ...], share_micros: int) -> tuple[Level, ...]:
    """The levels that an order of this size can reach."""
    reached = []
    left = share_micros
    for level in levels:
        if left <= 0:
            break
        reached.append(level)
        left -= level[1]
    return tuple(reached)
