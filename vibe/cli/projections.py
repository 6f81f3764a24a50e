"""`vibe projections`: the read models; list them, rebuild them from history, verify them against it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from handlers.live.event_codec import codec
from projections.engine.bulk_load import OnSkipped
from projections.engine.errors import RebuildError
from projections.engine.event_decoder import Unreadable
from projections.engine.point_in_time import build_as_of
from projections.engine.projection import Projection
from projections.engine.rebuild import interrupted, rebuild
from projections.engine.status_report import status_report
from projections.engine.verify import verify
from projections.models import PROJECTIONS
from streams import dead_letters
from streams.connection import Connection
from streams.envelope import Recorded
from streams.roles import PROJECTOR
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.cli.command import Json, run_command
from vibe.cli.connections import Connections, open_connections
from vibe.cli.errors import UsageError
from vibe.cli.output import print_json
from vibe.cli.projections_rendering import check_facts, rebuild_progress, show_checks, show_list
from vibe.cli.time_arguments import time_argument

app = App(name="projections", help="The read models: list them, rebuild them from history, verify them against it.")


@app.command(name="list")
def projections_list(*, json: Json = False) -> None:
    """Every read model: version, position, lag, events per second, rows, size, last event, state.

    Example: vibe projections list --json
    """
    run_command(run_list, json)


@app.command(name="rebuild")
def projections_rebuild(
    *names: str,
    all: bool = False,
    until: str | None = None,
    schema: str | None = None,
    resume: bool = False,
    dead_letter: Annotated[bool, Parameter(negative=())] = False,
    archive: bool = False,
    shorten: bool = False,
    json: Json = False,
) -> None:
    """Rebuild read models from the whole history, beside the live ones, and swap them in without downtime.

    Example: vibe projections rebuild ledger_entry position

    The live ones are untouched until the swap, so Ctrl-C does no harm; --resume continues. With --schema nothing is
    swapped: the read models are built there, as of --until or now. Example: vibe projections rebuild --all --schema
    november --until 2026-11-01T00:00:00Z

    Events that an age limit has removed from a stream are read from the archive.

    Parameters
    ----------
    names
        read models, see: vibe projections list
    all
        every one; streams that several of them read are read once
    until
        the past: a time (UTC unless it has an offset), or a sequence where all read the same stream; with --schema
    schema
        build in this schema of Postgres instead
    resume
        continue an interrupted rebuild
    dead_letter
        dead-letter events that cannot be folded, as running projections do, instead of stopping at the first; slower
    archive
        read archived days from the archive, even those that the streams still hold
    shorten
        where neither stream nor archive has the beginning, build from what there is
    """
    chosen = chosen_projections(names, all)
    if until is not None and schema is None:
        raise UsageError("--until builds the past, which replaces nothing; give a schema for it: --schema NAME")
    end = _end(until)
    reading: dict[str, Any] = {"prefer_archive": archive, "shorten": shorten}
    if schema is not None:
        run_command(run_build_past, chosen, schema, end, resume, dead_letter, reading, json)
    wanted = "--all" if all else " ".join(names)
    run_command(run_rebuild, chosen, wanted, resume, dead_letter, reading, json)


@app.command(name="verify")
def projections_verify(*names: str, all: bool = False, archive: bool = False, json: Json = False) -> None:
    """Replay history beside the live read models and compare every row, while everything runs.

    Example: vibe projections verify --all

    Exit code 1 when something differs; the first row and column that differ are named.

    Parameters
    ----------
    names
        read models, see: vibe projections list
    archive
        read archived days from the archive, even those that the streams still hold
    """
    run_command(run_verify, chosen_projections(names, all), archive, json)


def chosen_projections(names: Sequence[str], everything: bool) -> list[Projection]:
    """The projections of the arguments. Raises UsageError."""
    known = {projection.name: projection for projection in PROJECTIONS}
    if everything == bool(names):
        raise UsageError(f"name the projections, or give --all; there are {', '.join(known)}")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"there is no projection {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] if names else list(PROJECTIONS)


def _end(until: str | None) -> int | datetime | None:
    if until is None:
        return None
    sequence, nanoseconds = time_argument(until, "--until")
    if nanoseconds is None:
        return sequence
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)


async def run_list(settings: Settings, json: bool) -> int:
    async with open_connections(settings, json=json, role=PROJECTOR) as at:
        found = await status_report(at.connection, at.database, PROJECTIONS)
    if json:
        print_json([each._asdict() for each in found])
    else:
        show_list(found)
    return 0


async def run_rebuild(
    settings: Settings,
    chosen: list[Projection],
    wanted: str,
    resume: bool,
    dead_letter: bool,
    reading: dict[str, Any],
    json: bool,
) -> int:
    """`wanted` is what the operator named, for the hint how to continue after an interruption."""
    async with open_connections(settings, json=json, role=PROJECTOR) as at:
        with rebuild_progress(json) as progress:
            try:
                done = await rebuild(
                    at.addresses.nats_url,
                    at.addresses.postgres_dsn,
                    codec(),
                    await _to_resume(at, chosen) if resume else chosen,
                    resume=resume,
                    on_skipped=_dead_lettering(at.connection) if dead_letter else None,
                    progress=progress,
                    archive=settings.archive,
                    **reading,
                )
            except asyncio.CancelledError:
                Console(stderr=True).print(
                    "interrupted; the live read models are untouched. To continue from here: "
                    f"vibe projections rebuild {wanted} --resume",
                    markup=False,
                    soft_wrap=True,
                )
                raise
    if json:
        print_json([each._asdict() for each in done])
        return 0
    for each in done:
        refused = f", {each.refused:,} events dead-lettered (vibe dead list)" if each.refused else ""
        Console().print(
            f"{each.projection}: version {each.version} swapped in after {each.seconds:,.1f} s, "
            f"{each.events:,} events read{refused}",
            highlight=False,
        )
    return 0


async def _to_resume(at: Connections, chosen: Sequence[Projection]) -> list[Projection]:
    found = await interrupted(at.addresses.postgres_dsn, chosen)
    if not found:
        raise RebuildError("none of these has an interrupted rebuild to continue; rebuild without --resume")
    return found


async def run_build_past(
    settings: Settings,
    chosen: list[Projection],
    schema: str,
    end: int | datetime | None,
    resume: bool,
    dead_letter: bool,
    reading: dict[str, Any],
    json: bool,
) -> int:
    """Build the past in a schema of its own, up to `end` (a sequence, a time, or now)."""
    async with open_connections(settings, json=json, role=PROJECTOR) as at:
        with rebuild_progress(json) as progress:
            ends = await build_as_of(
                at.addresses.nats_url,
                at.addresses.postgres_dsn,
                codec(),
                chosen,
                schema,
                end,
                resume=resume,
                on_skipped=_dead_lettering(at.connection) if dead_letter else None,
                progress=progress,
                archive=settings.archive,
                **reading,
            )
    if json:
        print_json({"schema": schema, "projections": [each.name for each in chosen], "ends": ends})
    else:
        reached = ", ".join(f"{stream}:{sequence:,}" for stream, sequence in ends.items())
        Console().print(
            f"built up to {reached}; for example: SELECT * FROM {schema}.{chosen[0].tables[0].name}; "
            f"when done: DROP SCHEMA {schema} CASCADE",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return 0


async def run_verify(settings: Settings, chosen: list[Projection], archive: bool, json: bool) -> int:
    async with open_connections(settings, json=json, role=PROJECTOR) as at:
        with rebuild_progress(json) as progress:
            checks = await verify(
                at.addresses.nats_url,
                at.addresses.postgres_dsn,
                codec(),
                chosen,
                progress=progress,
                archive=settings.archive,
                prefer_archive=archive,
            )
    if json:
        print_json([check_facts(check) for check in checks])
    else:
        show_checks(checks)
    return 0 if all(check.equal for check in checks) else 1


def _dead_lettering(connection: Connection) -> OnSkipped:
    """Dead-letters the events that a rebuild skips, as running projections do."""

    async def dead_letter(projection: Projection | None, event: Recorded | Unreadable, why: str) -> None:
        await dead_letters.dead_letter(
            connection,
            stage=f"projection.{projection.name}" if projection is not None else "projections",
            stream=event.stream,
            sequence=event.sequence,
            subject=event.subject,
            payload=event.payload,
            error=why,
            now=Clock()(),
            index=event.index if isinstance(event, Recorded) else None,
        )

    return dead_letter
