"""How `vibe archive` shows its runs, its status and the rows of a query."""

from collections.abc import Iterator
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.text import Text

from streams.archive.export import ExportResult
from streams.archive.status import WARNING_DAYS, Coverage
from streams.archive.store import Archive
from vibe.cli.errors import complain
from vibe.cli.output import show, table

_SHOWN_ROWS = 1000


def show_run(archive: Archive, done: list[ExportResult], failed: dict[str, str]) -> None:
    made = table("stream", "new files", "new events", "new bytes", "archived to", "sequence", "seconds")
    for one in done:
        made.add_row(
            one.stream,
            f"{one.files:,}",
            f"{one.events:,}",
            f"{one.bytes:,}",
            one.day if one.last else "-",
            f"{one.last:,}" if one.last else "-",
            f"{one.seconds:.1f}",
        )
    show(made)
    _show_place(archive)
    for one in done:
        if one.lost:
            complain(lost_text(one.stream, *one.lost))
    for stream, error in failed.items():
        complain(f"{stream}: {error}")


def show_status(archive: Archive, found: list[Coverage]) -> None:
    made = table("stream", "archived to", "events", "bytes", "not archived", "since", "at risk")
    for one in found:
        risk = f"{len(one.days_at_risk)} days" if one.days_at_risk else "lost" if one.at_risk else "-"
        made.add_row(
            one.stream,
            one.archived_to_day if one.archived_to else "-",
            f"{one.events:,}",
            f"{one.bytes:,}",
            f"{one.waiting:,}",
            one.waiting_since if one.waiting else "-",
            Text(risk, style="red" if one.at_risk else ""),
        )
    show(made)
    _show_place(archive)
    for one in found:
        if one.days_at_risk:
            complain(
                f"{one.stream}: {one.days_at_risk[0]} to {one.days_at_risk[-1]} reach the age limit of "
                f"{one.keeps_days} days within {WARNING_DAYS} days and are not archived; run: vibe archive run"
            )
        for first, last in one.lost:
            complain(lost_text(one.stream, first, last))


def lost_text(stream: str, first: int, last: int) -> str:
    return f"{stream}: an age limit removed sequences {first}..{last} before they were archived"


def _show_place(archive: Archive) -> None:
    Console().print(f"archive: {archive.url}", style="dim", markup=False, highlight=False, soft_wrap=True)


_encode = msgspec.json.Encoder(decimal_format="number").encode


def write_rows(out: TextIO, columns: list[str], batches: Iterator[list[tuple[Any, ...]]]) -> None:
    """The rows of a query as one JSON object, written batch by batch."""
    out.write(f'{{"columns":{_encode(columns).decode()},"rows":[')
    before = ""
    for batch in batches:
        for row in batch:
            out.write(before + _encode(dict(zip(columns, map(_plain, row), strict=True))).decode())
            before = ","
    out.write("]}\n")


def show_rows(columns: list[str], batches: Iterator[list[tuple[Any, ...]]]) -> None:
    """The first rows of a query as a table, and how many there are."""
    made, count = table(*columns, text=columns), 0
    for batch in batches:
        for row in batch[: max(0, _SHOWN_ROWS - count)]:
            made.add_row(*map(_text, row))
        count += len(batch)
    show(made)
    more = f"; the first {_SHOWN_ROWS:,} are shown, --json gives all" if count > _SHOWN_ROWS else ""
    Console().print(f"{count:,} rows{more}", style="dim", highlight=False)


def _plain(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value  # JSON encodes it as base64


def _text(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return ""
    return value if isinstance(value, str) else _encode(value).decode().strip('"')
