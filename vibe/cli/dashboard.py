"""The live table of `vibe up` and `vibe demo` on a terminal: what it reads, and how often."""

import asyncio
import time
from collections.abc import Mapping

from msgspec.structs import replace
from rich.console import Console
from rich.live import Live

from projections.engine.errors import is_transient
from vibe.app import pipeline_lag
from vibe.app.system import RunningSystem
from vibe.cli.dashboard_layout import Decision, Frame, Snapshot, StageRow

_STAGES = (
    ("ingest", "raw events", ("raw.received",), ""),
    ("normalize", "signals", ("signal.recorded",), "normalize-"),
    ("group", "groups", ("group.closed",), "group-"),
    ("quote", "quotes", ("quote.captured", "quote.failed"), "quote-"),
    ("match", "requests", ("execution.requested",), "match-"),
    ("plan", "decisions", ("copy.decided",), "plan-"),
    ("", "fills", ("order.filled",), ""),
)
"""Stage, what it writes, by which event types that is counted, and the prefix of its consumers' names."""

_EVERY_SECONDS = 0.5
_REFRESHES_PER_SECOND = 4

# Markets of venues without names (Hyperliquid) are not in `outcome_asset`: their asset is the name.
_NEWEST = """
SELECT attempt.*, market.question, outcome.label
FROM (SELECT * FROM copy_attempt ORDER BY decided_at DESC, sequence DESC LIMIT $1) AS attempt
LEFT JOIN outcome_asset AS outcome USING (venue, asset)
LEFT JOIN market ON market.venue = outcome.venue AND market.market = outcome.market
ORDER BY attempt.decided_at DESC, attempt.sequence DESC
"""


async def watch_table(system: RunningSystem, title: str, stop: asyncio.Event) -> None:
    """Show the table on the terminal until `stop` is set; the last one stays on it."""
    console = Console()
    dashboard = Dashboard(system, title)
    frame = Frame(Snapshot(title))
    with Live(frame, console=console, screen=True, refresh_per_second=_REFRESHES_PER_SECOND) as live:
        while not stop.is_set():
            frame = Frame(await dashboard.read(console.size.height))
            live.update(frame)
            try:
                async with asyncio.timeout(_EVERY_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue
    console.print(frame)


async def watch_nothing(_system: RunningSystem, _title: str, stop: asyncio.Event) -> None:
    """Show nothing until `stop` is set: stdout is no terminal, or the caller asked for JSON."""
    await stop.wait()


class Dashboard:
    """Reads what the table shows from the log and the read models."""

    def __init__(self, system: RunningSystem, title: str) -> None:
        self._system = system
        self._rates = Rates()
        self._last = Snapshot(title)

    async def read(self, decisions: int) -> Snapshot:
        """The current state, with at most so many of the newest decisions. While a server is away, the last state."""
        try:
            self._last = await self._read(decisions)
        except Exception as error:
            if not is_transient(error):
                raise
            return replace(self._last, notices=("waiting for the servers",))
        return self._last

    async def _read(self, decisions: int) -> Snapshot:
        system = self._system
        counts = await pipeline_lag.counts(system.database)
        lags = await pipeline_lag.lags(system.connection)
        behind = await pipeline_lag.projection_lag(system.connection, system.database)
        self._rates.update(counts.events, time.monotonic())
        rows = [
            StageRow(
                stage,
                sum(counts.of(name) for name in types),
                noun,
                sum(self._rates.of(name) for name in types),
                sum(lag.waiting for lag in lags if lag.consumer.startswith(prefix)) if prefix else None,
            )
            for stage, noun, types, prefix in _STAGES
        ]
        rows.append(StageRow("projections", counts.ledger_entries, "ledger entries", None, behind))
        newest = await system.database.fetch(_NEWEST, decisions) if counts.events else []
        return replace(
            self._last,
            stages=tuple(rows),
            dead_letters=counts.of("event.dead_lettered"),
            decisions=tuple(map(_decision, newest)),
            notices=self._notices(),
        )

    def _notices(self) -> tuple[str, ...]:
        children = self._system.supervisor.children.values()
        logs = self._system.settings.data_dir / "logs"
        restarted = [
            f"{child.name} restarted {child.restarts}x, see {logs}/{child.name}.log"
            for child in children
            if child.restarts
        ]
        late = [
            f"{child.name} is not ready yet, see {logs}/{child.name}.log"
            for child in children
            if not child.ready.is_set()
        ]
        return (*restarted, *late)


class Rates:
    """Events per second by event type, smoothed."""

    def __init__(self) -> None:
        self._before: Mapping[str, int] | None = None
        self._at = 0.0
        self._rates: dict[str, float] = {}

    def update(self, counts: Mapping[str, int], now: float) -> None:
        """Take the counts of the time `now` (s)."""
        if self._before is not None:
            for name, count in counts.items():
                rate = (count - self._before.get(name, 0)) / (now - self._at)
                self._rates[name] = 0.7 * self._rates.get(name, rate) + 0.3 * rate
        self._before, self._at = dict(counts), now

    def of(self, name: str) -> float:
        return self._rates.get(name, 0.0)


def _decision(row: Mapping[str, object]) -> Decision:
    fields = {name: row[name] for name in Decision.__struct_fields__ if name != "reasons"}
    return Decision(**fields, reasons=tuple(row["reasons"]))  # type: ignore[arg-type]
