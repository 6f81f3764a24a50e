"""Events of REQUESTS: which subscriptions are to decide on a group.

A commit of REQUESTS holds the requests of one group for the subscribers of one class of partitions: `group.requested`
with what they share, then one `execution.requested` each. `ExecutionRequested` is both put together
(domain/requests.py).
"""

from msgspec import Struct

from domain.events.accounts import LiveAccount
from domain.events.catalogue import Event, stored
from domain.events.types import Action, GroupCause, Level, Mode, PortfolioScope, PositionState, Terms, TradeSide
from domain.reason_codes import Reason
from domain.venues import Venue


class Sizing(Struct, frozen=True, gc=False, omit_defaults=True):
    """How much of a group a subscription copies; the field that the mode names is set, the others are zero."""

    mode: str
    percent_micros: int = 0
    notional_micros: int = 0


class RequestedQuote(Struct, frozen=True, omit_defaults=True):
    """The captured book as one side of it matters: best of both sides and the levels that the copy would take.

    `venue_time` is when the book is known to have been the venue's: the venue's time, where that states when it
    read the book (domain/venues.py), or when a live book was last known to be current.
    """

    quote_id: str
    bid_micros: int
    ask_micros: int
    levels: tuple[Level, ...]
    size_step_micros: int
    captured_at: int
    terms: Terms | None = None
    venue_time: int | None = None

    @property
    def as_of(self) -> int:
        """The time (ns) from which the quote's age counts: of its capture, or the venue's where that is earlier."""
        return self.captured_at if self.venue_time is None else min(self.captured_at, self.venue_time)

    @property
    def mid_micros(self) -> int:
        return (self.bid_micros + self.ask_micros) // 2


class ExitTry(Struct, frozen=True):
    """The owed exit that a request tries again, and the number of the try, counted from 1."""

    exit_id: str
    number: int


@stored("group.requested")
class GroupRequested(Event, frozen=True, kw_only=True):
    """What the requests of a group share: the net effect of its window and the book that was captured for it."""

    influencer_id: str
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
    config_sequence: int
    position_state: PositionState = PositionState.KNOWN
    influencer_equity_micros: int | None = None
    cause: GroupCause = GroupCause.TRADE


@stored("execution.requested")
class CopyRequested(Event, frozen=True, kw_only=True):
    """One subscription that is to decide on the group of its commit's first event. The event's id is the request's."""

    subscription_id: str
    subscriber_id: str
    mode: Mode
    sizing: Sizing
    policy_hash: str
    scope: PortfolioScope = PortfolioScope.SUBSCRIBER
    opening_blocked: str | None = None
    """The filter that wants no opening; what reduces a position goes through."""
    exit: ExitTry | None = None
    """The owed exit that is tried, in a commit of such tries."""
    account: LiveAccount | None = None
    """Where its order goes, in live mode; without an account nothing is executed."""


class ExecutionRequested(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One (subscription, group) pair to decide, with everything the decision needs but the portfolio.

    With `exit`, it is a try of what the copy owes since the group: how much, the portfolio knows. Positions before and
    after and the notional are 0 then.
    """

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
    position_state: PositionState = PositionState.KNOWN
    influencer_equity_micros: int | None = None
    cause: GroupCause = GroupCause.TRADE
    exit: ExitTry | None = None
    account: LiveAccount | None = None


@stored("group.expired")
class GroupExpired(Event, frozen=True, kw_only=True):
    """A group that only opens came too late for every subscription that wanted it: none of them is asked.

    `subscriptions` would have been asked; the group is `age_ms` old, and `limit_ms` is the most that any of them takes.
    """

    group_id: str
    quote_id: str
    influencer_id: str
    venue: Venue
    asset: str
    subscriptions: int
    age_ms: int
    limit_ms: int
    config_sequence: int
    expired_at: int


@stored("group.matched")
class GroupMatched(Event, frozen=True, kw_only=True):
    """The fan-out of one group: how many subscriptions asked for it, how many were filtered, and why."""

    group_id: str
    quote_id: str
    influencer_id: str
    matched: int
    filtered: dict[str, int]
