"""Events of EXECUTIONS: the life of one subscriber: decisions, orders, fills, positions, breakers."""

from enum import StrEnum

from msgspec import Struct

from domain.events.accounts import LiveAccount
from domain.events.catalogue import Event, stored
from domain.events.exits import ExitOwed
from domain.events.requests import ExecutionRequested
from domain.events.types import Action, Decision, Level, Mode, PortfolioScope, Terms, TradeSide
from domain.reason_codes import Reason
from domain.venues import Venue


class Check(Struct, frozen=True):
    """One check of a decision: what was looked at, against which limit, and whether it passed."""

    name: str
    input: int | str | None
    limit: int | str | None
    passed: bool


@stored("cash.deposited")
class CashDeposited(Event, frozen=True, kw_only=True):
    """Cash put into (or, negative, taken out of) a subscriber's portfolio by configuration."""

    deposit_id: str
    subscriber_id: str
    cash_delta_micros: int
    config_sequence: int
    deposited_at: int


@stored("copy.queued")
class CopyQueued(Event, frozen=True, kw_only=True):
    """A request of EXEC_GLOBAL, which decides in the order of detect time: it waits until `due_at` for earlier ones.

    `request_at` is the address of the request, 'REQUESTS:sequence.index'.
    """

    request: ExecutionRequested
    request_at: str
    due_at: int
    queued_at: int


@stored("copy.decided")
class CopyDecided(Event, frozen=True, kw_only=True):
    """EXECUTE or SKIP, with every check made.

    `target_notional_micros` is what sizing wants to open; of what only reduces, the worth of all shares to give up at
    the best price. `reference_price_micros` is the influencer's price, 0 where it did not trade.

    It takes into account everything before it on its subject, CONFIG up to `config_sequence`, and marks up to
    `marks_sequence`.
    """

    attempt_id: str
    request_id: str
    subscription_id: str
    subscriber_id: str
    influencer_id: str
    group_id: str
    quote_id: str | None
    mode: Mode
    venue: Venue
    asset: str
    market: str
    action: Action
    trade_side: TradeSide
    decision: Decision
    reasons: tuple[Reason, ...]
    checks: tuple[Check, ...]
    target_notional_micros: int
    share_micros: int
    reduce_micros: int
    limit_price_micros: int
    mid_micros: int
    levels: tuple[Level, ...]
    equity_micros: int
    policy_hash: str
    config_sequence: int
    event_time: int
    detect_time: int
    decided_at: int
    marks_sequence: int = 0
    """The last event of GROUPS whose marks it used."""
    residual_micros: int = 0
    """Notional of targets below the minimum that waits, signed by trade side, after this decision."""
    residual_share_micros: int = 0
    """Shares of reductions below the minimum that wait, after this decision."""
    terms: Terms | None = None
    scope: PortfolioScope = PortfolioScope.SUBSCRIBER
    rules: int = 0
    """The version of the rules that decided: another version may decide otherwise."""
    reserved_micros: int = 0
    """Cash that the opening can cost at its limit, fee included, on venues where openings are paid in full."""
    exit_id: str | None = None
    """The exit that the copy of this position owes, before or after this decision."""
    exit_try: int = 0
    """Which try of the exit it is, counted from 1; 0 for a decision about a group."""
    owed_micros: int = 0
    """Shares that the copy owes after this decision."""
    kept_micros: int = 0
    """Shares that were owed and are kept, because the influencer opened again."""
    reference_price_micros: int = 0


@stored("order.submitted")
class OrderSubmitted(Event, frozen=True, kw_only=True):
    """The intent to trade: immediate-or-cancel up to `limit_price_micros`.

    In live mode it names the `account`; the venue is to refuse it after `expires_at` (ns), fees are `fee_part_micros`
    of notional until the venue states them, and what it does not fill of the reduction is owed as `owes`.
    """

    order_id: str
    cloid: str
    attempt_id: str
    subscription_id: str
    subscriber_id: str
    mode: Mode
    venue: Venue
    asset: str
    trade_side: TradeSide
    share_micros: int
    reduce_micros: int
    limit_price_micros: int
    submitted_at: int
    influencer_id: str = ""
    group_id: str = ""
    account: LiveAccount | None = None
    reduce_only: bool = False
    size_step_micros: int = 0
    expires_at: int = 0
    fee_part_micros: int = 0
    owes: ExitOwed | None = None


@stored("order.filled")
class OrderFilled(Event, frozen=True, kw_only=True):
    """One fill: a book level taken. A buy moves cash down by notional + fee, a sell up by notional - fee."""

    fill_id: str
    order_id: str
    attempt_id: str
    subscription_id: str
    subscriber_id: str
    influencer_id: str
    venue: Venue
    asset: str
    trade_side: TradeSide
    share_micros: int
    price_micros: int
    notional_micros: int
    fee_micros: int
    share_delta_micros: int
    cash_delta_micros: int
    filled_at: int


@stored("fill.corrected")
class FillCorrected(Event, frozen=True, kw_only=True):
    """The venue's own fills of a live order cost something else than its answer promised: the differences.

    The notional is a magnitude that grows or shrinks; the difference is realized at once.
    """

    order_id: str
    attempt_id: str
    subscription_id: str
    subscriber_id: str
    influencer_id: str
    venue: Venue
    asset: str
    trade_side: TradeSide
    notional_delta_micros: int
    fee_delta_micros: int
    cash_delta_micros: int
    corrected_at: int


@stored("execution.completed")
class ExecutionCompleted(Event, frozen=True, kw_only=True):
    """What became of an order: how much of it filled, at which average, for which fee."""

    order_id: str
    attempt_id: str
    subscription_id: str
    subscriber_id: str
    venue: Venue
    asset: str
    requested_micros: int
    filled_micros: int
    notional_micros: int
    fee_micros: int
    average_price_micros: int
    reasons: tuple[Reason, ...]
    completed_at: int


@stored("position.changed")
class PositionChanged(Event, frozen=True, kw_only=True):
    """A subscriber's position in one asset after an order: size, cost of the open part, realized profit so far."""

    subscriber_id: str
    venue: Venue
    asset: str
    order_id: str
    share_micros: int
    cost_micros: int
    average_price_micros: int
    realized_micros: int
    changed_at: int


@stored("position.compared")
class PositionCompared(Event, frozen=True, kw_only=True):
    """A live position beside what the venue account holds: stored when they begin to differ, differ otherwise, or are
    equal again. While they differ, nothing is opened in the asset."""

    subscriber_id: str
    venue: Venue
    asset: str
    held_micros: int
    found_micros: int
    compared_at: int


@stored("position.settled")
class PositionSettled(Event, frozen=True, kw_only=True):
    """A resolved market paid out what a subscription held of one asset; the position is gone."""

    settlement_id: str
    subscriber_id: str
    subscription_id: str
    influencer_id: str
    venue: Venue
    asset: str
    market: str
    price_micros: int
    share_delta_micros: int
    cash_delta_micros: int
    resolution_id: str
    settled_at: int


@stored("settlement.corrected")
class SettlementCorrected(Event, frozen=True, kw_only=True):
    """The venue changed a resolution after it was paid: the difference for the `share_micros` (signed) that a
    subscription was paid for, from the price that was paid to the one that is right."""

    correction_id: str
    subscriber_id: str
    subscription_id: str
    influencer_id: str
    venue: Venue
    asset: str
    market: str
    share_micros: int
    paid_price_micros: int
    price_micros: int
    cash_delta_micros: int
    resolution_id: str
    corrected_at: int


class BreakerLimit(StrEnum):
    """Which loss stops new positions."""

    DAILY_LOSS = "DAILY_LOSS"
    WEEKLY_LOSS = "WEEKLY_LOSS"
    DRAWDOWN = "DRAWDOWN"


@stored("equity.marked")
class EquityMarked(Event, frozen=True, kw_only=True):
    """The equity that breakers compare with later: at a new UTC day or ISO week, or at a new peak."""

    subscriber_id: str
    equity_micros: int
    marks_sequence: int
    marked_at: int


@stored("breaker.tripped")
class BreakerTripped(Event, frozen=True, kw_only=True):
    """Equity fell through a floor: nothing new is opened until the breaker is reset."""

    subscriber_id: str
    limit: BreakerLimit
    equity_micros: int
    floor_micros: int
    reference_micros: int
    marks_sequence: int
    config_sequence: int
    tripped_at: int


@stored("breaker.reset")
class BreakerReset(Event, frozen=True, kw_only=True):
    """A breaker lets opens through again: its day or week is over, or an operator reset it."""

    subscriber_id: str
    limit: BreakerLimit
    equity_micros: int
    actor: str
    config_sequence: int
    reset_at: int
