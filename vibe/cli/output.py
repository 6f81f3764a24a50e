"""What commands write: tables and JSON on stdout, progress on stderr.

In tables figures are never cut. Where a table is wider than the terminal its text wraps; where that is not enough the
lines are longer than the terminal, which `less -S` and a pipe take as they are.
"""

import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import msgspec
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

_TEXT_WIDTH = 24
_GAP = 2
_FIGURE = re.compile(r"-|[-+]?[\d,.]+( ?(%|[kMGT]?B|[a-z]{1,2}))?")


def table(*headers: str, text: Collection[str] = ()) -> Table:
    """An empty table. Columns whose headers are in `text` hold prose, which may wrap; the others are as wide as they
    have to be."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, _GAP - 1, 0, 0))
    for header in headers:
        made.add_column(header, no_wrap=header not in text, overflow="fold")
    return made


def show(made: Table, console: Console | None = None) -> None:
    """Print it on stdout, or where the console does."""
    console = console or Console()
    for column in made.columns:
        lines = [line for cell in (column.header, *column.cells) for line in str(cell).splitlines()]
        longest = max(map(cell_len, lines), default=0)
        column.min_width = longest if column.no_wrap else min(longest, _TEXT_WIDTH)
        if all(_FIGURE.fullmatch(line) for cell in column.cells for line in str(cell).splitlines()):
            column.justify = "right"
    needed = sum((column.min_width or 0) + _GAP for column in made.columns) + _GAP
    before, console.width = console.width, max(console.width, needed)
    console.print(made, highlight=False)
    console.width = before


def print_json(value: object) -> None:
    """One line of JSON on stdout; what JSON has no form for is written as its text."""
    sys.stdout.write(msgspec.json.encode(value, enc_hook=str).decode() + "\n")


@contextmanager
def bar(what: str, json: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal's stderr, told (done, total); silent elsewhere."""
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
