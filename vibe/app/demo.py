"""The demo's folder: which scenario it plays, how far that has come, and what the demo copies.

A scenario is the sandbox's flow of trades for one seed. Its clock starts at a fixed time and runs only while the demo
does, so the same seed gives the same trades, ids and decisions, and a demo that was left for days goes on where it
stopped. A scenario that was interrupted is continued; one that was played to its end makes room for the next.

`demo.jsonl` is the configuration, as for `vibe config import`: every influencer of the sandbox, with three subscribers
on Hyperliquid and two on Polymarket. The subscribers of the venues are apart because Polymarket's data arrives some
milliseconds earlier or later in each run: those of Hyperliquid decide the same in every run. `close_guard_ms` is 0 for
the Polymarket influencers so that the brief market, which lives for seconds, is copied and pays out.
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from vibe.app.settings import Settings

EPOCH_NS = 1_767_225_600 * 1_000_000_000
"""2026-01-01T00:00:00Z: when every scenario starts."""
LEAD_NS = 3_000_000_000
"""A new scenario's clock starts this much before the first trade: stages load and connect."""
SAVE_EVERY_SECONDS = 1.0
RESERVE_NS = 3_000_000_000
"""The stored time is this much ahead of a running clock: after a crash the clock never goes back."""
CONFIGURATION = Path(__file__).with_name("demo.jsonl")


class NotADemoError(Exception):
    """The data folder, or the servers, hold something else than a demo, or a demo where none is expected."""


class Scenario(Struct):
    """demo.json in the data folder. Times are ns.

    `offset_ns` is the scenario's time minus the real time in the last run; it converts between the times in the log
    and those in server logs. `reached_ns` is the scenario's time at which the next run starts its clock. A `live` one
    has a subscriber whose account the sandbox forgets when it ends: it is never continued.
    """

    seed: int
    offset_ns: int | None = None
    reached_ns: int | None = None
    finished: bool = False
    live: bool = False

    @property
    def played_seconds(self) -> float:
        """Scenario time played so far; 0 before the start."""
        return 0.0 if self.reached_ns is None else max(0.0, (self.reached_ns - EPOCH_NS) / 1e9)


def scenario(settings: Settings, seed: int, *, live: bool = False) -> Scenario:
    """The scenario to play: the interrupted one of this folder when it has the same seed, else a new one.

    Removes the log and the read models of an earlier demo that is over. Raises NotADemoError when the folder or the
    servers hold anything else.
    """
    data_dir = settings.data_dir
    path = _path(data_dir)
    if settings.nats_url or settings.dsn:
        raise NotADemoError(
            "a demo runs on servers of its own; unset VIBE_NATS_URL and VIBE_POSTGRES_DSN, or use: vibe up"
        )
    if path.exists():
        found = msgspec.json.decode(path.read_bytes(), type=Scenario)
        resumable = found.offset_ns is None or found.reached_ns is not None
        if found.seed == seed and not found.finished and resumable and not (live or found.live):
            return found
        for name in ("nats", "postgres", "logs", "archive"):
            shutil.rmtree(data_dir / name, ignore_errors=True)
    elif any(block.stat().st_size for block in (data_dir / "nats").rglob("*.blk")):
        raise NotADemoError(
            f"{data_dir} holds a log that is not a demo's; set VIBE_DATA_DIR to another folder for the demo"
        )
    fresh = Scenario(seed, live=live)
    save(data_dir, fresh)
    return fresh


def refuse_demo(data_dir: Path) -> None:
    """Raises NotADemoError where a demo lives: the next one removes everything that was added to it."""
    if _path(data_dir).exists():
        raise NotADemoError(
            f"{data_dir} holds a demo, and the next demo removes all of it; set VIBE_DATA_DIR to a folder of your own, "
            f"or remove {data_dir}"
        )


def configuration() -> Iterable[str]:
    """The demo's configuration as JSON lines."""
    return CONFIGURATION.read_text(encoding="utf-8").splitlines()


def log_time(settings: Settings) -> int:
    """Now (ns) on the clock of the log: a demo's log has the time of its scenario, which stops while the demo does
    not run; every other log has the real time."""
    path = _path(settings.data_dir)
    if (settings.nats_url and settings.dsn) or not path.is_file():
        return time.time_ns()
    found = msgspec.json.decode(path.read_bytes(), type=Scenario)
    if found.reached_ns is None or found.offset_ns is None:
        return time.time_ns() if found.reached_ns is None else found.reached_ns
    # While the demo runs, what is stored is a little ahead of its clock.
    return min(time.time_ns() + found.offset_ns, found.reached_ns)


class ScenarioClock:
    """The clock of a scenario: it starts where the last run stopped it. `async with`; leaving stops the clock.

    While it runs, the time that the next run starts at is stored every second.
    """

    def __init__(self, data_dir: Path, current: Scenario, real_clock: Callable[[], int] = time.time_ns) -> None:
        self._data_dir = data_dir
        self._scenario = current
        self._real_clock = real_clock
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._store(ahead_ns=0)

    def start(self) -> int:
        """Start the clock; returns its offset, to be added to the real time in ns."""
        begin = EPOCH_NS - LEAD_NS if self._scenario.reached_ns is None else self._scenario.reached_ns
        offset = self._scenario.offset_ns = begin - self._real_clock()
        self._store(RESERVE_NS)
        self._keeper = asyncio.create_task(self._keep())
        return offset

    def now(self) -> int:
        """The scenario's time in ns; only of a started clock."""
        assert self._scenario.offset_ns is not None
        return self._real_clock() + self._scenario.offset_ns

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY_SECONDS)
            self._store(RESERVE_NS)

    def _store(self, ahead_ns: int) -> None:
        self._scenario.reached_ns = self.now() + ahead_ns
        save(self._data_dir, self._scenario)


def _path(data_dir: Path) -> Path:
    return data_dir / "demo.json"


def save(data_dir: Path, current: Scenario) -> None:
    """Store the scenario in its folder, whole or not at all."""
    data_dir.mkdir(parents=True, exist_ok=True)
    temporary = _path(data_dir).with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(current))
    temporary.replace(_path(data_dir))
