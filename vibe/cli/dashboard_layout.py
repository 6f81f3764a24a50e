"""How the live table is laid out: it fills a terminal of any size, and cuts neither ids nor reasons.

Every line is one Text that fits the width. Where the terminal is narrow, a decision takes two lines and the names of
markets and subscriptions are shortened, then whole columns are left out; where it is low, fewer decisions are shown.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from msgspec import Struct
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from domain.micros import decimal_text

_GAP: Final = 1
_TOKEN_LONGER_THAN: Final = 24
_WITH_NOUNS: Final = 53
"""Below this width the stages' lines leave out what is counted."""
_ONE_LINE: Final = 120
"""Below this width a decision takes two lines."""
_UNLIMITED: Final = 1_000


class StageRow(NamedTuple):
    """`rate` is events a second, `lag` the events that wait; None where that has no meaning."""

    stage: str
    events: int
    noun: str
    rate: float | None
    lag: int | None


class Decision(Struct, frozen=True):
    """One row of copy_attempt, with the names of its market and outcome where the venue has names."""

    decided_at: datetime
    decision: str
    subscription_id: str
    action: str
    trade_side: str
    asset: str
    share_micros: int
    attempt_id: str
    reasons: tuple[str, ...] = ()
    question: str | None = None
    label: str | None = None

    @property
    def executed(self) -> bool:
        return self.decision == "EXECUTE"


class Snapshot(Struct, frozen=True):
    """What the table shows."""

    title: str
    stages: tuple[StageRow, ...] = ()
    dead_letters: int = 0
    decisions: tuple[Decision, ...] = ()
    notices: tuple[str, ...] = ()


class Frame:
    """A snapshot as a rich renderable of the terminal's size."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.size.height
        yield from layout(self._snapshot, options.max_width, height)


def layout(snapshot: Snapshot, width: int, height: int) -> list[Text]:
    """The lines of the table: `height` of them, each at most `width` cells wide."""
    notices = [Text(text, style="yellow") for text in snapshot.notices]
    footer = notices or [Text("Ctrl-C stops; nothing is lost", style="dim")]
    stages = [Text(snapshot.title, style="bold"), *_stage_lines(snapshot, width)]
    left = height - len(footer) - len(stages) - 1
    decisions = [Text(), *_decision_lines(snapshot.decisions, width, left)] if left > 2 else []
    body = [*stages[: height - len(footer)], *decisions]
    lines = [*body, *(Text() for _ in range(height - len(body) - len(footer))), *footer][:height]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
    return lines


def _stage_lines(snapshot: Snapshot, width: int) -> Iterator[Text]:
    def line(stage: str, events: str, noun: str, rate: str, lag: str, style: str = "") -> Text:
        of_what = f" {noun:<14}" if width >= _WITH_NOUNS else ""
        return Text(f"{stage:<11} {events:>9}{of_what} {rate:>8} {lag:>7}".rstrip(), style=style)

    yield line("stage", "events", "", "per s", "lag", "bold")
    for row in snapshot.stages:
        rate = "" if row.rate is None else f"{row.rate:,.1f}"
        yield line(row.stage, f"{row.events:,}", row.noun, rate, "" if row.lag is None else f"{row.lag:,}")
    yield line("", f"{snapshot.dead_letters:,}", "dead letters", "", "", "red" if snapshot.dead_letters else "dim")


class _Column(NamedTuple):
    """`cell` answers the text of a decision in a width; the column is left out where `least` cells do not fit."""

    header: str
    least: int
    ideal: int
    cell: Callable[[Decision, int], str]


def _decision_lines(decisions: Sequence[Decision], width: int, count: int) -> Iterator[Text]:
    """At most `count` lines: a header, then one line for each decision, or two on a narrow terminal."""
    if not decisions:
        return
    wide = width >= _ONE_LINE
    rows = [_fitted(columns, width) for columns in _columns(decisions, wide=wide)]
    if wide:
        yield _joined([set_cell_size(column.header, size) for column, size in rows[0]], "bold")
    else:
        yield Text("newest decisions, see one with: vibe trace ID", style="bold")
    for decision in decisions[: (count - 1) // len(rows)]:
        for columns in rows:
            cells = [set_cell_size(column.cell(decision, size), size) for column, size in columns]
            yield _joined(cells, "green" if decision.executed else "yellow")


def _joined(cells: list[str], style: str) -> Text:
    return Text((" " * _GAP).join(cells).rstrip(), style=style)


def _columns(decisions: Sequence[Decision], *, wide: bool) -> list[list[_Column]]:
    """The columns of each line from left to right."""

    def column(header: str, least: int, cell: Callable[[Decision, int], str]) -> _Column:
        ideal = max(cell_len(cell(decision, _UNLIMITED)) for decision in decisions)
        return _Column(header, min(least, ideal), max(ideal, min(len(header), least)), cell)

    shortest = max(cell_len(_result(decision, 0)) for decision in decisions)
    time = column("time", 8, lambda one, _: f"{one.decided_at:%H:%M:%S}")
    decision = _Column("", 7, 7, lambda one, _: one.decision)
    subscription = column("subscription", 12, lambda one, size: shortened(one.subscription_id, size))
    action = column("", 4, _action)
    market = column("market", 16, _market)
    result = column("size or reasons", shortest, _result)
    identifier = column("id for vibe trace", _UNLIMITED, lambda one, _: one.attempt_id)
    if wide:
        return [[time, decision, subscription, action, market, result, identifier]]
    indent = _Column("", 7, 7, lambda *_: "")
    return [[decision, subscription, action, market], [indent, result, identifier]]


def _fitted(columns: list[_Column], width: int) -> list[tuple[_Column, int]]:
    """The columns that fit into `width`, with their widths: each gets the least, then the rest goes from left to right.

    Columns that do not fit are left out from the right.
    """
    fitting: list[_Column] = []
    left = width + _GAP
    for column in columns:
        if column.least + _GAP <= left:
            fitting.append(column)
            left -= column.least + _GAP
    sizes = []
    for column in fitting:
        more = min(left, column.ideal - column.least)
        sizes.append(column.least + more)
        left -= more
    return list(zip(fitting, sizes, strict=True))


def _action(decision: Decision, size: int) -> str:
    full = f"{decision.action} {decision.trade_side}"
    return full if len(full) <= size else decision.trade_side


def _market(decision: Decision, size: int) -> str:
    """The question and the outcome; the name of the asset where the venue has no questions."""
    if decision.question is None or decision.label is None:
        known = len(decision.asset) <= _TOKEN_LONGER_THAN
        return shortened(decision.asset if known else f"token {decision.asset[:6]}…{decision.asset[-4:]}", size)
    outcome = shortened(decision.label, size)
    return f"{shortened(decision.question, size - cell_len(outcome) - 1)} {outcome}".strip()


def _result(decision: Decision, size: int) -> str:
    """The size of what was executed, or why it was skipped: all reasons, or the first and how many more there are."""
    if decision.executed:
        return decimal_text(decision.share_micros)
    full = " ".join(decision.reasons)
    if len(full) <= size or len(decision.reasons) <= 1:
        return full
    return f"{decision.reasons[0]} +{len(decision.reasons) - 1}"


def shortened(text: str, size: int) -> str:
    """`text`, or its beginning and an ellipsis where it is wider than `size` cells."""
    if cell_len(text) <= size:
        return text
    return set_cell_size(text, size - 1).rstrip() + "…" if size > 1 else ""
