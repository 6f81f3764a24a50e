"""Figures of the log as a whole, asked of nats-server every few seconds: one process of the system does that."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from streams import topology
from streams.connection import Connection, connect
from streams.errors import LogError
from streams.login import as_role
from streams.roles import PROJECTOR
from streams.topology import HISTORY, STREAMS
from vibe.app import metrics, pipeline_lag
from vibe.app.settings import Settings

log = structlog.get_logger()

EVERY_SECONDS = 5.0


@asynccontextmanager
async def watched_log(settings: Settings, nats_url: str, stages: tuple[str, ...]) -> AsyncIterator[None]:
    """Keep the figures up to date in the process of the projections, of which a system has one; in others nothing."""
    if "projections" not in stages:
        yield
        return
    connection = await connect(as_role(nats_url, PROJECTOR), "vibe metrics")
    watching = asyncio.create_task(watch(connection, settings.data_dir))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await connection.close()


async def watch(connection: Connection, data_dir: Path) -> None:
    """Read the figures again and again, until cancelled. While the server is away they stay as they were."""
    while True:
        try:
            read_disk(data_dir)
            await read_log(connection)
        except (LogError, OSError) as error:
            log.warning("log_metrics.not_read", error=str(error))
        await asyncio.sleep(EVERY_SECONDS)


async def read_log(connection: Connection) -> None:
    """Read the figures once. Raises LogError."""
    for stream in STREAMS:
        found = await topology.info(connection, stream.name)
        state = found["state"] if found else {"messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0}
        metrics.STREAM_MESSAGES.labels(stream.name).set(state["messages"])
        metrics.STREAM_BYTES.labels(stream.name).set(state["bytes"])
        metrics.STREAM_LAST.labels(stream.name).set(state["last_seq"])
        if stream in HISTORY:
            held = state["last_seq"] - state["first_seq"] + 1 if state["messages"] else 0
            metrics.STREAM_MISSING.labels(stream.name).set(held - state["messages"])
    for lag in await pipeline_lag.lags(connection):
        metrics.CONSUMER_WAITING.labels(lag.stream, lag.consumer).set(lag.waiting)
    metrics.LOG_READ.set(time.time())


def read_disk(data_dir: Path) -> None:
    """Read the disk of the data folder once."""
    folder = next(path for path in (data_dir.resolve(), *data_dir.resolve().parents) if path.exists())
    usage = shutil.disk_usage(folder)
    metrics.DISK_FREE.set(usage.free)
    metrics.DISK_SIZE.set(usage.total)
