"""The catalogue of events: one frozen struct each, facts only, under an explicit stored name.

Stored names are contracts: they stand in the log for ever, never follow a class name, and a test freezes
them with the schema of each. Units: `*_micros` are 1e-6 of a dollar, share or fraction; `*_time`, `*_at` are
integer nanoseconds UTC, `event_time` the venue's, `detect_time` ours. Sizes are signed where they say delta,
before or after (negative = short); otherwise they are magnitudes.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Raw, Struct

from domain.reason_codes import Reason


class Venue(StrEnum):
    HYPERLIQUID = "hyperliquid"
    POLYMARKET = "polymarket"


class Action(StrEnum):
    """What a change does to a position."""

    OPEN = "OPEN"
    INCREASE = "INCREASE"
    DECREASE = "DECREASE"
    CLOSE = "CLOSE"
    FLIP = "FLIP"
    SPLIT = "SPLIT"
    MERGE = "MERGE"
    REDEEM = "REDEEM"


class Side(StrEnum):
    """Which way a position points."""

    LONG = "LONG"
    SHORT = "SHORT"
    FLAT = "FLAT"


class TradeSide(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        return 1 if self is TradeSide.BUY else -1


class PositionState(StrEnum):
    """How sure we are of an influencer's position: seeded by the venue, folded from nothing, or older than the seed."""

    KNOWN = "KNOWN"
    ASSUMED = "ASSUMED"
    HISTORIC = "HISTORIC"


class PortfolioScope(StrEnum):
    """Whose portfolio it is: a subscriber's own, one of the two that come with an influencer, or the influencer's."""

    SUBSCRIBER = "SUBSCRIBER"
    EXEC_USER = "EXEC_USER"
    EXEC_GLOBAL = "EXEC_GLOBAL"
    SHADOW_USER = "SHADOW_USER"


class Mode(StrEnum):
    PAPER = "paper"
    LIVE = "live"
    RECORD_ONLY = "record_only"


class Decision(StrEnum):
    EXECUTE = "EXECUTE"
    SKIP = "SKIP"


class Event(Struct, frozen=True, kw_only=True):
    """A fact. Its sequence, time, correlation and causation belong to the log."""


CATALOGUE: dict[str, type[Event]] = {}
STORED_NAME: dict[type[Event], str] = {}

E_ = TypeVar("E_", bound=type[Event])


def stored(name: str) -> Callable[[E_], E_]:
    """Enter an event into the catalogue under its stored name."""

    def enter(cls: E_) -> E_:
        assert name not in CATALOGUE, f"the stored name {name} is taken"
        CATALOGUE[name] = cls
        STORED_NAME[cls] = name
        return cls

    return enter


# --- RAW ---------------------------------------------------------------------------------------------------


@stored("raw.received")
class RawReceived(Event, frozen=True, kw_only=True):
    """One thing a venue sent about one followed address, unmodified."""

    raw_id: str
    venue: Venue
    channel: str
    influencer_id: str
    address: str
    payload: Raw
    detect_time: int
    venue_time: int | None = None
    """When it happened at the venue, where the payload itself does not say."""


# --- SIGNALS -----------------------------------------------------------------------------------------------


class SeededPosition(Struct, frozen=True):
    """`price_micros` is the average price of entry, where the venue tells it."""

    asset: str
    share_micros: int
    leverage: int | None = None
    market: str = ""
    price_micros: int | None = None


@stored("account.seeded")
class AccountSeeded(Event, frozen=True, kw_only=True):
    """One section of an influencer's account as the venue reported it; its assets that are not listed are flat.

    A section is what one report covers: on Hyperliquid a dex ('' = the main one, 'xyz' = the assets 'xyz:...').
    `equity_micros` is the account's whole worth, where the venue tells it.
    """

    seed_id: str
    influencer_id: str
    venue: Venue
    address: str
    section: str
    positions: tuple[SeededPosition, ...]
    event_time: int
    detect_time: int
    equity_micros: int | None = None


@stored("signal.recorded")
class SignalRecorded(Event, frozen=True, kw_only=True):
    """The change of an influencer's position that a raw event means."""

    signal_id: str
    influencer_id: str
    venue: Venue
    address: str
    asset: str
    market: str
    action: Action
    side: Side
    trade_side: TradeSide
    before_micros: int
    after_micros: int
    delta_micros: int
    price_micros: int
    notional_micros: int
    position_state: PositionState
    risk_bucket: str
    taker: bool
    event_time: int
    detect_time: int
    source_event_id: str
    leverage: int | None = None
    order_type: str | None = None
    metadata: dict[str, str] = {}
    fee_micros: int | None = None
    influencer_equity_micros: int | None = None


@stored("fill.observed")
class FillObserved(Event, frozen=True, kw_only=True):
    """A second source reported a fill that had its signal already: nothing is copied twice, nothing is forgotten.

    `fill_key` names the economic fill that both sources mean.
    """

    source_event_id: str
    fill_key: str
    signal_id: str
    influencer_id: str
    venue: Venue
    address: str
    asset: str
    market: str
    event_time: int
    detect_time: int


class GapKind(StrEnum):
    """What made a position uncertain."""

    START_POSITION = "START_POSITION"
    CONVERSION = "CONVERSION"
    BELOW_ZERO = "BELOW_ZERO"


@stored("gap.detected")
class GapDetected(Event, frozen=True, kw_only=True):
    """The venue's own word on a position disagrees with the fold: fills are missing. The fold follows the venue."""

    gap_id: str
    kind: GapKind
    influencer_id: str
    venue: Venue
    address: str
    asset: str
    expected_micros: int
    found_micros: int
    source_event_id: str
    event_time: int
    detect_time: int


class Outcome(Struct, frozen=True):
    """One tradable side of a market and what it is called."""

    asset: str
    label: str


@stored("market.described")
class MarketDescribed(Event, frozen=True, kw_only=True):
    """A market as listed. `fee_rate_micros` is its taker rate; `closes_at` the listed end, not the time of payout."""

    description_id: str
    venue: Venue
    market: str
    question: str
    slug: str
    outcomes: tuple[Outcome, ...]
    tick_micros: int
    min_share_micros: int
    fee_rate_micros: int
    closes_at: int | None
    accepting: bool
    described_at: int


# --- GROUPS ------------------------------------------------------------------------------------------------


@stored("signal.grouped")
class SignalGrouped(Event, frozen=True, kw_only=True):
    """A signal joined the open window of its (influencer, asset, trade side); the first one opens it."""

    group_id: str
    signal_id: str
    signal_sequence: int
    influencer_id: str
    venue: Venue
    address: str
    asset: str
    market: str
    trade_side: TradeSide
    before_micros: int
    after_micros: int
    delta_micros: int
    notional_micros: int
    leverage: int | None
    event_time: int
    detect_time: int
    closes_at: int
    position_state: PositionState = PositionState.KNOWN
    influencer_equity_micros: int | None = None


@stored("group.closed")
class GroupClosed(Event, frozen=True, kw_only=True):
    """The net effect of one window: the unit that is copied. `price_micros` is notional / size to the nearest micro."""

    group_id: str
    influencer_id: str
    venue: Venue
    address: str
    asset: str
    market: str
    action: Action
    side: Side
    trade_side: TradeSide
    before_micros: int
    after_micros: int
    delta_micros: int
    notional_micros: int
    price_micros: int
    leverage: int | None
    signal_ids: tuple[str, ...]
    signal_sequences: tuple[int, ...]
    event_time: int
    last_event_time: int
    detect_time: int
    closed_at: int
    position_state: PositionState = PositionState.KNOWN
    influencer_equity_micros: int | None = None


Level = tuple[int, int]
"""One book level: (price_micros, share_micros)."""


class Terms(Struct, frozen=True):
    """What a venue asks of an order in one asset.

    `fee_rate_micros` r means a taker fee of r x shares x p x (1 - p) (Polymarket); None means the policy's share of
    notional. `closes_at` is when trading is to end; `accepting` whether orders are taken now; `market` is what the
    asset belongs to, for those who know only the asset.
    """

    size_step_micros: int
    tick_micros: int = 1
    min_share_micros: int = 0
    min_notional_micros: int = 0
    fee_rate_micros: int | None = None
    closes_at: int | None = None
    accepting: bool = True
    market: str = ""


@stored("quote.wanted")
class QuoteWanted(Event, frozen=True, kw_only=True):
    """The intent to capture a group's book at `due_at`: what is wanted and has no outcome is the to-do list."""

    quote_id: str
    group: GroupClosed
    due_at: int


@stored("quote.captured")
class QuoteCaptured(Event, frozen=True, kw_only=True):
    """The order book at decision time. Bids fall, asks rise; `size_step_micros` is the venue's lot."""

    quote_id: str
    group: GroupClosed
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    size_step_micros: int
    venue_time: int
    captured_at: int
    terms: Terms | None = None


@stored("quote.failed")
class QuoteFailed(Event, frozen=True, kw_only=True):
    """No usable book: the group is still decided, with this reason."""

    quote_id: str
    group: GroupClosed
    reason: Reason
    detail: str
    failed_at: int


class MarkSource(StrEnum):
    """Where a mark comes from: the middle of the book, or the last trade when one side is empty."""

    MIDPOINT = "MIDPOINT"
    LAST_TRADE = "LAST_TRADE"


@stored("mark.captured")
class MarkCaptured(Event, frozen=True, kw_only=True):
    """What a held asset is worth now."""

    mark_id: str
    venue: Venue
    asset: str
    market: str
    price_micros: int
    source: MarkSource
    venue_time: int
    marked_at: int


class Payout(Struct, frozen=True):
    """What one share of an asset pays at the end."""

    asset: str
    price_micros: int


@stored("market.resolved")
class MarketResolved(Event, frozen=True, kw_only=True):
    """A market has ended for good: every share of its assets is worth its payout."""

    resolution_id: str
    venue: Venue
    market: str
    payouts: tuple[Payout, ...]
    resolved_at: int
    detect_time: int


# --- REQUESTS ----------------------------------------------------------------------------------------------


class Sizing(Struct, frozen=True):
    """How much of a group a subscription copies; the field that the mode names is set, the others are zero."""

    mode: str
    percent_micros: int = 0
    notional_micros: int = 0


class RequestedQuote(Struct, frozen=True):
    """The captured book as one side of it matters: best of both sides and the levels that the copy would take."""

    quote_id: str
    bid_micros: int
    ask_micros: int
    levels: tuple[Level, ...]
    size_step_micros: int
    captured_at: int
    terms: Terms | None = None

    @property
    def mid_micros(self) -> int:
        return (self.bid_micros + self.ask_micros) // 2


@stored("execution.requested")
class ExecutionRequested(Event, frozen=True, kw_only=True):
    """One (subscription, group) pair to decide, with everything the decision needs but the portfolio."""

    request_id: str
    subscription_id: str
    subscriber_id: str
    influencer_id: str
    mode: Mode
    group_id: str
    venue: Venue
    asset: str
    market: str
    action: Action
    trade_side: TradeSide
    before_micros: int
    after_micros: int
    notional_micros: int
    price_micros: int
    event_time: int
    detect_time: int
    quote: RequestedQuote | None
    quote_reason: Reason | None
    sizing: Sizing
    policy_hash: str
    config_sequence: int
    scope: PortfolioScope = PortfolioScope.SUBSCRIBER
    opening_blocked: str | None = None
    """The filter that wants no opening; what reduces a position goes through."""
    position_state: PositionState = PositionState.KNOWN
    influencer_equity_micros: int | None = None


@stored("group.matched")
class GroupMatched(Event, frozen=True, kw_only=True):
    """The fan-out of one group: how many subscriptions asked for it, how many were filtered, and why."""

    group_id: str
    quote_id: str
    influencer_id: str
    matched: int
    filtered: dict[str, int]


# --- EXECUTIONS --------------------------------------------------------------------------------------------


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
    """A request of the portfolio that copies first in, first out by detect time: it waits until `due_at` for others."""

    request: ExecutionRequested
    request_sequence: int
    due_at: int
    queued_at: int


@stored("copy.decided")
class CopyDecided(Event, frozen=True, kw_only=True):
    """EXECUTE or SKIP, with every check made.

    What it had seen: events of other stages up to `portfolio_sequence`, CONFIG up to `config_sequence`, marks up to
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
    portfolio_sequence: int
    config_sequence: int
    event_time: int
    detect_time: int
    decided_at: int
    marks_sequence: int = 0
    """The last event of GROUPS whose marks it had seen."""
    residual_micros: int = 0
    """Notional of targets below the minimum that waits, signed by trade side, after this decision."""
    residual_share_micros: int = 0
    """Shares of reductions below the minimum that wait, after this decision."""
    terms: Terms | None = None
    scope: PortfolioScope = PortfolioScope.SUBSCRIBER
    rules: int = 0
    """The version of the rules that decided: only the same rules can be expected to decide the same again."""


@stored("order.submitted")
class OrderSubmitted(Event, frozen=True, kw_only=True):
    """The intent to trade: immediate-or-cancel up to `limit_price_micros`."""

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


class BreakerLimit(StrEnum):
    """Which loss stops new positions."""

    DAILY_LOSS = "DAILY_LOSS"
    WEEKLY_LOSS = "WEEKLY_LOSS"
    DRAWDOWN = "DRAWDOWN"


@stored("equity.marked")
class EquityMarked(Event, frozen=True, kw_only=True):
    """A portfolio's worth at a moment that its breakers look back to: a new UTC day or ISO week, or a new peak."""

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
    """A breaker lets opens through again: its day or week is over, or an operator said so."""

    subscriber_id: str
    limit: BreakerLimit
    equity_micros: int
    actor: str
    config_sequence: int
    reset_at: int


# --- CONFIG ------------------------------------------------------------------------------------------------


class Status(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    CLOSED = "closed"


@stored("influencer.configured")
class InfluencerConfigured(Event, frozen=True, kw_only=True):
    id: str
    venue: Venue
    addresses: tuple[str, ...]
    label: str
    status: Status
    actor: str


@stored("subscriber.configured")
class SubscriberConfigured(Event, frozen=True, kw_only=True):
    id: str
    mode: Mode
    deposit_micros: int
    status: Status
    actor: str
    scope: PortfolioScope = PortfolioScope.SUBSCRIBER


class Filters(Struct, frozen=True):
    """Which openings a subscription wants; what reduces a position always goes through. Empty = all.

    Markets are conditions on Polymarket and coins on Hyperliquid; `days` are ISO weekdays (1 = Monday); `hours` are
    (from, to) in minutes of the UTC day, `to` not included, and may run over midnight.
    """

    allowed_assets: tuple[str, ...] = ()
    blocked_assets: tuple[str, ...] = ()
    sides: tuple[TradeSide, ...] = ()
    allowed_markets: tuple[str, ...] = ()
    blocked_markets: tuple[str, ...] = ()
    days: tuple[int, ...] = ()
    hours: tuple[tuple[int, int], ...] = ()


@stored("subscription.configured")
class SubscriptionConfigured(Event, frozen=True, kw_only=True):
    id: str
    subscriber_id: str
    influencer_id: str
    sizing: Sizing
    limits: dict[str, int]
    filters: Filters
    status: Status
    actor: str


@stored("guardrail.configured")
class GuardrailConfigured(Event, frozen=True, kw_only=True):
    """Overrides of the default policy at one scope: 'global', 'influencer:<id>' or 'subscriber:<id>'."""

    scope: str
    values: dict[str, int]
    actor: str


class ControlTarget(StrEnum):
    """What an operator steers."""

    ENGINE = "engine"
    INFLUENCER = "influencer"
    SUBSCRIBER = "subscriber"
    MARKET = "market"
    BREAKERS = "breakers"


class ControlState(StrEnum):
    """engine: running, paused, record_only; influencer, subscriber, market: enabled, disabled; breakers: reset."""

    RUNNING = "running"
    PAUSED = "paused"
    RECORD_ONLY = "record_only"
    ENABLED = "enabled"
    DISABLED = "disabled"
    RESET = "reset"


@stored("control.changed")
class ControlChanged(Event, frozen=True, kw_only=True):
    """An operator's word, in force from the next decision on. `id` is empty for the engine."""

    target: ControlTarget
    id: str
    state: ControlState
    actor: str
    note: str


@stored("policy.materialized")
class PolicyMaterialized(Event, frozen=True, kw_only=True):
    """An evaluated policy, stored once under its hash; decisions name the hash."""

    hash: str
    values: dict[str, int]


def schema_of(event: type[Event]) -> dict[str, Any]:
    """The JSON schema of an event's data, for the frozen catalogue and for API documents."""
    import msgspec

    return msgspec.json.schema(event)
