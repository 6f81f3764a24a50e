"""Every read model that the engine builds."""

from projections.copy_attempt import CopyAttempts
from projections.event_count import EventCounts
from projections.executable_fill import ExecutableFills
from projections.execution import Executions
from projections.ledger_entry import LedgerEntries
from projections.position import Positions
from projections.projection import Projection
from projections.signal_group import SignalGroups
from projections.trade_event import TradeEvents

PROJECTIONS: tuple[Projection, ...] = (
    TradeEvents(),
    SignalGroups(),
    CopyAttempts(),
    ExecutableFills(),
    Executions(),
    Positions(),
    LedgerEntries(),
    EventCounts(),
)
