"""Sessions of Postgres end a statement that gets no answer, and every session of the program is such a one."""

import asyncio
import re
import socket
import time

import pytest

from projections.engine.sessions import open_pool, open_session
from tests.repository import ROOT
from tests.streams.proxy import proxied

_OPENS = re.compile(r"asyncpg\.(connect|create_pool)\(")
_WITH_LIMITS_OF_THEIR_OWN = {
    "projections/engine/sessions.py",
    "vibe/app/dependencies.py",  # asks one question within two seconds
    "gateways/embedded/postgres_server.py",
    "gateways/embedded/external.py",
    "vibe/bench/projections_live.py",
    "vibe/bench/projections.py",
    "vibe/bench/pipeline.py",
}


async def test_a_statement_that_is_not_answered_ends_within_its_limit(database: str) -> None:
    async with proxied(database) as proxy:
        session = await open_session(proxy.url, 0.3)
        pool = await open_pool(proxy.url, 0.3, min_size=1, max_size=1)
        try:
            assert await session.fetchval("SELECT 1") == await pool.fetchval("SELECT 1") == 1
            proxy.silence()
            began = time.monotonic()
            for one in (session, pool):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(10):
                        await one.fetchval("SELECT 1")
                assert time.monotonic() - began < 5
        finally:
            session.terminate()
            pool.terminate()


async def test_a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on(database: str) -> None:
    session = await open_session(database, 0.2)
    try:
        with pytest.raises(TimeoutError):
            await session.execute("SELECT pg_sleep(10)")
        assert await session.fetchval("SELECT 7 FROM pg_sleep(0.5)", timeout=5) == 7, "a call may take longer"
    finally:
        await session.close(timeout=5)


async def test_a_peer_that_is_gone_is_looked_for(database: str) -> None:
    async with proxied(database) as proxy:
        session = await open_session(proxy.url, 5)
        try:
            found = getattr(session, "_transport").get_extra_info("socket")  # noqa: B009
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        finally:
            session.terminate()


def test_no_other_module_opens_a_session_without_limits() -> None:
    folders = ("streams", "gateways", "handlers", "projections", "vibe")
    found = {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if _OPENS.search(path.read_text())
    }
    assert found == _WITH_LIMITS_OF_THEIR_OWN
