"""`vibe trace`: everything that led to an id, and everything it led to."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from handlers.services.trace import Tracer
from handlers.services.trace_verification import verify_trace
from projections.queries.trace_index import PostgresTraceIndex
from streams.topology import EXECUTIONS
from vibe.app import pipeline_lag
from vibe.app.settings import Settings
from vibe.cli.command import AtLeastOne, Json, run_command
from vibe.cli.connections import BEGIN, Connections, open_connections
from vibe.cli.errors import CommandError, UsageError
from vibe.cli.trace_rendering import as_json, show_findings, show_trace
from vibe.verify.executions import verify_commit


def trace(
    wanted: Annotated[str, Parameter(name="ID")], /, *, json: Json = False, limit: AtLeastOne = 5, verify: bool = False
) -> None:
    """Where something came from and what it led to: any id of ours, a venue's trade id or hash, or STREAM:SEQUENCE.

    Example: vibe trace att_nf3hxq5d2k6zt7yqkl2e

    Exit code 1 when nothing has the id.

    Parameters
    ----------
    limit
        decisions shown in full when the id belongs to many
    verify
        make each decision, or a deposit or settlement with what follows from it, again from the log alone, and show
        whether it comes out equal; exit code 1 when not
    """
    if not wanted.strip():
        raise UsageError("the id is empty; give the id of a decision, an order, a fill, ...")
    run_command(run_trace, wanted, json, limit, verify)


async def run_trace(settings: Settings, wanted: str, json: bool, limit: int, verify: bool = False) -> int:
    async with open_connections(settings, json=json) as at:
        found = await Tracer(at.connection, PostgresTraceIndex(at.database)).trace(wanted)
        if found is None:
            raise CommandError(await _not_found(at, wanted))
        verdicts = await verify_trace(at.connection, found) if verify else {}
        booked = found.shared[-1] if verify and found.shared and not found.attempts else None
        findings = None
        if booked is not None and booked.stream == EXECUTIONS.name:
            findings = await verify_commit(at.connection, booked)
    if json:
        sys.stdout.write(as_json(wanted, found, verdicts, findings).decode() + "\n")
    else:
        show_trace(Console(), wanted, found, limit, verdicts)
        if findings is not None:
            show_findings(Console(), findings)
    return (
        1
        if (findings is not None and not findings.ok)
        or any(verdict.difference is not None for verdict in verdicts.values())
        else 0
    )


async def _not_found(at: Connections, wanted: str) -> str:
    if not (await pipeline_lag.counts(at.database)).events:
        return f"nothing has the id {wanted!r}: the read models hold no event yet. {BEGIN}"
    behind = await pipeline_lag.projection_lag(at.connection, at.database)
    note = f"; the read models are {behind:,} events behind the log" if behind else ""
    return (
        f"nothing has the id {wanted!r} (searched decisions, requests, orders, fills, ledger entries, quotes, groups, "
        f"signals, raw events, venue trade ids and hashes, dead letters){note}"
    )
