"""How `vibe projections` shows its list, the checks of verify, and the progress of a rebuild."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from projections.engine.parallel_load import ReportProgress
from projections.engine.status_report import ProjectionReport
from projections.engine.verify import Check, Difference
from vibe.cli.output import show, table

_LINE_SECONDS = 2.0
_WIDE = 120


def show_list(found: Sequence[ProjectionReport]) -> None:
    """One line for each read model; on a narrow terminal positions and dates share a column with others."""
    console = Console()
    wide = console.width >= _WIDE
    first = ("projection", "position") if wide else ("projection, position",)
    made = table(*first, "v", "lag", "per s", "rows", "size", "last event", "state", text=("state",))
    for each in found:
        positions = [f"{stream}:{position:,}" for stream, position in each.positions.items()]
        names = (each.name, "\n".join(positions)) if wide else ("\n  ".join((each.name, *positions)),)
        made.add_row(
            *names,
            str(each.version),
            f"{sum(each.lag.values()):,}",
            f"{each.rate:,.0f}",
            f"{'about ' if each.estimated else ''}{each.rows:,}",
            _bytes(each.bytes),
            each.last_event.strftime("%Y-%m-%d %H:%M:%S" if wide else "%Y-%m-%d\n%H:%M:%S") if each.last_event else "",
            each.state,
        )
    show(made, console)


def check_facts(check: Check) -> dict[str, Any]:
    """A check of `vibe projections verify` for JSON."""
    return {
        "projection": check.projection,
        "equal": check.equal,
        "positions": check.positions,
        "passed_over": check.passed_over,
        "unverifiable": check.unverifiable,
        "tables": [
            {**table._asdict(), "difference": table.difference._asdict() if table.difference else None}
            for table in check.tables
        ],
    }


def show_checks(checks: Sequence[Check]) -> None:
    made = table("projection", "table", "rows", "digest", "result", text=("result",))
    for check in checks:
        if check.unverifiable:
            made.add_row(check.projection, "", "", "", f"cannot be verified: {check.unverifiable}", style="yellow")
        for each in check.tables:
            result, style = ("equal", "green") if each.difference is None else ("DIFFERENT", "red")
            made.add_row(check.projection, each.table, f"{each.rows:,}", each.digest[:16], result, style=style)
    show(made)
    for check in checks:
        if check.passed_over:
            _line(f"{check.projection}: {check.passed_over:,} events cannot be folded and were passed over")
        for each in check.tables:
            if each.difference is not None:
                counted = f"{each.rows:,} rows, replayed {each.replayed_rows:,}"
                _line(f"{each.table}: {counted}; first difference {_difference_text(each.difference)}")
        if not check.equal:
            _line(f"to correct it: vibe projections rebuild {check.projection}")


def _difference_text(first: Difference) -> str:
    key = ", ".join(f"{name} {value!r}" for name, value in first.key.items())
    if first.column is not None:
        return f"at {key}: {first.column} is {first.live!r} and history makes it {first.replayed!r}"
    if first.live is None:
        return f"at {key}: history makes this row, and the table does not have it: {first.replayed}"
    return f"at {key}: the table has this row, and history does not make it: {first.live}"


def _line(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def rebuild_progress(json: bool) -> Iterator[ReportProgress]:
    """A bar with events/s and the time left on a terminal; a line every two seconds elsewhere; both on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console, silent=json)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=json) as progress:
        task = progress.add_task("starting", total=None, rate="")
        rates = _Rates()

        def draw(phase: str, done: int, total: int) -> None:
            rate = f"{rates.of(phase, done):,.0f}/s" if total and phase != "indexes" else ""
            progress.update(task, description=phase, completed=done, total=total or None, rate=rate)

        yield draw


class _Lines:
    """Progress as lines of text, one for each phase and then one every two seconds."""

    def __init__(self, console: Console, *, silent: bool) -> None:
        self._console = console
        self._silent = silent
        self._rates = _Rates()
        self._phase, self._at = "", 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        rate, now = self._rates.of(phase, done), time.monotonic()
        if self._silent or (phase == self._phase and now - self._at < _LINE_SECONDS):
            return
        self._phase, self._at = phase, now
        left = f", {(total - done) / rate:,.0f} s left" if rate and total else ""
        counted = f": {done:,} of {total:,}" if total else ""
        speed = f", {rate:,.0f} events/s{left}" if rate and total and phase != "indexes" else ""
        self._console.print(f"{phase}{counted}{speed}", highlight=False, markup=False, soft_wrap=True)


class _Rates:
    """Events per second of a phase, from its beginning."""

    def __init__(self) -> None:
        self._phase = ""
        self._begun = (0.0, 0)

    def of(self, phase: str, done: int) -> float:
        now = time.monotonic()
        if phase != self._phase or done < self._begun[1]:
            self._phase, self._begun = phase, (now, done)
        passed = now - self._begun[0]
        return (done - self._begun[1]) / passed if passed > 0.2 else 0.0


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
