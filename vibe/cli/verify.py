"""`vibe verify` and `vibe verify-decisions`: what is derived is computed again from the log alone, and compared."""

from typing import Any

import msgspec
from rich.console import Console

from handlers.services import verify_decisions as service
from handlers.services.verify_decisions import Difference, Verification
from vibe.app.demo import log_time
from vibe.app.settings import Settings
from vibe.cli.command import Json, run_command
from vibe.cli.connections import open_connections
from vibe.cli.output import bar, print_json
from vibe.cli.time_arguments import ago
from vibe.verify.findings import Findings
from vibe.verify.log import verify_log

_SHOWN = 20


def verify(*, since: str | None = None, json: Json = False) -> None:
    """Compute every derived event again from what it was derived from, and name each that nothing can have produced.

    Example: vibe verify --since 24h

    Exit code 1 when an event comes out different, or nothing leads to it.

    Parameters
    ----------
    since
        a span such as 24h or 7d, or a time; without it, everything
    """
    run_command(run_verify_log, since, json)


async def run_verify_log(settings: Settings, since: str | None, json: bool) -> int:
    begin = ago(since, log_time(settings)) if since else None
    async with open_connections(settings, json=json) as at:
        with bar("computing again", json) as progress:
            findings = await verify_log(at.connection, since=begin, progress=progress)
    if json:
        print_json(
            {
                "events": findings.events,
                "verified": findings.verified,
                "different": [one._asdict() for one in findings.different],
                "unproducible": [one._asdict() for one in findings.unproducible],
            }
        )
    else:
        _show_findings(findings)
    return 0 if findings.ok else 1


def _show_findings(findings: Findings) -> None:
    console = Console()
    console.print(
        f"{findings.events:,} events, {findings.verified:,} come out equal, {len(findings.different):,} different, "
        f"{len(findings.unproducible):,} that nothing leads to"
        + (
            f"; {findings.not_verifiable:,} whose cause is gone or that other rules decided"
            if findings.not_verifiable
            else ""
        ),
        highlight=False,
    )
    for one in findings.different[:_SHOWN]:
        console.print(f"{one.type} ({one.at}) {one.field}", style="red", markup=False, highlight=False)
        console.print(f"  stored      {one.stored}", markup=False, highlight=False)
        console.print(f"  recomputed  {one.recomputed}", markup=False, highlight=False)
    for lost in findings.unproducible[:_SHOWN]:
        console.print(f"{lost.type} ({lost.at}) {lost.why}", style="red", markup=False, highlight=False)
    if len(findings.different) > _SHOWN or len(findings.unproducible) > _SHOWN:
        console.print("... and more; --json lists all", highlight=False)


def verify_decisions(*, since: str | None = None, json: Json = False) -> None:
    """Make every decision again from the log alone and compare: equal in every field, or the first difference.

    Example: vibe verify-decisions --since 24h

    Exit code 1 when one comes out different.

    Parameters
    ----------
    since
        a span such as 24h or 7d, or a time; without it, everything
    """
    run_command(run_verify, since, json)


async def run_verify(settings: Settings, since: str | None, json: bool) -> int:
    begin = ago(since, log_time(settings)) if since else None
    async with open_connections(settings, json=json) as at:
        with bar("deciding again", json) as progress:
            verdict = await service.verify_decisions(at.connection, since=begin, progress=progress)
    if json:
        print_json(_facts(verdict))
    else:
        _show(verdict)
    if not verdict.decisions:
        what = "no decision is that new; --since takes a time too" if since else "the log holds no decision yet"
        Console(stderr=True).print(f"nothing was verified: {what}", markup=False, soft_wrap=True)
    return 1 if verdict.different else 0


def _facts(verdict: Verification) -> dict[str, Any]:
    return {
        "decisions": verdict.decisions,
        "equal": verdict.equal,
        "different": [_difference_facts(one) for one in verdict.different],
        "no_longer_in_the_log": verdict.missing_inputs,
        "other_rules": verdict.other_rules,
    }


def _difference_facts(difference: Difference) -> dict[str, Any]:
    return {
        "attempt_id": difference.attempt_id,
        "at": difference.at,
        "field": difference.field,
        "stored": msgspec.to_builtins(difference.stored),
        "again": msgspec.to_builtins(difference.again),
    }


def _show(verdict: Verification) -> None:
    console = Console()
    console.print(
        f"{verdict.decisions:,} decisions, {verdict.equal:,} come out equal, {len(verdict.different):,} different"
        + (f"; {verdict.missing_inputs:,} whose request is no longer in the log" if verdict.missing_inputs else "")
        + (f"; {verdict.other_rules:,} by other rules than these" if verdict.other_rules else ""),
        highlight=False,
    )
    for one in verdict.different[:_SHOWN]:
        console.print(f"{one.attempt_id} ({one.at}) {one.field}", style="red", highlight=False)
        console.print(f"  stored  {one.stored}", markup=False, highlight=False)
        console.print(f"  again   {one.again}", markup=False, highlight=False)
    if len(verdict.different) > _SHOWN:
        console.print(f"... and {len(verdict.different) - _SHOWN:,} more; --json lists all", highlight=False)
