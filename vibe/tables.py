"""Tables for terminals: figures are never cut. Where a table is wider than the terminal its text wraps; where that is
not enough the lines are longer than the terminal, which `less -S` and a pipe take as they are."""

import re
from collections.abc import Collection

from rich import box
from rich.cells import cell_len
from rich.console import Console
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
