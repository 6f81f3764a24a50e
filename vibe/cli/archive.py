"""`vibe archive`: the cold tier of the log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateways.embedded import servers
from streams.archive.export import Archived, archive_stream
from streams.archive.query import session
from streams.archive.status import WARNING_DAYS, Coverage, coverage, write_metrics
from streams.archive.store import Archive
from streams.errors import LogError
from streams.topology import HISTORY, Stream
from vibe.app.clock import Clock
from vibe.app.settings import Settings, nats_conf
from vibe.cli.output import print_json, progress_reporter, show, table
from vibe.cli.time_arguments import BadTimeError

_SHOWN_ROWS = 1000


async def run_archive(settings: Settings, stream: str | None, until: str | None, json: bool) -> int:
    """Exit code 1 when a stream could not be archived, or when an age limit was faster."""
    chosen, day = _chosen(stream), _day(until)
    archive = Archive(settings.archive)
    done: list[Archived] = []
    failed: dict[str, str] = {}
    async with servers(
        settings.data_dir,
        nats_conf(),
        nats_url=settings.nats_url,
        postgres_dsn=settings.dsn,
        progress=progress_reporter(False),
    ) as at:
        for one in chosen:
            with _phases(json) as progress:
                try:
                    done.append(
                        await archive_stream(archive, at.nats_url, one, now_ns=Clock()(), until=day, progress=progress)
                    )
                except LogError as error:  # the other streams have age limits too
                    failed[one.name] = str(error)
    if json:
        print_json({"archive": archive.url, "streams": [one._asdict() for one in done], "failed": failed})
    else:
        _show_run(archive, done, failed)
    return 1 if failed or any(one.lost for one in done) else 0


async def run_status(settings: Settings, metrics: Path | None, json: bool) -> int:
    """Exit code 1 when something is at risk."""
    archive = Archive(settings.archive)
    async with servers(
        settings.data_dir,
        nats_conf(),
        nats_url=settings.nats_url,
        postgres_dsn=settings.dsn,
        progress=progress_reporter(False),
    ) as at:
        found = [await coverage(archive, at.nats_url, one.name, now_ns=Clock()()) for one in HISTORY]
    if metrics is not None:
        write_metrics(found, metrics)
    if json:
        streams = [{**one._asdict(), "at_risk": one.at_risk} for one in found]
        print_json({"archive": archive.url, "streams": streams, "at_risk": any(one.at_risk for one in found)})
    else:
        _show_status(archive, found)
    return 1 if any(one.at_risk for one in found) else 0


async def run_query(settings: Settings, sql: str, json: bool) -> int:
    archive = Archive(settings.archive)
    async with (
        servers(
            settings.data_dir,
            nats_conf(),
            nats_url=settings.nats_url,
            postgres_dsn=settings.dsn,
            progress=progress_reporter(False),
        ) as at,
        AsyncExitStack() as stack,
    ):
        with _phases(json) as progress:
            names = tuple(one.name for one in HISTORY)
            opened = await stack.enter_async_context(session(archive, at.nats_url, names, sql, progress=progress))
        for stream, first, last in opened.lost:
            _warn(f"{stream}: sequences {first}..{last} are in no view: an age limit took them unarchived")
        columns, batches = opened.rows(sql)
        if json:
            _write_rows(columns, batches)
        else:
            _show_rows(columns, batches)
    return 0


def _chosen(name: str | None) -> tuple[Stream, ...]:
    if name is None:
        return HISTORY
    chosen = tuple(one for one in HISTORY if one.name == name.upper())
    if not chosen:
        raise LogError(
            f"--stream {name!r} is no stream with a history; use one of {', '.join(s.name for s in HISTORY)}"
        )
    return chosen


def _day(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise BadTimeError(f"--until {text!r} is not a UTC day such as 2026-11-20") from error


@contextmanager
def _phases(json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on a terminal's stderr for every phase, told (what, done, total); silent elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=json or not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield progress


def _show_run(archive: Archive, done: list[Archived], failed: dict[str, str]) -> None:
    made = table("stream", "new files", "new events", "new bytes", "archived to", "seconds")
    for one in done:
        place = f"{one.day}, sequence {one.last:,}" if one.last else "nothing"
        made.add_row(one.stream, f"{one.files:,}", f"{one.events:,}", f"{one.bytes:,}", place, f"{one.seconds:.1f}")
    console = Console()
    show(made, console)
    console.print(f"archive: {archive.url}", style="dim", markup=False, highlight=False)
    for one in done:
        if one.lost:
            _warn(
                f"{one.stream}: sequences {one.lost[0]}..{one.lost[1]} fell to the age limit before they were archived"
            )
    for stream, why in failed.items():
        _warn(f"{stream}: {why}")


def _show_status(archive: Archive, found: list[Coverage]) -> None:
    made = table("stream", "archived to", "events cold", "bytes cold", "oldest in the log", "not archived", "at risk")
    for one in found:
        risk = f"{len(one.days_at_risk)} days" if one.days_at_risk else "lost" if one.at_risk else "-"
        made.add_row(
            one.stream,
            f"{one.archived_to_day}, sequence {one.archived_to:,}" if one.archived_to else "nothing",
            f"{one.events:,}",
            f"{one.bytes:,}",
            f"sequence {one.oldest:,}" if one.oldest else "-",
            f"{one.waiting:,}" + (f", since {one.waiting_since}" if one.waiting else ""),
            f"[red]{risk}[/red]" if one.at_risk else risk,
        )
    console = Console()
    show(made, console)
    console.print(f"archive: {archive.url}", style="dim", markup=False, highlight=False)
    for one in found:
        if one.days_at_risk:
            _warn(
                f"{one.stream}: {one.days_at_risk[0]} to {one.days_at_risk[-1]} reach the age limit of "
                f"{one.keeps_days} days within {WARNING_DAYS} days and are not archived; run: vibe archive run"
            )
        for first, last in one.lost:
            _warn(f"{one.stream}: sequences {first}..{last} fell to the age limit before they were archived")


_encode = msgspec.json.Encoder(decimal_format="number").encode


def _write_rows(columns: list[str], batches: Iterator[list[tuple[Any, ...]]]) -> None:
    out = sys.stdout
    out.write(f'{{"columns":{_encode(columns).decode()},"rows":[')
    before = ""
    for batch in batches:
        for row in batch:
            out.write(before + _encode(dict(zip(columns, map(_plain, row), strict=True))).decode())
            before = ","
    out.write("]}\n")


def _show_rows(columns: list[str], batches: Iterator[list[tuple[Any, ...]]]) -> None:
    headers = list(map(escape, columns))
    made, count = table(*headers, text=headers), 0
    for batch in batches:
        for row in batch[: max(0, _SHOWN_ROWS - count)]:
            made.add_row(*(escape(_text(value)) for value in row))
        count += len(batch)
    console = Console()
    show(made, console)
    more = f"; the first {_SHOWN_ROWS:,} are shown, --json gives all" if count > _SHOWN_ROWS else ""
    console.print(f"{count:,} rows{more}", style="dim", highlight=False)


def _plain(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value  # base64, then


def _text(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return ""
    return value if isinstance(value, str) else _encode(value).decode().strip('"')


def _warn(text: str) -> None:
    Console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)
