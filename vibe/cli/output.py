"""What commands write: tables and JSON on stdout, progress on stderr.

No table cuts a cell, and none is wider than the terminal. A table that does not fit is made narrower step by step:
headers wrap, text wraps, gaps shrink; then its columns are shown in several parts, each with the first column, and a
column that alone is wider than the terminal is folded.
"""

import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

_TEXT_WIDTH = 20
"""As narrow as a column of text may become before the table is shown in parts."""
_FIGURE = re.compile(r"-|[-+]?\$?[\d,.]+(/[\d,]+)?( ?(%|[kMGT]?B|[a-z]{1,3}))?")


class _Layout(NamedTuple):
    gap: int
    wrap_headers: bool
    wrap_text: bool


_LAYOUTS = (
    _Layout(gap=2, wrap_headers=False, wrap_text=False),
    _Layout(gap=2, wrap_headers=True, wrap_text=False),
    _Layout(gap=2, wrap_headers=True, wrap_text=True),
    _Layout(gap=1, wrap_headers=True, wrap_text=True),
)


class Column:
    """One column: its header and its cells. `text` may wrap; figures are aligned on the right."""

    def __init__(self, header: str, text: bool) -> None:
        self.header = header
        self.text = text
        self.cells: list[Text] = []

    def natural(self) -> int:
        """The widest line of the cells."""
        return max((line.cell_len for cell in self.cells for line in cell.split("\n")), default=0)

    def needed(self, layout: _Layout) -> int:
        """The least width in a layout."""
        titles = self.header.split() if layout.wrap_headers else [self.header]
        cells = min(self.natural(), _TEXT_WIDTH) if layout.wrap_text and self.text else self.natural()
        return max(cells, *(len(title) for title in titles), 1)

    @property
    def is_figure(self) -> bool:
        return all(_FIGURE.fullmatch(line) for cell in self.cells for line in cell.plain.splitlines())


class Table:
    """A table to fill with `add_row` and to print with `show`."""

    def __init__(self, headers: Sequence[str], text: Collection[str]) -> None:
        self.columns = [Column(header, header in text) for header in headers]
        self.rows = 0

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """One cell for each column; strings are shown as they are, without markup."""
        for column, cell in zip(self.columns, cells, strict=True):
            column.cells.append(cell if isinstance(cell, Text) else Text(cell, style=style))
        self.rows += 1


def table(*headers: str, text: Collection[str] = ()) -> Table:
    """An empty table. Columns whose headers are in `text` hold sentences, which may wrap; the others wrap only where
    one of them alone is wider than the terminal."""
    return Table(headers, text)


def show(made: Table, console: Console | None = None) -> None:
    """Print a table on stdout or on the console, no wider than that is."""
    console = console or Console()
    for layout in _LAYOUTS:
        if _needed(made.columns, layout) <= console.width:
            _print(made.columns, layout, console)
            return
    for number, part in enumerate(_parts(made.columns, _LAYOUTS[-1], console.width)):
        if number:
            console.print()
        _print(part, _LAYOUTS[-1], console)


def _needed(columns: Sequence[Column], layout: _Layout) -> int:
    return sum(column.needed(layout) for column in columns) + layout.gap * (len(columns) - 1)


def _parts(columns: Sequence[Column], layout: _Layout, width: int) -> Iterator[list[Column]]:
    """The columns in groups that fit the width, the first column in each."""
    key, *others = columns
    part = [key]
    for column in others:
        if len(part) > 1 and _needed([*part, column], layout) > width:
            yield part
            part = [key]
        part.append(column)
    yield part


def _widths(columns: Sequence[Column], layout: _Layout, available: int) -> list[int]:
    """The width of each column: what it needs, and for text what is left; less where even that does not fit."""
    widths = [column.needed(layout) for column in columns]
    left = available - _needed(columns, layout)
    for number, column in enumerate(columns):
        more = max(0, min(left, column.natural() - widths[number]))
        widths[number] += more
        left -= more
    while left < 0:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] == 1:
            break
        widths[widest] -= 1
        left += 1
    return widths


def _print(columns: Sequence[Column], layout: _Layout, console: Console) -> None:
    widths = _widths(columns, layout, console.width)
    _print_row(columns, [Text(column.header, style="bold") for column in columns], widths, layout, console)
    console.print("─" * (sum(widths) + layout.gap * (len(widths) - 1)), style="dim", no_wrap=True)
    for cells in zip(*(column.cells for column in columns), strict=True):
        _print_row(columns, cells, widths, layout, console)


def _print_row(
    columns: Sequence[Column], cells: Sequence[Text], widths: Sequence[int], layout: _Layout, console: Console
) -> None:
    wrapped = [list(cell.wrap(console, width, overflow="fold")) for cell, width in zip(cells, widths, strict=True)]
    for number in range(max(map(len, wrapped))):
        line = Text()
        for column, lines, width in zip(columns, wrapped, widths, strict=True):
            piece = lines[number] if number < len(lines) else Text()
            piece.rstrip()
            piece.align("right" if column.is_figure else "left", width)
            line.append_text(piece).append(" " * layout.gap)
        line.rstrip()
        console.print(line, highlight=False, no_wrap=True)


def print_json(value: object) -> None:
    """One line of JSON on stdout; what JSON has no form for is written as its text."""
    sys.stdout.write(msgspec.json.encode(value, enc_hook=str).decode() + "\n")


@contextmanager
def bar(what: str, json: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal's stderr, updated with (done, total); silent elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=json or not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def progress_reporter(as_json: bool) -> Callable[[str], None]:
    """Prints progress on stderr, so that stdout holds the result alone. With `as_json`, only on a terminal."""
    console = Console(stderr=True)

    def report(text: str) -> None:
        if not as_json or console.is_terminal:
            console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    return report
