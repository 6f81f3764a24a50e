"""Garbage collection of a process that holds a large state for a long time.

Python's collector walks every container it knows. A process with 200,000 subscriptions in memory would spend a sixth of
its CPU on walking objects that live for ever, and stop for a quarter of a second at a full collection. So automatic
collections are off, and here objects are collected between folds, never inside one, a bounded number at a time: a
collection walks at most `WALKED` objects, some milliseconds. What was loaded, what has survived two collections, and
what came in a burst that is too large to be walked is frozen: later collections do not walk it. Reference counts still
free it; only garbage in cycles among frozen objects stays, until the whole heap is walked in an idle second.

Collections are measured in the CPU time of their thread: on a crowded machine a process may wait for its core
meanwhile, with or without a collection.
"""

import asyncio
import gc
import time

import structlog
from prometheus_client import Counter, Gauge, Histogram

log = structlog.get_logger()

PAUSES = Histogram(
    "vibe_gc_pause_seconds",
    "CPU time of each garbage collection since the process was ready",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
)
LONGEST_PAUSE = Gauge("vibe_gc_longest_pause_seconds", "Longest garbage collection since the process was ready")
COLLECTED = Counter("vibe_gc_collected_objects_total", "Objects that garbage collections freed")
UNWALKED = Counter(
    "vibe_gc_bursts_frozen_total", "Bursts of objects that were frozen because they were too many to walk"
)

WALKED = 20_000
"""Objects that one collection may walk."""
_CHECK_SECONDS = 0.05
_IDLE_OBJECTS = 1_000
_LONGEST_WAIT_FOR_IDLENESS = 24


class Collector:
    """Replaces Python's automatic collections from `start` on.

    New objects are collected every `young_seconds`, or sooner when there are many. The whole heap is walked every
    `whole_seconds`, in a second without work; under constant load after 24 times as long.
    """

    def __init__(self, *, young_seconds: float = 0.5, whole_seconds: float = 3_600.0, walked: int = WALKED) -> None:
        self._young = young_seconds
        self._whole = whole_seconds
        self._walked = walked
        self._survived = 0
        self.longest_seconds = 0.0

    def start(self) -> None:
        """Freeze what was loaded. Call it when the state is complete, before work begins."""
        gc.disable()
        gc.collect()
        gc.freeze()

    async def run(self) -> None:
        """Collect until cancelled; automatic collections are on again afterwards."""
        collected_at = whole_at = busy_at = time.monotonic()
        try:
            while True:
                await asyncio.sleep(min(_CHECK_SECONDS, self._young))
                now, grown = time.monotonic(), gc.get_count()[0]
                if now - collected_at < self._young and grown < self._walked // 2:
                    continue
                collected_at = now
                busy_at = now if grown > _IDLE_OBJECTS else busy_at
                overdue = now - whole_at - self._whole
                if overdue >= 0 and (now - busy_at >= 1 or overdue >= _LONGEST_WAIT_FOR_IDLENESS * self._whole):
                    gc.unfreeze()
                    self._collect(2)
                    self._freeze()
                    whole_at = now
                else:
                    self._collect_new(grown)
        finally:
            gc.enable()

    def _collect_new(self, grown: int) -> None:
        """Collect what came since the last collection, `grown` objects; then what survived earlier ones, if it is
        enough to be worth it."""
        if grown > self._walked:
            UNWALKED.inc()
            self._freeze()
            return
        self._survived += max(0, grown - self._collect(1))
        if self._survived > self._walked // 2:
            self._collect(2)
            self._freeze()

    def _freeze(self) -> None:
        gc.freeze()
        self._survived = 0

    def _collect(self, generation: int) -> int:
        began = time.thread_time()
        freed = gc.collect(generation)
        took = time.thread_time() - began
        COLLECTED.inc(freed)
        PAUSES.observe(took)
        if took > self.longest_seconds:
            self.longest_seconds = took
            LONGEST_PAUSE.set(took)
        return freed
