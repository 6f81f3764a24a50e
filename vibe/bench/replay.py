"""How fast a stream's history is read: the replay reader beside the client library's `fetch` and the bare socket.

Everything is measured on the same temporary streams in the same run, so the ratios hold on any machine; the absolute
numbers are those of a server, a reader and whatever else shares its cores.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable
from typing import Any

from nats.js.api import AckPolicy, ConsumerConfig

from streams.bulk_client import BulkConnection, addresses, connect
from streams.bulk_replay import Replay
from streams.connection import connect as stage_connection
from streams.errors import LogError, UnavailableError
from streams.login import login_of

_RUNS = 3
_CHUNK = 1000
_PULL = 10_000
_WINDOW = 16
_FETCH = 500
_FETCH_EVENTS = 100_000
"""`fetch` is so slow that it reads only a part of the stream."""


async def measure(url: str, *, events: int = 1_000_000, size: int = 300) -> dict[str, Any]:
    """Fill two streams with `events` messages of `size` bytes, without and with a Nats-Msg-Id, and read them.

    Each reader runs three times and the best counts; `runs` has all of them, so that the noise can be seen.
    `ratio_to_limit` compares with the same bytes from the same server to a socket whose reader only counts them.
    """
    wire = await connect(url, "replay benchmark")
    plain, headed = (f"BENCH_{kind}_{os.urandom(4).hex()}" for kind in ("PLAIN", "HEADED"))
    try:
        filled = min([await _fill(wire, plain, events, size, False), await _fill(wire, headed, events, size, True)])
        runs: dict[str, list[int]] = {"replay": [], "replay_with_headers": [], "fetch": [], "limit": []}
        for _ in range(_RUNS):
            bytes_read = await _timed(runs["replay"], events, _replay(url, plain, events))
            await _timed(runs["replay_with_headers"], events, _replay(url, headed, events))
            await _timed(runs["limit"], events, _drain(url, plain, events, bytes_read))
            few = min(events, _FETCH_EVENTS)
            await _timed(runs["fetch"], few, _fetch(url, plain, few))
    finally:
        for stream in (plain, headed):
            with contextlib.suppress(LogError):
                await wire.api(f"STREAM.DELETE.{stream}", timeout=30)
        wire.close()
    best = {name: max(rates) for name, rates in runs.items()}
    return {
        "events": events,
        "size": size,
        "replay_events_per_s": best["replay"],
        "replay_with_headers_events_per_s": best["replay_with_headers"],
        "fetch_events_per_s": best["fetch"],
        "limit_events_per_s": best["limit"],
        "ratio_to_fetch": round(best["replay"] / best["fetch"], 1),
        "ratio_to_limit": round(best["replay"] / best["limit"], 2),
        "fill_events_per_s": filled,
        "runs": runs,
    }


async def _timed(rates: list[int], events: int, run: Awaitable[int]) -> int:
    begun = time.perf_counter()
    result = await run
    rates.append(round(events / (time.perf_counter() - begun)))
    return result


async def _fill(wire: BulkConnection, stream: str, events: int, size: int, headed: bool) -> int:
    config = {
        "name": stream,
        "subjects": [f"{stream}.>"],
        "storage": "file",
        "num_replicas": 1,
        "persist_mode": "async",  # filling is not what is measured: no fsync for every message
        "duplicate_window": 1_000_000_000,
    }
    await wire.api(f"STREAM.CREATE.{stream}", config)
    payload = b"x" * size
    window = asyncio.Semaphore(_WINDOW)
    begun = time.perf_counter()

    async def acknowledged(answer: Awaitable[bytes]) -> None:
        try:
            await answer
        finally:
            window.release()

    async with asyncio.TaskGroup() as sending:
        for first in range(0, events, _CHUNK):
            await window.acquire()
            last = min(first + _CHUNK, events) - 1
            for number in range(first, last):
                wire.publish(_subject(stream, number).encode(), payload, headers=_headers(number, headed))
            # Messages of one connection are stored in order: the answer to the last one acknowledges the chunk.
            answer = wire.request(_subject(stream, last), payload, headers=_headers(last, headed), timeout=60)
            sending.create_task(acknowledged(answer))
    took = time.perf_counter() - begun
    stored = (await wire.api(f"STREAM.INFO.{stream}"))["state"]["messages"]
    if stored != events:
        raise RuntimeError(f"{stored} of {events} messages of {stream} were stored")
    return round(events / took)


def _subject(stream: str, number: int) -> str:
    return f"{stream}.{number % 64}.hyperliquid.0x{number % 5000:040x}"


def _headers(number: int, wanted: bool) -> bytes:
    return b"NATS/1.0\r\nNats-Msg-Id: evt_%020d\r\n\r\n" % number if wanted else b""


async def _replay(url: str, stream: str, events: int) -> int:
    reader = Replay(url, stream)
    async for _ in reader.blocks():
        pass
    if reader.done != events or reader.restarts:
        raise RuntimeError(f"{reader.done} of {events} messages of {stream}, {reader.restarts} restarts")
    return reader.received


async def _fetch(url: str, stream: str, events: int) -> int:
    connection = await stage_connection(url, "replay benchmark")
    client = connection.client
    try:
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True)
        subscription = await client.jetstream().pull_subscribe(f"{stream}.>", stream=stream, config=config)
        left = events
        while left > 0:
            left -= len(await subscription.fetch(min(_FETCH, left), timeout=5))
    finally:
        await connection.close()
    return events


class _Counter(BulkConnection):
    """A connection that, once `wanted` is set, only counts."""

    wanted = 0

    def data_received(self, data: bytes) -> None:
        if not self.wanted:
            super().data_received(data)
            return
        self.received += len(data)
        if self.received >= self.wanted:
            self.close()


async def _drain(url: str, stream: str, events: int, bytes_read: int) -> int:
    login = login_of(url)
    wire = _Counter(login)
    await wire.open(addresses(login.servers[0] if login else url)[0], "replay benchmark", None)
    config = {"ack_policy": "none", "mem_storage": True, "inactive_threshold": 60_000_000_000}
    made = await wire.api(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
    # What the reader received was also answers and statuses, a few bytes of each pull.
    wire.wanted = max(1, bytes_read - 16 * 1024 - events // 20)
    for _ in range(0, events, _PULL):
        wire.pull(stream, made["name"], {"batch": _PULL, "expires": 60_000_000_000})
    with contextlib.suppress(UnavailableError):
        await wire.wait(60)
    wire.close()
    if wire.received < wire.wanted:
        raise RuntimeError(f"{wire.received:,} of {wire.wanted:,} bytes of {stream} came")
    return wire.received
