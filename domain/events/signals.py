"""Events of SIGNALS: what raw events changed in an influencer's positions."""

from enum import StrEnum

from msgspec import Struct, field

from domain.events.catalogue import Event, stored
from domain.events.types import Action, PositionState, Side, TradeSide
from domain.venues import Venue


class SeededPosition(Struct, frozen=True):
    """`price_micros` is the average price of entry, where the venue gives it."""

    asset: str
    share_micros: int
    leverage: int | None = None
    market: str = ""
    price_micros: int | None = None


@stored("account.seeded")
class AccountSeeded(Event, frozen=True, kw_only=True):
    """One section of an influencer's account as the venue reported it; its assets that are not listed are flat.

    A section is what one snapshot covers: on Hyperliquid a dex ('' = the main one, 'xyz' = the assets 'xyz:...').
    `equity_micros` is the account's equity, where the venue gives it. `unread` are assets whose sizes could not be
    read: they stay what they were.
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
    unread: tuple[str, ...] = ()


@stored("account.mode_stated")
class AccountModeStated(Event, frozen=True, kw_only=True):
    """What the venue counts as the equity of an account, by the account's mode.

    Where `reports_count` its snapshots state the equity; otherwise it is `equity_micros`, None where it is not known.
    """

    influencer_id: str
    venue: Venue
    address: str
    mode: str
    reports_count: bool
    equity_micros: int | None
    event_time: int
    detect_time: int


@stored("signal.recorded")
class SignalRecorded(Event, frozen=True, kw_only=True):
    """The change of the position of one address that a raw event describes.

    Before, after, action and side are those of the address. `others_micros` are the signed shares that the influencer's
    other addresses hold; `influencer_equity_micros` is the equity of all of them together, where the venue gives it.
    """

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
    metadata: dict[str, str] = field(default_factory=dict)
    fee_micros: int | None = None
    influencer_equity_micros: int | None = None
    others_micros: int = 0


@stored("fill.observed")
class FillObserved(Event, frozen=True, kw_only=True):
    """A second source reported a fill that has its signal already: it is recorded, and not copied again.

    `fill_key` names the economic fill that both sources report.
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
    SNAPSHOT = "SNAPSHOT"


@stored("gap.detected")
class GapDetected(Event, frozen=True, kw_only=True):
    """The position that the venue states contradicts the fold: fills are missing. The fold follows the venue.

    What it takes from the position is owed by every copy (`group.closed` with the cause GAP). `expected_micros` and
    `found_micros` are those of the address, `others_micros` the signed shares that the influencer's others hold.
    """

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
    market: str = ""
    others_micros: int = 0


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
