"""Health follows the truth: red within five seconds after a server stops to answer, green again by itself."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import aiohttp

from gateways.embedded import Addresses
from streams.connection import connect
from tests.streams.own_server import own_server
from vibe.app.dependencies import Dependencies, answer_of, ask_nats, ask_postgres
from vibe.app.observability import serve_health

RED_SECONDS = 5.0


async def within(seconds: float, condition: Callable[[], bool]) -> float:
    """How long it took until the condition held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def test_a_server_that_is_stopped_without_closing_its_connections_is_named_until_it_goes_on(
    tmp_path: Path,
) -> None:
    async with own_server(tmp_path) as server:
        connection = await connect(server.url, "test")
        watched = Dependencies({"nats": partial(ask_nats, connection)}, every=0.1)
        asking = asyncio.create_task(watched.run())
        try:
            assert watched.problems == []
            os.kill(server.pid, signal.SIGSTOP)
            try:
                await within(RED_SECONDS, lambda: bool(watched.problems))
                assert watched.problems[0].startswith("nats: ")
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await within(RED_SECONDS, lambda: not watched.problems)
        finally:
            asking.cancel()
            await connection.close()


async def test_a_question_that_never_ends_counts_by_its_age() -> None:
    now = [0.0]
    watched = Dependencies({"postgres": _endless()}, clock=lambda: now[0])
    now[0] = 4.0
    assert watched.problems == []
    now[0] = 4.5
    assert watched.problems == ["postgres: no answer for 4 s"]


async def test_an_answer_and_a_reason_why_there_is_none(running: Addresses) -> None:
    assert await answer_of(partial(ask_postgres, running.postgres_dsn)) is None
    why = await answer_of(partial(ask_postgres, "postgresql://vibe@127.0.0.1:9/vibe"))
    assert why is not None
    assert "127.0.0.1" in why
    assert await answer_of(_endless(), 0.01) == "no answer within 0.01 s"


async def test_a_process_that_waits_for_a_server_is_alive_and_not_ready() -> None:
    state = {"ok": False, "ready": False, "problems": ["nats: no answer for 5 s"]}
    served = await serve_health("127.0.0.1", 0, lambda: state)
    try:
        at = f"http://127.0.0.1:{served.addresses[0][1]}"
        async with aiohttp.ClientSession() as session:
            codes = {}
            for path in ("livez", "readyz", "healthz"):
                async with session.get(f"{at}/{path}") as answer:
                    codes[path] = answer.status
        assert codes == {"livez": 200, "readyz": 503, "healthz": 503}
    finally:
        await served.cleanup()


def _endless() -> Callable[[], Awaitable[None]]:
    async def ask() -> None:
        await asyncio.Event().wait()

    return ask
