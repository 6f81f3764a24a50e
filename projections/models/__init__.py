"""Every read model that the engine builds."""

from projections.engine.projection import Projection
from projections.models.activity_event import ActivityEvents
from projections.models.audit_log import AuditLog
from projections.models.copy_attempt import CopyAttempts
from projections.models.event_count import EventCounts
from projections.models.executable_fill import ExecutableFills
from projections.models.execution import Executions
from projections.models.guardrail import Guardrails
from projections.models.influencer import Influencers
from projections.models.influencer_metrics import InfluencerMetrics
from projections.models.influencer_position import InfluencerPositions
from projections.models.ledger_entry import LedgerEntries
from projections.models.market import Markets
from projections.models.market_price_snapshot import MarketPriceSnapshots
from projections.models.portfolio_snapshot import PortfolioSnapshots
from projections.models.position import Positions
from projections.models.shadow_entry import ShadowEntries
from projections.models.signal_group import SignalGroups
from projections.models.subscriber import Subscribers
from projections.models.subscription import Subscriptions
from projections.models.system_checkpoint import SystemCheckpoints
from projections.models.system_metrics import SystemMetrics
from projections.models.trade_event import TradeEvents

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
