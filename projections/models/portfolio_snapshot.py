"""portfolio_snapshot: the equity of each subscriber's portfolio by UTC minute, from the events that state it.

Decisions and the evaluations of breakers state an equity; the newest of a minute is kept. EXEC_USER and EXEC_GLOBAL are
subscribers like any other. Minutes without such an event, and SHADOW_USER, are valued by queries/portfolios.py and
queries/shadows.py from ledger entries and marks.
"""

from collections.abc import Iterator

from domain.events import BreakerReset, BreakerTripped, CopyDecided, EquityMarked
from projections.engine.projection import Projection
from projections.engine.table import Change, Table, Upsert, timestamp
from streams.envelope import Recorded
from streams.topology import EXECUTIONS

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
)


class PortfolioSnapshots(Projection):
    name = "portfolio_snapshot"
    reads = (EXECUTIONS,)
    types = frozenset({"copy.decided", "equity.marked", "breaker.tripped", "breaker.reset"})
    tables = (PORTFOLIO_SNAPSHOT,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.data:
            case CopyDecided() as decided:
                yield _taken(event, decided, "DECISION", decided.decided_at)
            case EquityMarked() as marked:
                yield _taken(event, marked, "MARK", marked.marked_at)
            case BreakerTripped() as tripped:
                yield _taken(event, tripped, "BREAKER_TRIPPED", tripped.tripped_at)
            case BreakerReset() as reset:
                yield _taken(event, reset, "BREAKER_RESET", reset.reset_at)


def _taken(
    event: Recorded, data: CopyDecided | EquityMarked | BreakerTripped | BreakerReset, source: str, at: int
) -> Change:
    taken_at = timestamp(at)
    return Upsert(
        PORTFOLIO_SNAPSHOT,
        {
            "subscriber_id": data.subscriber_id,
            "minute": taken_at.replace(second=0, microsecond=0),
            "equity_micros": data.equity_micros,
            "source": source,
            "sequence": event.sequence,
            "taken_at": taken_at,
        },
    )
