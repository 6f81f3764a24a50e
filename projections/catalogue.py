"""Every read model that the engine builds."""

from projections.activity_event import ActivityEvents
from projections.audit_log import AuditLog
from projections.copy_attempt import CopyAttempts
from projections.event_count import EventCounts
from projections.executable_fill import ExecutableFills
from projections.execution import Executions
from projections.guardrail import Guardrails
from projections.influencer import Influencers
from projections.influencer_metrics import InfluencerMetrics
from projections.influencer_position import InfluencerPositions
from projections.ledger_entry import LedgerEntries
from projections.market import Markets
from projections.market_price_snapshot import MarketPriceSnapshots
from projections.portfolio_snapshot import PortfolioSnapshots
from projections.position import Positions
from projections.projection import Projection
from projections.shadow_entry import ShadowEntries
from projections.signal_group import SignalGroups
from projections.subscriber import Subscribers
from projections.subscription import Subscriptions
from projections.system_checkpoint import SystemCheckpoints
from projections.system_metrics import SystemMetrics
from projections.trade_event import TradeEvents

PROJECTIONS: tuple[Projection, ...] = (
    TradeEvents(),
    ActivityEvents(),
    ShadowEntries(),
    InfluencerPositions(),
    SignalGroups(),
    MarketPriceSnapshots(),
    Markets(),
    CopyAttempts(),
    ExecutableFills(),
    Executions(),
    Positions(),
    LedgerEntries(),
    PortfolioSnapshots(),
    InfluencerMetrics(),
    Influencers(),
    Subscribers(),
    Subscriptions(),
    Guardrails(),
    AuditLog(),
    SystemMetrics(),
    SystemCheckpoints(),
    EventCounts(),
)
