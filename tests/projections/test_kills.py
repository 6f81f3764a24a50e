"""kill -9 of the engine, of a rebuild and of Postgres under load; afterwards every read model is verified."""

import asyncio
import os
import signal
import time
from pathlib import Path

import asyncpg

from gateways.embedded import servers
from handlers.live.event_codec import codec
from projections.engine.rebuild import rebuild
from projections.engine.verify import verify
from streams import topology
from streams.connection import connect
from tests.projections.engines import CORE, built, dead_letters
from tests.projections.example_log import append_events, flows
from tests.streams.deadlines import settled
from tests.streams.subprocesses import process

CONF = Path(__file__).parents[2] / "nats.conf"


async def test_read_models_equal_history_after_kills(tmp_path: Path) -> None:
    async with servers(tmp_path / ".vibe", CONF) as at:
        log = await connect(at.nats_url, "tests")
        await topology.apply(log)
        stop = asyncio.Event()

        async def load() -> None:
            first = 1
            while not stop.is_set():
                await append_events(log, flows(first, 40))
                first += 40
                await asyncio.sleep(0.02)

        loading = asyncio.create_task(load())
        arguments = (at.nats_url, at.postgres_dsn)
        async with process("tests.projections.engine_process", *arguments, log=tmp_path / "first") as builder:
            await _built_some(at.postgres_dsn)
            builder.kill()
            await builder.wait()
        async with (
            process("tests.projections.engine_process", *arguments, log=tmp_path / "second") as builder,
            process("tests.projections.rebuild_process", *arguments, "500", log=tmp_path / "rebuild") as rebuilder,
        ):
            await asyncio.sleep(0.7)
            pid = int((tmp_path / ".vibe" / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, signal.SIGKILL)  # its backends die with it
            await _built_some(at.postgres_dsn)
            await asyncio.wait_for(rebuilder.wait(), 40)
            assert rebuilder.returncode == 0, (tmp_path / "rebuild").read_text()[-2000:]
            assert builder.returncode is None, (tmp_path / "second").read_text()[-2000:]
            stop.set()
            await loading
        # Both processes retried until Postgres was back.
        await built(log, at.postgres_dsn)
        checks = await verify(at.nats_url, at.postgres_dsn, codec(), CORE)
        assert {check.projection for check in checks if check.equal} == {each.name for each in CORE}
        results = await rebuild(at.nats_url, at.postgres_dsn, codec(), CORE)
        assert all(result.generation >= 3 for result in results), "one rebuild was swapped in before"
        assert await dead_letters(log) == []
        await log.close()


async def _built_some(dsn: str) -> None:
    """Wait until Postgres answers and positions move."""

    async def position() -> int:
        try:
            session = await asyncpg.connect(dsn, timeout=5)
            try:
                found = await session.fetchval("SELECT sum(position) FROM projection_position")
            finally:
                session.terminate()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return -1
        return int(found or 0)

    deadline = time.monotonic() + 40
    before = -1
    while before < 0:
        assert time.monotonic() < deadline, "Postgres did not come back"
        before = await position()
        await asyncio.sleep(0.05)
    await settled(position, lambda now: now > before, within=40)
