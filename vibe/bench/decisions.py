"""What a decision costs with much or little held, in CPU time of this process alone: no server takes part."""

import time
from typing import Any

from msgspec.structs import replace

from domain.decision import Assessments
from domain.decision_inputs import DecisionInputs
from domain.events import (
    Action,
    ControlState,
    Decision,
    ExecutionRequested,
    Mode,
    RequestedQuote,
    Sizing,
    TradeSide,
)
from domain.guardrails import Policy
from domain.holding import Holding, Part, Pending
from domain.mark_prices import MarkPrices
from domain.micros import MICRO
from domain.portfolio import Portfolio
from domain.position import Position
from domain.venues import Venue

FANOUT = 50
"""Requests of one group, which share what does not depend on the subscriber."""
_RUNS = 5
_NOW = 1_795_000_000 * 10**9
_POLICY = Policy(total_exposure_micros=10**12, influencer_exposure_micros=10**12, max_leverage_micros=0)


def measure(*, held: tuple[int, ...] = (0, 10, 200, 5_000), pending: int = 1_000, groups: int = 40) -> dict[str, Any]:
    """Microseconds of CPU per executed decision by the number of held positions, and with `pending` orders: the best of
    five runs over so many groups of 50 requests."""
    return {
        "decision_us": {str(count): _microseconds(_portfolio(count, 0), groups) for count in held},
        "decision_us_with_pending": {str(pending): _microseconds(_portfolio(0, pending), groups)},
        "fanout": FANOUT,
    }


def _microseconds(portfolio: Portfolio, groups: int) -> float:
    request = _request()
    requests = [replace(request, request_id=f"req_{number}") for number in range(FANOUT)]
    inputs = DecisionInputs(ControlState.RUNNING, False, None, False, MarkPrices(), 1, 1)
    best = float("inf")
    for _ in range(_RUNS):
        began = time.process_time_ns()
        for _ in range(groups):
            assessments = Assessments(request, inputs, _NOW)
            made = [assessments.decide(portfolio, one, _POLICY, None) for one in requests]
        best = min(best, (time.process_time_ns() - began) / (groups * FANOUT * 1_000))
        assert all(decision.decision is Decision.EXECUTE for decision in made)
    return round(best, 2)


def _portfolio(held: int, pending: int) -> Portfolio:
    portfolio = Portfolio(cash_micros=10**6 * MICRO)
    for number in range(held):
        position = Position(MICRO, 100 * MICRO, mark_micros=100 * MICRO, marked_at=_NOW, market=f"COIN{number}")
        holding = Holding(position, {"alice-whale": Part("whale", MICRO)})
        portfolio.holdings[Venue.HYPERLIQUID.value, f"COIN{number}"] = holding
    for number in range(pending):
        place = (Venue.HYPERLIQUID.value, f"COIN{number % 50}")
        empty = Holding(Position(mark_micros=100 * MICRO, marked_at=_NOW, market=place[1]))
        order = Pending("alice-whale", MICRO // 100, MICRO // 100)
        portfolio.holdings.setdefault(place, empty).ordered(f"att_{number}", order, "whale", 0)
    return portfolio


def _request() -> ExecutionRequested:
    levels = tuple((100_050_000 + 10_000 * number, 200_000 + MICRO * number) for number in range(20))
    quote = RequestedQuote("quo_1", 99_950_000, levels[0][0], levels, 1_000, _NOW)
    return ExecutionRequested(
        request_id="req_0",
        subscription_id="alice-whale",
        subscriber_id="alice",
        influencer_id="whale",
        mode=Mode.PAPER,
        group_id="grp_1",
        venue=Venue.HYPERLIQUID,
        asset="BTC",
        market="BTC",
        action=Action.OPEN,
        trade_side=TradeSide.BUY,
        before_micros=0,
        after_micros=MICRO,
        notional_micros=100 * MICRO,
        price_micros=100 * MICRO,
        event_time=_NOW,
        detect_time=_NOW,
        quote=quote,
        quote_reason=None,
        sizing=Sizing("copy_percent", percent_micros=50 * MICRO),
        policy_hash="policy",
        config_sequence=1,
    )
