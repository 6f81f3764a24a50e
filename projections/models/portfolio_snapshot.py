"""portfolio_snapshot: the equity of each subscriber's portfolio by UTC minute, from the events that state it.

Decisions and the evaluations of breakers state an equity; the newest of a minute is kept. EXEC_USER and EXEC_GLOBAL are
subscribers like any other. Minutes without such an event, and SHADOW_USER, are valued by queries/portfolios.py and
queries/shadows.py from ledger entries and marks.
"""

from datetime import datetime
from typing import ClassVar

from domain.events import BreakerReset, BreakerTripped, CopyDecided, EquityMarked, Event
from projections.engine.mapping import SEQUENCE, From, Mapped, upsert
from projections.engine.projection import Projection
from projections.engine.table import Table, timestamp
from streams.topology import EXECUTIONS

MINUTE = 60_000_000_000

PORTFOLIO_SNAPSHOT = Table(
    "portfolio_snapshot",
    key=("subscriber_id", "minute"),
    columns={
        "subscriber_id": "text",
        "minute": "timestamptz",
        "equity_micros": "bigint",
        "source": "text",
        "sequence": "bigint",
        "taken_at": "timestamptz",
    },
    by_day="minute",
    fillfactor=70,
)


def _minute(nanoseconds: int) -> datetime:
    return timestamp(nanoseconds - nanoseconds % MINUTE)


def _taken(event: type[Event], source: str, at: str) -> Mapped:
    """The row of an event that states an equity at the time `at`."""
    return upsert(
        PORTFOLIO_SNAPSHOT, event, minute=From(at, _minute), source=source, sequence=SEQUENCE, taken_at=From(at)
    )


class PortfolioSnapshots(Projection):
    name = "portfolio_snapshot"
    version = 2
    reads = (EXECUTIONS,)
    types = frozenset({"copy.decided", "equity.marked", "breaker.tripped", "breaker.reset"})
    tables = (PORTFOLIO_SNAPSHOT,)
    maps: ClassVar = {
        "copy.decided": (_taken(CopyDecided, "DECISION", "decided_at"),),
        "equity.marked": (_taken(EquityMarked, "MARK", "marked_at"),),
        "breaker.tripped": (_taken(BreakerTripped, "BREAKER_TRIPPED", "tripped_at"),),
        "breaker.reset": (_taken(BreakerReset, "BREAKER_RESET", "reset_at"),),
    }
