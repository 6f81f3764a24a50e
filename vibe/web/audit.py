"""Audit events of the web process: sign-ins, refusals, and who stored which configuration or switch.

What changes copying is an event in CONFIG with its actor; these rows hold what the log does not: who came, from where,
and what was refused.
"""

from __future__ import annotations

from datetime import datetime

import structlog
from msgspec import Struct

from projections.queries.fetch import Reader, many
from vibe.web.identity import Pool
from vibe.web.store import SCHEMA

log = structlog.get_logger()


class AuditEvent(Struct, frozen=True, kw_only=True):
    """One event: `outcome` is done or refused, `address` where the request came from."""

    number: int
    recorded_at: datetime
    actor: str
    action: str
    outcome: str
    address: str
    detail: str


async def record(pool: Pool, *, actor: str, action: str, outcome: str, address: str, detail: str = "") -> None:
    """Store one audit event and write it to the server's log."""
    log.info("web.audit", actor=actor, action=action, outcome=outcome, address=address, detail=detail)
    await pool.execute(
        f"INSERT INTO {SCHEMA}.audit_event (actor, action, outcome, address, detail) VALUES ($1, $2, $3, $4, $5)",
        actor[:200],
        action,
        outcome,
        address,
        detail[:500],
    )


async def audit_events(db: Reader, *, before: int | None = None, limit: int = 50) -> list[AuditEvent]:
    """Audit events, the newest first, before a number."""
    return await many(
        db,
        AuditEvent,
        f"SELECT {', '.join(AuditEvent.__struct_fields__)} FROM {SCHEMA}.audit_event "
        "WHERE number < coalesce($1::bigint, 9223372036854775807) ORDER BY number DESC LIMIT $2",
        before,
        limit,
    )
