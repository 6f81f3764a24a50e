"""`vibe verify-decisions`: every decision made again from the log alone, and compared with what is stored."""

from typing import Any

import msgspec
from rich.console import Console

from handlers.services.verify_decisions import Difference, Verdict, verify
from streams import topology
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.cli.connections import open_connections
from vibe.cli.output import bar, print_json
from vibe.cli.time_arguments import ago

_SHOWN = 20


async def run_verify(settings: Settings, since: str | None, json: bool) -> int:
    """Exit code 1 when one decision comes out different."""
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        begin = ago(since, Clock()()) if since else None
        with bar("deciding again", json) as progress:
            verdict = await verify(at.connection, since=begin, progress=progress)
    if json:
        print_json(_facts(verdict))
    else:
        _show(verdict)
    if not verdict.decisions:
        what = "no decision is that new; --since takes a time too" if since else "the log holds no decision"
        Console(stderr=True).print(f"vibe verify-decisions: nothing was verified: {what}", markup=False, soft_wrap=True)
    return 1 if verdict.different else 0


def _facts(verdict: Verdict) -> dict[str, Any]:
    return {
        "decisions": verdict.decisions,
        "equal": verdict.equal,
        "different": [difference_facts(one) for one in verdict.different],
        "no_longer_in_the_log": verdict.gone,
        "other_rules": verdict.other_rules,
    }


def difference_facts(difference: Difference) -> dict[str, Any]:
    """A difference for JSON: values as they stand in events."""
    return {
        "attempt_id": difference.attempt_id,
        "at": difference.at,
        "field": difference.field,
        "stored": msgspec.to_builtins(difference.stored),
        "again": msgspec.to_builtins(difference.again),
    }


def _show(verdict: Verdict) -> None:
    console = Console()
    console.print(
        f"{verdict.decisions:,} decisions, {verdict.equal:,} come out equal, {len(verdict.different):,} different"
        + (f"; {verdict.gone:,} whose request is no longer kept" if verdict.gone else "")
        + (f"; {verdict.other_rules:,} by other rules than these" if verdict.other_rules else ""),
        highlight=False,
    )
    for one in verdict.different[:_SHOWN]:
        console.print(f"{one.attempt_id} ({one.at}) {one.field}", style="red", highlight=False)
        console.print(f"  stored  {one.stored}", markup=False, highlight=False)
        console.print(f"  again   {one.again}", markup=False, highlight=False)
    if len(verdict.different) > _SHOWN:
        console.print(f"... and {len(verdict.different) - _SHOWN:,} more; --json lists all", highlight=False)
