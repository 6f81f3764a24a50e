"""`vibe trace`: everything that led to an id, and everything it led to."""

from __future__ import annotations

import sys

from rich.console import Console

from handlers.services.trace import Tracer
from handlers.services.trace_verification import verify_trace
from projections.queries.trace_index import PostgresTraceIndex
from streams import topology
from vibe.app import pipeline_lag
from vibe.app.settings import Settings
from vibe.cli.connections import open_connections
from vibe.cli.trace_rendering import as_json, show_trace


async def run_trace(settings: Settings, wanted: str, json: bool, limit: int, verify: bool = False) -> int:
    if not wanted.strip():
        Console(stderr=True).print("vibe trace: an empty id; give one of a decision, order, fill, ...", soft_wrap=True)
        return 2
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        found = await Tracer(at.connection, PostgresTraceIndex(at.database)).trace(wanted)
        if found is None:
            behind = await pipeline_lag.projection_lag(at.connection, at.database)
            note = f"; the read models are {behind:,} events behind the log" if behind else ""
            Console(stderr=True).print(
                f"vibe trace: nothing has the id {wanted!r} (looked among decisions, requests, orders, fills, ledger "
                f"entries, quotes, groups, signals, raw events, venue trade ids and hashes, dead letters){note}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
            return 1
        verdicts = await verify_trace(at.connection, found) if verify else {}
        if json:
            sys.stdout.write(as_json(wanted, found, verdicts).decode() + "\n")
        else:
            show_trace(Console(), wanted, found, limit, verdicts)
    return 1 if any(verdict.difference is not None for verdict in verdicts.values()) else 0
