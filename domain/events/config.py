"""Events of CONFIG: who is followed, who copies whom, within which limits."""

from enum import StrEnum

from msgspec import Struct

from domain.events.accounts import LiveAccount
from domain.events.catalogue import Event, stored
from domain.events.requests import Sizing
from domain.events.types import Mode, PortfolioScope, TradeSide
from domain.venues import Venue


class Status(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    CLOSED = "closed"


class OnClose(StrEnum):
    """What becomes of open copies when an influencer, subscriber or subscription is closed: they follow the exits of
    the influencer, they are closed at once, or they are left as they are."""

    FOLLOW_EXITS = "follow_exits"
    CLOSE_NOW = "close_now"
    ABANDON = "abandon"


@stored("influencer.configured")
class InfluencerConfigured(Event, frozen=True, kw_only=True):
    id: str
    venue: Venue
    addresses: tuple[str, ...]
    label: str
    status: Status
    actor: str
    on_close: OnClose = OnClose.FOLLOW_EXITS

    @property
    def is_abandoned(self) -> bool:
        """True when even its exits are not copied."""
        return self.status is Status.CLOSED and self.on_close is OnClose.ABANDON


@stored("subscriber.configured")
class SubscriberConfigured(Event, frozen=True, kw_only=True, gc=False):
    id: str
    mode: Mode
    deposit_micros: int
    status: Status
    actor: str
    scope: PortfolioScope = PortfolioScope.SUBSCRIBER
    on_close: OnClose = OnClose.FOLLOW_EXITS

    @property
    def is_abandoned(self) -> bool:
        """True when even exits are not copied for it."""
        return self.status is Status.CLOSED and self.on_close is OnClose.ABANDON


class Filters(Struct, frozen=True, gc=False):
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
class SubscriptionConfigured(Event, frozen=True, kw_only=True, gc=False):
    id: str
    subscriber_id: str
    influencer_id: str
    sizing: Sizing
    limits: dict[str, int]
    filters: Filters
    status: Status
    actor: str
    on_close: OnClose = OnClose.FOLLOW_EXITS

    @property
    def is_abandoned(self) -> bool:
        """True when even exits are not copied by it."""
        return self.status is Status.CLOSED and self.on_close is OnClose.ABANDON


@stored("account.configured")
class AccountConfigured(Event, frozen=True, kw_only=True):
    """The venue account of a live subscriber, one for each venue; its orders are sent only while it is active."""

    subscriber_id: str
    venue: Venue
    account: LiveAccount
    status: Status
    actor: str

    @property
    def id(self) -> str:
        """What a later event with the same id replaces."""
        return f"{self.subscriber_id}:{self.venue.value}"


@stored("guardrail.configured")
class GuardrailConfigured(Event, frozen=True, kw_only=True):
    """Overrides of the default policy at one scope: 'global', 'influencer:<id>' or 'subscriber:<id>'."""

    scope: str
    values: dict[str, int]
    actor: str


class ControlTarget(StrEnum):
    """What an operator can switch."""

    ENGINE = "engine"
    INFLUENCER = "influencer"
    SUBSCRIBER = "subscriber"
    MARKET = "market"
    BREAKERS = "breakers"
    POSITIONS = "positions"


class ControlState(StrEnum):
    """engine: running, paused, record_only; influencer, subscriber, market: enabled, disabled; breakers: reset;
    positions: closed."""

    RUNNING = "running"
    PAUSED = "paused"
    RECORD_ONLY = "record_only"
    ENABLED = "enabled"
    DISABLED = "disabled"
    RESET = "reset"
    CLOSED = "closed"


@stored("control.changed")
class ControlChanged(Event, frozen=True, kw_only=True):
    """A switch that an operator set, in force from the next decision on. `id` is empty for the engine; for positions it
    is 'subscriber:ID', 'influencer:ID' or 'subscription:ID', with ' ASSET' or ' MARKET' behind it for one of them."""

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


@stored("import.activated")
class ImportActivated(Event, frozen=True, kw_only=True):
    """The last event of a large import: it puts everything in force that was staged under `import_id` before it."""

    import_id: str
    events: int
    actor: str
