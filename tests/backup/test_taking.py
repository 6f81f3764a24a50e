"""A backup of a running system: complete, checked against the log itself, and restored as it was."""

import os
from pathlib import Path

import asyncpg
import pytest

from gateways.embedded import Addresses
from streams import topology
from streams.append import Record, append
from streams.connection import Connection, connect
from streams.errors import DataLossError, RefusedError
from streams.processing.checkpoint import Checkpoint, encode
from streams.reader import read_all
from streams.topology import HISTORY
from tests.streams.own_server import own_server
from vibe.backup.encryption import KEY_BYTES
from vibe.backup.errors import BackupError
from vibe.backup.restoring import problems_of, restore_streams, restore_tables
from vibe.backup.sets import BackupSets
from vibe.backup.taking import Range, checkpoints_ahead, take_backup
from vibe.web.store import SCHEMA, prepare

KEY = bytes(KEY_BYTES)
NOW = 1_795_000_000_000_000_000
NAME = "20261118T110640Z"


async def fill(connection: Connection) -> None:
    for subject in ("raw.1.hyperliquid.trades.0xa", "signals.1.hyperliquid.ann.BTC", "executions.1.sam"):
        await append(connection, [Record(subject, b'{"n":%d}' % number) for number in range(50)])


async def messages(connection: Connection) -> dict[str, list[tuple[int, str, bytes]]]:
    return {
        stream.name: [(*stored,) async for batch in read_all(connection, stream.name) for stored in batch]
        for stream in HISTORY
    }


async def test_what_is_restored_has_the_same_messages_sequences_and_rows(
    log: Connection, running: Addresses, database: str, tmp_path: Path
) -> None:
    await fill(log)
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool:
        await prepare(pool)
        await pool.execute(
            f"INSERT INTO {SCHEMA}.audit_event (actor, action, outcome, address, detail) "
            "VALUES ('ann', 'pause', 'done', '::1', E'two\\nlines'), ('bob', 'resume', 'done', '::1', '')"
        )
        sets = BackupSets(str(tmp_path / "backup"), KEY)
        session = await asyncpg.connect(database)
        manifest = await take_backup(sets, log, running.nats_url, session, now_ns=NOW)
        await session.close()
        assert manifest.name == NAME
        assert await sets.names() == [NAME]
        assert manifest.tables[f"{SCHEMA}.audit_event"] == 2
        assert await problems_of(sets, await sets.manifest(NAME)) == []
        assert b"hyperliquid" not in b"".join(path.read_bytes() for path in (tmp_path / "backup" / NAME).iterdir())

        before = await messages(log)
        with pytest.raises(BackupError, match="hold messages, and a backup is restored into an empty log only"):
            await restore_streams(sets, manifest, log, running.nats_url, 1)
        for stream in HISTORY:
            await log.api(f"STREAM.DELETE.{stream.name}")
        restored = await restore_streams(sets, manifest, log, running.nats_url, 1)
        assert all(stream.equal for stream in restored)
        assert await messages(log) == before
        await topology.verify(log)

        await pool.execute(f"DELETE FROM {SCHEMA}.audit_event")
        assert await restore_tables(sets, manifest, database) == {f"{SCHEMA}.audit_event": 2}
        rows = await pool.fetch(f"SELECT number, actor, detail FROM {SCHEMA}.audit_event ORDER BY number")
        assert [tuple(row) for row in rows] == [(1, "ann", "two\nlines"), (2, "bob", "")]
        following = await pool.fetchval(
            f"INSERT INTO {SCHEMA}.audit_event (actor, action, outcome, address, detail) "
            "VALUES ('ann', 'pause', 'done', '::1', '') RETURNING number"
        )
        assert following == 3
        assert await restore_tables(sets, manifest, database) == {}, "a table with rows keeps them"


async def test_a_damaged_or_missing_file_is_named(
    log: Connection, running: Addresses, database: str, tmp_path: Path
) -> None:
    await fill(log)
    sets = BackupSets(str(tmp_path), KEY)
    session = await asyncpg.connect(database)
    manifest = await take_backup(sets, log, running.nats_url, session, now_ns=NOW)
    await session.close()
    damaged = tmp_path / NAME / "RAW"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (tmp_path / NAME / "SIGNALS").unlink()
    problems = await problems_of(sets, manifest)
    assert len(problems) == 2
    assert "SIGNALS" in problems[0]
    assert f"{NAME}/RAW is damaged" in problems[1]
    (tmp_path / NAME / "manifest").unlink()
    assert await sets.names() == []


async def test_a_bit_that_flipped_in_the_servers_own_store_stops_the_backup(database: str, tmp_path: Path) -> None:
    """The server ends its snapshot with an error, or leaves the message out, which the read of the stream finds."""
    async with own_server(tmp_path / "server") as server:
        connection = await connect(server.url, "test")
        for _ in range(20):
            await append(connection, [Record("raw.1.hyperliquid.trades.0xa", os.urandom(60_000)) for _ in range(10)])
        await connection.close()
        await server.stop_in_order()
        block = next((tmp_path / "server" / "nats").rglob("RAW/msgs/1.blk"))
        content = bytearray(block.read_bytes())
        content[len(content) // 2] ^= 1
        block.write_bytes(content)
        await server.start()
        connection = await connect(server.url, "test")
        session = await asyncpg.connect(database)
        sets = BackupSets(str(tmp_path / "backup"), KEY)
        try:
            with pytest.raises((DataLossError, RefusedError), match="RAW"):
                await take_backup(sets, connection, server.url, session, now_ns=NOW)
            assert await sets.names() == []
        finally:
            await session.close()
            await connection.close()


async def test_checkpoints_that_are_ahead_are_found_in_what_was_read(
    log: Connection, running: Addresses, database: str, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(stage="exits", lane="00-63", stream="EXECUTIONS", position=7, config_sequence=0)
    subject = "groups.checkpoint.exits.00-63"
    await append(log, [Record(subject, encode(checkpoint, NOW))])
    session = await asyncpg.connect(database)
    try:
        with pytest.raises(
            BackupError, match="GROUPS has read EXECUTIONS up to 7, and the backup of EXECUTIONS ends at 0"
        ):
            await take_backup(BackupSets(str(tmp_path), KEY), log, running.nats_url, session, now_ns=NOW)
    finally:
        await session.close()


def test_a_set_is_consistent_when_no_checkpoint_is_behind_an_end() -> None:
    read = {"GROUPS": Range("", 3, {"EXECUTIONS": 5, "CONFIG": 2}), "EXECUTIONS": Range("", 5, {})}
    assert checkpoints_ahead({"GROUPS": 3, "EXECUTIONS": 5, "CONFIG": 2}, read) == []
    assert checkpoints_ahead({"GROUPS": 3, "EXECUTIONS": 4, "CONFIG": 2}, read) == [
        "GROUPS has read EXECUTIONS up to 5, and the backup of EXECUTIONS ends at 4"
    ]
