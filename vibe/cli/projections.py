"""`vibe projections`: the read models; look at them, build them anew from history, prove them equal to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gateways.embedded import servers
from handlers.live.event_codec import codec
from projections.engine.bulk_load import OnSkipped
from projections.engine.errors import RebuildError
from projections.engine.event_decoder import Unreadable
from projections.engine.parallel_load import ReportProgress
from projections.engine.point_in_time import build_as_of
from projections.engine.projection import Projection
from projections.engine.rebuild import interrupted, rebuild
from projections.engine.status_report import status_report
from projections.engine.verify import Check, verify
from projections.models import PROJECTIONS
from streams import dead_letter_events, topology
from streams.connection import Connection, connect
from streams.envelope import Recorded
from vibe.app.clock import Clock
from vibe.app.settings import Settings, nats_conf
from vibe.cli.output import print_json, progress_reporter, show, table
from vibe.cli.time_arguments import BadTimeError, time_argument

_LINE_SECONDS = 2.0


class _Ends(NamedTuple):
    nats_url: str
    dsn: str
    connection: Connection


@asynccontextmanager
async def _ends(settings: Settings, json: bool) -> AsyncIterator[_Ends]:
    async with servers(
        settings.data_dir,
        nats_conf(),
        nats_url=settings.nats_url,
        postgres_dsn=settings.dsn,
        progress=progress_reporter(json),
    ) as at:
        connection = await connect(at.nats_url, "vibe projections")
        try:
            await topology.verify(connection)
            yield _Ends(at.nats_url, at.postgres_dsn, connection)
        finally:
            await connection.close()


def _chosen(names: Sequence[str], everything: bool) -> list[Projection]:
    known = {projection.name: projection for projection in PROJECTIONS}
    if everything == bool(names):
        raise RebuildError(f"name the projections, or say --all; there are {', '.join(known)}")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RebuildError(f"there is no projection {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] if names else list(PROJECTIONS)


async def run_list(settings: Settings, json: bool) -> int:
    async with _ends(settings, json) as at:
        session = await asyncpg.connect(at.dsn, timeout=10)
        try:
            found = await status_report(at.connection, session, PROJECTIONS)
        finally:
            session.terminate()
    if json:
        print_json([each._asdict() for each in found])
        return 0
    made = table("projection, position", "v", "lag", "per s", "rows", "size", "last event", "state", text=("state",))
    for each in found:
        made.add_row(
            "\n".join([each.name, *(f"  {stream}:{position:,}" for stream, position in each.positions.items())]),
            str(each.version),
            f"{sum(each.lag.values()):,}",
            f"{each.rate:,.0f}",
            f"{'about ' if each.estimated else ''}{each.rows:,}",
            _bytes(each.bytes),
            f"{each.last_event:%Y-%m-%d\n%H:%M:%S}" if each.last_event else "",
            each.state,
        )
    show(made)
    return 0


async def run_rebuild(
    settings: Settings,
    names: Sequence[str],
    everything: bool,
    until: str | None,
    schema: str | None,
    resume: bool,
    dead_letter: bool,
    archive: bool,
    shorten: bool,
    json: bool,
) -> int:
    chosen = _chosen(names, everything)
    if until is not None and schema is None:
        raise RebuildError("--until builds the past, which replaces nothing; say where: --schema NAME")
    async with _ends(settings, json) as at:
        on_skipped = _dead_letter_skipped(at.connection) if dead_letter else None
        where: dict[str, Any] = {"archive": settings.archive, "prefer_archive": archive, "shorten": shorten}
        with _watched(json) as watch:
            if schema is not None:
                return await _past(at, chosen, schema, until, resume, on_skipped, watch, where, json)
            if resume:
                chosen = await _to_resume(at, chosen)
            try:
                done = await rebuild(
                    at.nats_url,
                    at.dsn,
                    codec(),
                    chosen,
                    resume=resume,
                    on_skipped=on_skipped,
                    progress=watch,
                    **where,
                )
            except asyncio.CancelledError:
                wanted = "--all" if everything else " ".join(names)
                Console(stderr=True).print(
                    "interrupted; the live read models are untouched. To go on from here: "
                    f"vibe projections rebuild {wanted} --resume",
                    markup=False,
                    soft_wrap=True,
                )
                raise
    if json:
        print_json([each._asdict() for each in done])
        return 0
    for each in done:
        over = f", {each.refused:,} events passed over (vibe dead list)" if each.refused else ""
        Console().print(
            f"{each.projection}: version {each.version} swapped in after {each.seconds:,.1f} s, "
            f"{each.events:,} events read{over}",
            highlight=False,
        )
    return 0


async def _to_resume(at: _Ends, chosen: Sequence[Projection]) -> list[Projection]:
    found = await interrupted(at.dsn, chosen)
    if not found:
        raise RebuildError("there is no interrupted rebuild of these to go on with; rebuild without --resume")
    return found


async def _past(
    at: _Ends,
    chosen: Sequence[Projection],
    schema: str,
    until: str | None,
    resume: bool,
    on_skipped: OnSkipped | None,
    watch: ReportProgress,
    where: dict[str, Any],
    json: bool,
) -> int:
    end: int | datetime | None = None
    if until is not None:
        try:
            sequence, nanoseconds = time_argument(until)
        except BadTimeError as error:
            raise BadTimeError(str(error).replace("--at", "--until")) from None
        end = sequence
        if nanoseconds is not None:
            end = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)
    ends = await build_as_of(
        at.nats_url, at.dsn, codec(), chosen, schema, end, resume=resume, on_skipped=on_skipped, progress=watch, **where
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


async def run_verify(settings: Settings, names: Sequence[str], everything: bool, archive: bool, json: bool) -> int:
    chosen = _chosen(names, everything)
    async with _ends(settings, json) as at:
        with _watched(json) as watch:
            checks = await verify(
                at.nats_url, at.dsn, codec(), chosen, progress=watch, archive=settings.archive, prefer_archive=archive
            )
    if json:
        print_json([{"projection": check.projection, "equal": check.equal, **_facts(check)} for check in checks])
    else:
        _show(checks)
    return 0 if all(check.equal for check in checks) else 1


def _facts(check: Check) -> dict[str, Any]:
    return {
        "positions": check.positions,
        "passed_over": check.passed_over,
        "unverifiable": check.unverifiable,
        "tables": [
            {
                **table._asdict(),
                "difference": table.difference._asdict() if table.difference else None,
            }
            for table in check.tables
        ],
    }


def _show(checks: Sequence[Check]) -> None:
    made = table("projection", "table", "rows", "digest", "", text=("",))
    for check in checks:
        if check.unverifiable:
            made.add_row(check.projection, "", "", "", f"cannot be verified: {check.unverifiable}", style="yellow")
        for each in check.tables:
            verdict = "equal" if each.difference is None else "DIFFERENT"
            style = "green" if each.difference is None else "red"
            made.add_row(check.projection, each.table, f"{each.rows:,}", each.digest[:16], verdict, style=style)
    show(made)
    console = Console()
    for check in checks:
        if check.passed_over:
            console.print(f"{check.projection}: {check.passed_over:,} events cannot be folded and were passed over")
        for each in check.tables:
            if each.difference is None:
                continue
            first = each.difference
            key = ", ".join(f"{name} {value!r}" for name, value in first.key.items())
            if first.column is not None:
                said = f"{first.column} is {first.live!r} and history makes it {first.replayed!r}"
            elif first.live is None:
                said = f"history makes this row, and it is not there: {first.replayed}"
            else:
                said = f"this row is there, and history does not make it: {first.live}"
            console.print(
                f"{each.table}: {each.rows:,} rows, replayed {each.replayed_rows:,}; first difference at {key}: {said}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        if not check.equal:
            console.print(f"mend it: vibe projections rebuild {check.projection}", markup=False)


def _dead_letter_skipped(connection: Connection) -> OnSkipped:
    """With --dead-letter, a rebuild dead-letters the events that it skips, as the engine does."""

    async def dead_letter(projection: Projection | None, event: Recorded | Unreadable, why: str) -> None:
        await dead_letter_events.dead_letter(
            connection,
            stage=f"projection.{projection.name}" if projection is not None else "projections",
            stream=event.stream,
            sequence=event.sequence,
            subject=event.subject,
            payload=event.payload,
            error=why,
            now=Clock()(),
        )

    return dead_letter


@contextmanager
def _watched(json: bool) -> Iterator[ReportProgress]:
    """A bar with events/s and the time left on a terminal; a line every two seconds elsewhere; both on stderr."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=json) as progress:
            task = progress.add_task("starting", total=None, rate="")
            pace = _Pace()

            def draw(what: str, done: int, total: int) -> None:
                rate = f"{pace.rate(what, done):,.0f}/s" if total and what != "indexes" else ""
                progress.update(task, description=what, completed=done, total=total or None, rate=rate)

            yield draw
        return
    pace, said, at = _Pace(), "", 0.0

    def line(what: str, done: int, total: int) -> None:
        nonlocal said, at
        rate, now = pace.rate(what, done), time.monotonic()
        if json or (what == said and now - at < _LINE_SECONDS):
            return
        said, at = what, now
        left = f", {(total - done) / rate:,.0f} s left" if rate and total else ""
        counted = f": {done:,} of {total:,}" if total else ""
        paced = f", {rate:,.0f} events/s{left}" if rate and total and what != "indexes" else ""
        console.print(f"{what}{counted}{paced}", highlight=False, markup=False, soft_wrap=True)

    yield line


class _Pace:
    """Events per second of what is being done, from when it began."""

    def __init__(self) -> None:
        self._what = ""
        self._begun = (0.0, 0)

    def rate(self, what: str, done: int) -> float:
        now = time.monotonic()
        if what != self._what or done < self._begun[1]:
            self._what, self._begun = what, (now, done)
        passed = now - self._begun[0]
        return (done - self._begun[1]) / passed if passed > 0.2 else 0.0


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
