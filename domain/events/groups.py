"""Events of GROUPS: signal groups, their quotes, marks and resolutions."""

from enum import StrEnum

from msgspec import Struct

from domain.events.catalogue import Event, stored
from domain.events.requests import RequestedQuote
from domain.events.types import Action, GroupCause, Level, PositionState, Side, Terms, TradeSide
from domain.reason_codes import Reason
from domain.venues import Venue


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
    """The net effect of one window: the unit that is copied. `price_micros` is notional / size to the nearest micro.

    What was not traded (`cause`) has no price: it is 0. It collected no signals; its sequence in SIGNALS is that of the
    movement or gap.
    """

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
    cause: GroupCause = GroupCause.TRADE


@stored("quote.wanted")
class QuoteWanted(Event, frozen=True, kw_only=True):
    """The intent to capture a group's book at `due_at`; an intent without an outcome is still to be carried out."""

    quote_id: str
    group: GroupClosed
    due_at: int


@stored("quote.captured")
class QuoteCaptured(Event, frozen=True, kw_only=True):
    """The order book at decision time. Bids fall, asks rise; `size_step_micros` is the venue's lot.

    `current_at` is when a live book was last known to be the venue's; None for the answer to a request.
    """

    quote_id: str
    group: GroupClosed
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    size_step_micros: int
    venue_time: int
    captured_at: int
    terms: Terms | None = None
    current_at: int | None = None


@stored("quote.failed")
class QuoteFailed(Event, frozen=True, kw_only=True):
    """No usable book: the group is still decided, with this reason."""

    quote_id: str
    group: GroupClosed
    reason: Reason
    detail: str
    failed_at: int


@stored("exit.scheduled")
class ExitScheduled(Event, frozen=True, kw_only=True):
    """The intent to try an owed exit at `due_at`: try `number` of what a subscription owes since a group.

    `action` is DECREASE or CLOSE; `price_micros` the influencer's price, 0 when it did not trade. A paused engine holds
    the try unless `while_paused`.
    """

    exit_id: str
    number: int
    subscription_id: str
    subscriber_id: str
    influencer_id: str
    group_id: str
    venue: Venue
    asset: str
    market: str
    action: Action
    trade_side: TradeSide
    price_micros: int
    event_time: int
    detect_time: int
    owed_since: int
    due_at: int
    while_paused: bool


@stored("exit.cancelled")
class ExitCancelled(Event, frozen=True, kw_only=True):
    """An owed exit ended: no try that was scheduled is made, and none that was made is waited for."""

    exit_id: str
    subscription_id: str
    subscriber_id: str
    venue: Venue
    asset: str


class DueExit(Struct, frozen=True):
    """One exit that a round tries, and the number of the try."""

    exit_id: str
    number: int
    subscription_id: str
    subscriber_id: str


@stored("exit.due")
class ExitDue(Event, frozen=True, kw_only=True):
    """A round of tries: exits that copies of one group owe, and the book that they are tried at.

    Without a book `quote` is None and `quote_reason` is the reason; `detail` explains it.
    """

    due_id: str
    influencer_id: str
    group_id: str
    venue: Venue
    asset: str
    market: str
    action: Action
    trade_side: TradeSide
    price_micros: int
    event_time: int
    detect_time: int
    exits: tuple[DueExit, ...]
    quote: RequestedQuote | None
    quote_reason: Reason | None
    detail: str
    tried_at: int


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
    """A market has ended for good: every share of its assets is worth its payout.

    `corrects` is the id of the resolution that the venue replaced by this one; None for the first.
    """

    resolution_id: str
    venue: Venue
    market: str
    payouts: tuple[Payout, ...]
    resolved_at: int
    detect_time: int
    corrects: str | None = None
