"""`vibe archive`: closed days of the log as Parquet files."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from cyclopts import App
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams.archive.export import ExportResult, export_stream
from streams.archive.query import session
from streams.archive.status import coverage, write_metrics
from streams.archive.store import Archive
from streams.errors import LogError
from streams.roles import ARCHIVER
from streams.topology import HISTORY, Stream
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.cli.archive_rendering import lost_text, show_rows, show_run, show_status, write_rows
from vibe.cli.command import Json, run_command
from vibe.cli.connections import open_servers
from vibe.cli.errors import UsageError, complain, errors_about
from vibe.cli.output import print_json
from vibe.cli.time_arguments import BadTimeError

app = App(name="archive", help="Closed days of the log as Parquet files.")


@app.command(name="run")
def archive_run(*, stream: str | None = None, until: str | None = None, json: Json = False) -> None:
    """Archive every closed UTC day that is not archived yet; each file is read back before it counts.

    Example: vibe archive run --stream RAW --until 2026-11-19

    Interrupt it at any time and run it again; a second run does nothing. Exit code 1 when a stream could not be
    archived, or when an age limit removed events before.

    Parameters
    ----------
    stream
        only this one
    until
        the last day to archive
    """
    run_command(run_archive, chosen_streams(stream), utc_day(until), json)


@app.command(name="status")
def archive_status(*, metrics: Path | None = None, json: Json = False) -> None:
    """How far each stream is archived, and what an age limit is about to remove unarchived; exit code 1 when it is.

    Example: vibe archive status --json

    Parameters
    ----------
    metrics
        also write Prometheus gauges to this file, for the textfile collector of a node exporter
    """
    run_command(run_status, metrics, json)


@app.command(name="query")
def archive_query(sql: str, /, *, json: Json = False) -> None:
    """One SELECT of DuckDB over views raw, signals, groups, requests, executions, config, dead: archive and live log.

    Example: vibe archive query "SELECT type, id FROM executions WHERE data->>'$.subscriber_id' = 'alice'"

    Columns: sequence, subject, time, type, id, source, correlation, causation, data (the event's JSON text), payload.
    """
    run_command(run_query, sql, json)


async def run_archive(settings: Settings, streams: tuple[Stream, ...], until: str | None, json: bool) -> int:
    done: list[ExportResult] = []
    failed: dict[str, str] = {}
    async with open_servers(settings, json=json, role=ARCHIVER) as at:
        archive = Archive(settings.archive)
        for stream in streams:
            with _phases(json) as progress:
                try:
                    done.append(
                        await export_stream(
                            archive, at.nats_url, stream, now_ns=Clock()(), until=until, progress=progress
                        )
                    )
                except LogError as error:  # the other streams have age limits too
                    failed[stream.name] = str(error)
    if json:
        print_json({"archive": archive.url, "streams": [one._asdict() for one in done], "failed": failed})
    else:
        show_run(archive, done, failed)
    return 1 if failed or any(one.lost for one in done) else 0


async def run_status(settings: Settings, metrics: Path | None, json: bool) -> int:
    async with open_servers(settings, json=json, role=ARCHIVER) as at:
        archive = Archive(settings.archive)
        found = [await coverage(archive, at.nats_url, stream.name, now_ns=Clock()()) for stream in HISTORY]
    if metrics is not None:
        with errors_about(metrics):
            write_metrics(found, metrics)
    if json:
        streams = [{**one._asdict(), "at_risk": one.at_risk} for one in found]
        print_json({"archive": archive.url, "streams": streams, "at_risk": any(one.at_risk for one in found)})
    else:
        show_status(archive, found)
    return 1 if any(one.at_risk for one in found) else 0


async def run_query(settings: Settings, sql: str, json: bool) -> int:
    async with open_servers(settings, json=json, role=ARCHIVER) as at, AsyncExitStack() as stack:
        archive = Archive(settings.archive)
        with _phases(json) as progress:
            names = tuple(stream.name for stream in HISTORY)
            opened = await stack.enter_async_context(session(archive, at.nats_url, names, sql, progress=progress))
        for stream, first, last in opened.lost:
            complain(f"{lost_text(stream, first, last)}; no view holds them")
        columns, batches = opened.rows(sql)
        if json:
            write_rows(sys.stdout, columns, batches)
        else:
            show_rows(columns, batches)
    return 0


def chosen_streams(name: str | None) -> tuple[Stream, ...]:
    """The stream of `--stream`, or all that have a history. Raises UsageError."""
    if name is None:
        return HISTORY
    chosen = tuple(stream for stream in HISTORY if stream.name == name.upper())
    if not chosen:
        known = ", ".join(stream.name for stream in HISTORY)
        raise UsageError(f"--stream {name!r} is no stream with a history; use one of {known}")
    return chosen


def utc_day(text: str | None) -> str | None:
    """The day of `--until` in ISO form. Raises BadTimeError."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise BadTimeError(f"--until {text!r} is not a UTC day such as 2026-11-20") from error


@contextmanager
def _phases(json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on a terminal's stderr for every phase, updated with (phase, done, total); silent elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=json or not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def progress(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=total)
            bars.update(tasks[phase], completed=done, total=total)

        yield progress
