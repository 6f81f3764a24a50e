"""The live table of `vibe up` and `vibe demo` on a terminal."""

import asyncio
import time

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from domain.micros import decimal_text
from projections.engine.errors import passing
from vibe.app import pipeline_lag
from vibe.app.system import RunningSystem

_ROWS = (
    ("ingest", "raw events", ("raw.received",), ""),
    ("normalize", "signals", ("signal.recorded",), "normalize-"),
    ("group", "groups", ("group.closed",), "group-"),
    ("quote", "quotes", ("quote.captured", "quote.failed"), "quote-"),
    ("match", "requests", ("execution.requested",), "match-"),
    ("plan", "decisions", ("copy.decided",), "plan-"),
    ("execute", "fills", ("order.filled",), "execute-"),
)


class Dashboard:
    """Draws what a running house does, about twice a second."""

    def __init__(self, house: RunningSystem, title: str) -> None:
        self._house = house
        self._title = title
        self._before: dict[str, int] = {}
        self._at = 0.0
        self._rates: dict[str, float] = {}

    async def run(self, live: Live, stop: asyncio.Event) -> None:
        """Until `stop`; a database or a log that is away for a moment leaves the last picture standing."""
        while not stop.is_set():
            try:
                live.update(await self._draw())
            except Exception as error:
                if not passing(error):
                    raise
                live.update(Text("waiting for the servers …", style="yellow"))
            try:
                async with asyncio.timeout(0.5):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _draw(self) -> Group:
        house = self._house
        have = await pipeline_lag.counts(house.database)
        lags = await pipeline_lag.lags(house.connection)
        behind = await pipeline_lag.projection_lag(house.connection, house.database)
        self._rate(have.events)
        table = Table(title=self._title, title_justify="left", title_style="bold", expand=False)
        for column, justify in (
            ("stage", "left"),
            ("events", "right"),
            ("", "left"),
            ("per s", "right"),
            ("lag", "right"),
        ):
            table.add_column(column, justify="right" if justify == "right" else "left")
        for stage, noun, types, prefix in _ROWS:
            waiting = sum(lag.waiting for lag in lags if prefix and lag.consumer.startswith(prefix))
            rate = sum(self._rates.get(name, 0.0) for name in types)
            table.add_row(
                stage,
                f"{sum(have.of(name) for name in types):,}",
                noun,
                f"{rate:,.1f}",
                f"{waiting:,}" if prefix else "",
            )
        table.add_row("projections", f"{have.ledger_entries:,}", "ledger entries", "", f"{behind:,}")
        dead = have.of("event.dead_lettered")
        table.add_row("", f"{dead:,}", "dead letters", "", "", style="red" if dead else "dim")
        return Group(table, await self._newest(), self._state())

    def _rate(self, events: dict[str, int]) -> None:
        now = time.monotonic()
        if self._at:
            passed = now - self._at
            for name, count in events.items():
                fresh = (count - self._before.get(name, 0)) / passed
                self._rates[name] = 0.7 * self._rates.get(name, fresh) + 0.3 * fresh
        self._before, self._at = dict(events), now

    async def _newest(self) -> Table:
        table = Table(box=None, title="newest decisions", title_justify="left", title_style="bold")
        for column in ("", "subscription", "", "asset", "size", "why", "id for vibe trace"):
            table.add_column(column)
        if not self._before:
            return table
        rows = await self._house.database.fetch(
            "SELECT * FROM copy_attempt ORDER BY decided_at DESC, sequence DESC LIMIT 8"
        )
        for row in rows:
            executed = row["decision"] == "EXECUTE"
            table.add_row(
                Text(row["decision"], style="green" if executed else "yellow"),
                row["subscription_id"],
                f"{row['action']} {row['trade_side']}",
                row["asset"],
                decimal_text(row["share_micros"]) if executed else "",
                " ".join(row["reasons"]),
                row["attempt_id"],
            )
        return table

    def _state(self) -> Text:
        children = self._house.supervisor.children.values()
        logs = self._house.settings.data_dir / "logs"
        said = [
            f"{child.name} restarted {child.restarts}x, see {logs}/{child.name}.log"
            for child in children
            if child.restarts
        ]
        said += [
            f"{child.name} is not ready yet, see {logs}/{child.name}.log"
            for child in children
            if not child.ready.is_set()
        ]
        if not said:
            return Text("Ctrl-C stops; nothing is lost", style="dim")
        return Text("\n".join(said), style="yellow")
