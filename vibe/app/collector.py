"""Garbage collection of a process that holds a large state for a long time.

Python's collector walks every container it knows. A process with 200,000 subscriptions in memory would spend a sixth of
its CPU on walking objects that live for ever, and stop for a quarter of a second at a full collection. So what was
loaded is frozen: later collections walk only what came after. They run on a timer, between folds and never inside one.
Frozen objects that became garbage in cycles would stay for ever; once an hour everything is walked and frozen again.
"""

import asyncio
import gc
import time

import structlog
from prometheus_client import Counter, Gauge

log = structlog.get_logger()

PAUSE_SECONDS = Gauge("vibe_gc_longest_pause_seconds", "Longest garbage collection since the process was ready")
COLLECTED = Counter("vibe_gc_collected_objects_total", "Objects that garbage collections freed")


class Collector:
    """Replaces Python's automatic collections from `start` on.

    Young objects are collected every `young_seconds`, everything that is not frozen every `old_seconds`, and the whole
    heap every `whole_seconds`.
    """

    def __init__(
        self, *, young_seconds: float = 0.5, old_seconds: float = 60.0, whole_seconds: float = 3_600.0
    ) -> None:
        self._young = young_seconds
        self._old = old_seconds
        self._whole = whole_seconds
        self.longest_seconds = 0.0

    def start(self) -> None:
        """Freeze what was loaded. Call it when the state is complete, before work begins."""
        gc.disable()
        gc.collect()
        gc.freeze()

    async def run(self) -> None:
        """Collect until cancelled; automatic collections are on again afterwards."""
        old_at = whole_at = time.monotonic()
        try:
            while True:
                await asyncio.sleep(self._young)
                now = time.monotonic()
                if now - whole_at >= self._whole:
                    gc.unfreeze()
                    self._collect(2)
                    gc.freeze()
                    old_at = whole_at = now
                elif now - old_at >= self._old:
                    self._collect(2)
                    old_at = now
                else:
                    self._collect(1)
        finally:
            gc.enable()

    def _collect(self, generation: int) -> None:
        began = time.perf_counter()
        COLLECTED.inc(gc.collect(generation))
        took = time.perf_counter() - began
        if took > self.longest_seconds:
            self.longest_seconds = took
            PAUSE_SECONDS.set(took)
