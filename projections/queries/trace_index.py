"""The sequences at which the events of an id are stored, found through the read models, for `vibe trace`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from domain.ids import related
from projections.queries.fetch import Reader

_ATTEMPTS = """
SELECT attempt_id, 'decision' AS found_as FROM copy_attempt WHERE attempt_id = $1
UNION ALL SELECT attempt_id, 'request' FROM copy_attempt WHERE attempt_id = $2
UNION ALL SELECT attempt_id, 'order' FROM execution WHERE order_id = $1 OR cloid = $1
UNION ALL SELECT attempt_id, 'fill' FROM booking WHERE source_event_id = $1 AND attempt_id IS NOT NULL
UNION ALL SELECT attempt_id, 'ledger entry' FROM booking WHERE source_event_id = ANY($3) AND attempt_id IS NOT NULL
"""
_EXIT = """
SELECT a.attempt_id, 'owed exit' AS found_as
FROM owed_exit e JOIN copy_attempt a ON a.subscriber_id = e.subscriber_id AND a.exit_id = e.exit_id
    AND a.decided_at BETWEEN e.owed_since AND coalesce(e.ended_at, 'infinity')
WHERE e.exit_id = $1 ORDER BY a.sequence, a.index
"""
_GROUP = """
SELECT closed_sequence, 'signal group' AS found_as FROM signal_group WHERE group_id = $1
UNION ALL SELECT g.closed_sequence, 'quote' FROM quote q JOIN signal_group g USING (group_id) WHERE q.quote_id = $1
"""
_TRADES = """
SELECT signal_id, raw_sequence, signal_sequence,
    CASE $1 WHEN signal_id THEN 'signal' WHEN source_event_id THEN 'raw event'
            WHEN venue_trade_id THEN 'venue trade id' ELSE 'venue hash' END AS found_as
FROM trade_event
WHERE signal_id = $1 OR source_event_id = $1 OR venue_trade_id = $1 OR venue_hash = $1
ORDER BY signal_sequence LIMIT 200
"""
_GROUP_OF_ATTEMPT = """
SELECT g.closed_sequence FROM copy_attempt JOIN signal_group g USING (group_id) WHERE attempt_id = $1
"""


class PostgresTraceIndex:
    """The trace index of `handlers.services.trace` over the read models. Empty while a table is not built yet."""

    def __init__(self, database: Reader) -> None:
        self._database = database

    async def find_attempts(self, wanted: str) -> tuple[str, list[str]] | None:
        if wanted.startswith("exi_"):
            rows = await self._find(_EXIT, wanted)
        else:
            rows = await self._find(_ATTEMPTS, wanted, _decision_on(wanted), _booked_by(wanted))
        return (rows[0]["found_as"], [row["attempt_id"] for row in rows]) if rows else None

    async def find_group(self, wanted: str) -> tuple[str, int] | None:
        rows = await self._find(_GROUP, wanted)
        return (rows[0]["found_as"], rows[0]["closed_sequence"]) if rows else None

    async def find_trades(self, wanted: str) -> tuple[str, list[tuple[str, int, int]]] | None:
        rows = await self._find(_TRADES, wanted)
        trades = [(row["signal_id"], row["raw_sequence"], row["signal_sequence"]) for row in rows]
        return (rows[0]["found_as"], trades) if rows else None

    async def find_cash_entry(self, wanted: str) -> int | None:
        query = "SELECT sequence FROM booking WHERE source_event_id = ANY($1) AND attempt_id IS NULL"
        rows = await self._find(query, [wanted, *_booked_by(wanted)])
        return rows[0]["sequence"] if rows else None

    async def groups_of_signals(self, signal_ids: list[str]) -> list[int]:
        rows = await self._database.fetch(
            "SELECT DISTINCT closed_sequence FROM signal_group WHERE signal_ids && $1::text[] ORDER BY 1", signal_ids
        )
        return [row["closed_sequence"] for row in rows]

    async def group_of_attempt(self, attempt_id: str) -> int | None:
        rows = await self._database.fetch(_GROUP_OF_ATTEMPT, attempt_id)
        return rows[0]["closed_sequence"] if rows else None

    async def attempts_of_group(self, group_id: str, limit: int) -> list[str]:
        rows = await self._database.fetch(
            "SELECT attempt_id FROM copy_attempt WHERE group_id = $1 ORDER BY sequence LIMIT $2", group_id, limit
        )
        return [row["attempt_id"] for row in rows]

    async def quote_of_group(self, group_id: str) -> tuple[int, int] | None:
        rows = await self._database.fetch(
            "SELECT wanted_sequence, outcome_sequence FROM quote WHERE group_id = $1", group_id
        )
        return (rows[0]["wanted_sequence"], rows[0]["outcome_sequence"]) if rows else None

    async def fan_out_of_group(self, group_id: str) -> int | None:
        rows = await self._database.fetch("SELECT matched_sequence FROM group_fan_out WHERE group_id = $1", group_id)
        return rows[0]["matched_sequence"] if rows else None

    async def decision(self, attempt_id: str) -> int:
        rows = await self._database.fetch("SELECT sequence FROM copy_attempt WHERE attempt_id = $1", attempt_id)
        sequence: int = rows[0]["sequence"]
        return sequence

    async def orders(self, attempt_id: str) -> list[tuple[int, int | None]]:
        rows = await self._database.fetch(
            "SELECT submitted_sequence, completed_sequence FROM execution WHERE attempt_id = $1", attempt_id
        )
        return [(row["submitted_sequence"], row["completed_sequence"]) for row in rows]

    async def ledger(self, attempt_id: str) -> list[dict[str, Any]]:
        rows = await self._database.fetch(
            "SELECT * FROM ledger_entry WHERE attempt_id = $1 ORDER BY sequence, index", attempt_id
        )
        return [dict(row) for row in rows]

    async def _find(self, query: str, *wanted: object) -> Sequence[Any]:
        try:
            return await self._database.fetch(query, *wanted)
        except asyncpg.UndefinedTableError:
            return ()


_BOOKED = ("fil", "dep", "set", "cor")
"""The kinds of the ids of events that ledger entries book."""


def _decision_on(wanted: str) -> str:
    """The id of the decision on a request: att_abc for req_abc."""
    return related("att", wanted) if wanted.startswith("req_") else ""


def _booked_by(entry_id: str) -> list[str]:
    """The ids that the event of a ledger entry can have: fil_abc, dep_abc, set_abc or cor_abc for led_abc."""
    kind, _, rest = entry_id.partition("_")
    return [f"{of}_{rest}" for of in _BOOKED] if kind == "led" else []
