"""`vibe bench projections`, its live part: all read models follow a stream that grows at a steady rate."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import asyncpg
import msgspec

from handlers.live.event_codec import codec
from projections.engine import positions
from projections.models import PROJECTIONS
from streams.append import Record, append
from streams.connection import Connection
from streams.topology import EXECUTIONS
from vibe.bench.events import history

LIVE_RATE, LIVE_SECONDS = 5_000, 10
"""Events a second, and for how long."""
_BATCH = 50
"""Events that are appended at once, whole commits."""


async def measure_live(connection: Connection, url: str, dsn: str) -> dict[str, Any]:
    """Lag in ms from before an append to Postgres' notification that every read model has its rows.

    The streams of `connection` have to be empty.
    """
    environment = {**os.environ, "VIBE_NATS_URL": url, "VIBE_POSTGRES_DSN": dsn, "VIBE_HTTP_PORT": "0"}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vibe", "run", "projections", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    session = await asyncpg.connect(dsn)
    try:
        return await _follow(connection, session)
    finally:
        child.terminate()
        await child.wait()
        await session.close()


async def _follow(connection: Connection, session: asyncpg.Connection[Any]) -> dict[str, Any]:
    sent: deque[tuple[int, float]] = deque()
    took: list[float] = []
    reached, notified = 0, asyncio.Event()
    reading = {each.name for each in PROJECTIONS if EXECUTIONS in each.reads}

    def receive(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
        nonlocal reached
        notification = msgspec.json.decode(str(payload))
        if notification["stream"] == EXECUTIONS.name and reading <= set(notification["projections"]):
            reached, now = notification["position"], time.perf_counter()
            while sent and sent[0][0] <= reached:
                took.append(1000 * (now - sent.popleft()[1]))
            notified.set()

    await session.add_listener(positions.CHANNEL, receive)
    total = LIVE_RATE * LIVE_SECONDS
    batches = list(_batches(total + _BATCH))
    first = await append(connection, batches[0].records)
    async with asyncio.timeout(60):
        while reached < first.last:  # the read models are there and follow
            await notified.wait()
            notified.clear()
    await asyncio.sleep(1)
    begun = time.perf_counter()
    appended = 0
    for batch in batches[1:]:
        await asyncio.sleep(max(0.0, begun + appended / LIVE_RATE - time.perf_counter()))
        before = time.perf_counter()
        landed = await append(connection, batch.records)
        sent.append((landed.last, before))
        appended += batch.events
    seconds = time.perf_counter() - begun
    async with asyncio.timeout(60):
        while sent:
            await notified.wait()
            notified.clear()
    took.sort()
    return {
        "live_events_per_s": round(appended / seconds),
        "live_lag_p50_ms": round(took[len(took) // 2], 1),
        "live_lag_p99_ms": round(took[len(took) * 99 // 100], 1),
        "live_lag_max_ms": round(took[-1], 1),
    }


class _Batch(NamedTuple):
    records: list[Record]
    events: int


def _batches(events: int) -> Iterator[_Batch]:
    records, count = list[Record](), 0
    for commit in history(codec(), events):
        records.append(commit.record)
        count += commit.events
        if count >= _BATCH:
            yield _Batch(records, count)
            records, count = [], 0
