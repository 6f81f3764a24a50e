"""SQL over archived and live events together: a DuckDB session with one view per stream.

A view has the name of its stream in lower case and one row per event: `sequence` and `index`, the event's place, the
envelope's columns of `arrow_rows.SCHEMA`, with `type`, `id` and `data` of the event (`data` is JSON, so
`data->>'$.subscriber_id'` works), and `payload`, the stored bytes of the whole commit. It reads the archived files in
place, and later events from a table that was loaded from the log when the session began: no event is in both.
"""

import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import duckdb
import pyarrow as pa

from streams.archive.arrow_rows import SCHEMA, extend, to_record_batch
from streams.archive.errors import QueryError
from streams.archive.live_range import live_range
from streams.archive.manifest import Chain, load_chain
from streams.archive.object_store_files import PROTOCOL, ObjectStoreFilesystem, address
from streams.archive.run_in_thread import run_in_thread
from streams.archive.store import Archive
from streams.bulk_replay import Block, Replay

_INSERT_ROWS = 32_768
_EVENTS = """
SELECT sequence, i AS index, subject, time, coalesce(events[i + 1]->>'$.type', type) AS type,
    coalesce(events[i + 1]->>'$.id', id) AS id, source, correlation, causation, events[i + 1]->'$.data' AS data, payload
FROM (
    SELECT *, unnest(range(greatest(1, coalesce(len(events), 1)))) AS i
    FROM (
        SELECT *, try_cast(data AS JSON[]) AS events, head || coalesce(encode(data), ''::BLOB) || tail AS payload
        FROM ({commits})
    )
)"""
"""One row per event; a message that is no commit is one row without data."""
_ALLOWED = frozenset({"SELECT", "EXPLAIN"})

Progress = Callable[[str, int, int], None]


class Session:
    """Views over streams, for one thread at a time. `rows` runs a query.

    `lost` lists the sequences that age limits removed before they were archived, which are in no view: (stream, first,
    last).
    """

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._reader: Any = None
        self.lost: list[tuple[str, int, int]] = []

    def close(self) -> None:
        """Close a query whose rows were not all read: it holds open files, and DuckDB crashes when they disappear."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def rows(self, sql: str, batch: int = 10_000) -> tuple[list[str], Iterator[list[tuple[Any, ...]]]]:
        """(unique column names, the rows in lists of at most `batch`). Raises QueryError.

        Times are datetimes in UTC, sums of integers are exact integers. Closes the query before it.
        """
        self.close()
        _check_read_only(self._database, sql)
        try:
            reader = self._reader = self._database.sql(sql).to_arrow_reader(batch)
        except duckdb.Error as error:
            raise QueryError(_explained(error)) from error
        return _unique([field.name for field in reader.schema]), _lists(reader)


def _unique(names: list[str]) -> list[str]:
    """The same names, repeated ones with a number (_2, ...), so that a row can be a mapping."""
    unique: list[str] = []
    for name in names:
        number, wanted = 2, name
        while wanted in unique or (wanted != name and wanted in names):
            wanted, number = f"{name}_{number}", number + 1
        unique.append(wanted)
    return unique


def _lists(reader: Any) -> Iterator[list[tuple[Any, ...]]]:
    try:
        for batch in reader:
            if batch.num_rows:
                yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise QueryError(_explained(error)) from error


@asynccontextmanager
async def session(
    archive: Archive,
    url: str,
    streams: tuple[str, ...],
    sql: str | None = None,
    *,
    progress: Progress = lambda what, done, total: None,
) -> AsyncIterator[Session]:
    """A session with views of `streams`; with `sql`, only of those that it names, so that no others are loaded.

    Events that are not archived yet are read once, now. DuckDB spills data that exceeds its memory to a temporary
    folder. The session can read these views and nothing else: no files, no network, no settings. Raises what
    `archived_replay.replay` raises, and QueryError for anything but one SELECT.
    """
    database = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    opened = Session(database)
    spill = tempfile.TemporaryDirectory(prefix="vibe-query-")
    try:
        database.execute("SET TimeZone = 'UTC'")
        database.execute(f"SET temp_directory = {_quoted(spill.name)}")
        if sql is not None:
            _check_read_only(database, sql)
            named = {name.rpartition(".")[2].strip('"').upper() for name in _tables(database, sql)}
            streams = tuple(stream for stream in streams if stream in named)
        locations = []
        sizes: dict[str, int] = {}
        if archive.folder is None:
            database.register_filesystem(ObjectStoreFilesystem(archive.store, sizes))
            locations.append(address(""))
        else:
            locations.append(f"{archive.folder}/")
        for stream in streams:
            known = await load_chain(archive, stream)
            sizes.update({link.file: link.bytes for link in known.links})
            begins = await _load(database, url, known, archive, progress)
            opened.lost += [(stream, first, last) for first, last in known.lost]
            if known.last and begins > known.last + 1:
                opened.lost.append((stream, known.last + 1, begins - 1))
        database.execute(f"SET allowed_directories = [{', '.join(map(_quoted, locations))}]")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        yield opened
    finally:
        opened.close()
        if archive.folder is None and database.filesystem_is_registered(PROTOCOL):
            database.unregister_filesystem(PROTOCOL)
        database.close()
        spill.cleanup()


async def _load(
    database: duckdb.DuckDBPyConnection, url: str, known: Chain, archive: Archive, progress: Progress
) -> int:
    now = await live_range(url, known.stream)
    known.check(archive, now)
    name = known.stream.lower()
    database.register("empty", pa.Table.from_batches([], SCHEMA))
    database.execute(f'CREATE TABLE "live_{name}" AS SELECT * FROM empty')
    database.unregister("empty")
    held = Block([], [], [])
    if now.last > known.last:
        reader = Replay(url, known.stream, after=known.last, until=now.last)
        async with aclosing(reader.blocks()) as incoming:
            async for block in incoming:
                extend(held, block)
                if len(held.sequences) >= _INSERT_ROWS:
                    await run_in_thread(_insert, database, name, held)
                    held = Block([], [], [])
                progress(f"{known.stream}: reading live events", reader.done, reader.total)
    if held.sequences:
        await run_in_thread(_insert, database, name, held)
    columns = ", ".join(f'"{field.name}"' for field in SCHEMA)
    parts = [f'SELECT {columns} FROM "live_{name}"']
    if known.links:
        folder = archive.folder
        names = [address(link.file) if folder is None else str(folder / link.file) for link in known.links]
        files = ", ".join(map(_quoted, names))
        parts.insert(0, f"SELECT {columns} FROM read_parquet([{files}])")
    database.execute(f'CREATE VIEW "{name}" AS {_EVENTS.format(commits=" UNION ALL ".join(parts))}')
    return now.first


def _insert(database: duckdb.DuckDBPyConnection, name: str, block: Block) -> None:
    database.register("arrived", pa.Table.from_batches([to_record_batch(block)]))
    database.execute(f'INSERT INTO "live_{name}" SELECT * FROM arrived')
    database.unregister("arrived")


def _check_read_only(database: duckdb.DuckDBPyConnection, sql: str) -> None:
    try:
        statements = database.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(_explained(error)) from error
    kinds = [statement.type.name for statement in statements]
    if len(kinds) != 1 or kinds[0] not in _ALLOWED:
        kinds_found = ", ".join(kinds) or "nothing"
        raise QueryError(f"expected one SELECT, got {kinds_found}; the archive is read-only")


def _tables(database: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    try:
        return set(database.get_table_names(sql))
    except duckdb.Error:  # the query itself will report the error
        return set()


def _explained(error: Exception) -> str:
    text = str(error).strip()
    if "syntax error" in text and re.search(r"LINE \d+:.*\bat\b", text, re.IGNORECASE):
        text += '\n"at" is a keyword of DuckDB: write "at" in double quotes'
    return f"the query failed: {text}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
