"""Requests against a local server that is slow, refuses or is down; retries and `Retry-After`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from gateways.http_client import LONGEST_PAUSE_SECONDS, HttpClient
from gateways.rate_limit import RateLimiter
from gateways.venue_errors import VenueUnavailableError, WireError

Answer = Callable[[web.Request], web.Response]


class LocalServer:
    """A real HTTP server that answers as a test sets it, and records the requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []
        self.bodies: list[Any] = []
        self.times: list[float] = []
        self._answers: dict[str, list[Answer]] = {}

    def on(self, path: str, *answers: Answer) -> None:
        """Answer requests for `path` with each in turn, the last one for ever; other paths are 404."""
        self._answers[path] = list(answers)

    def values(self, name: str) -> list[str]:
        """The value of a parameter in each request, '' where it is absent."""
        return [next((value for key, value in query if key == name), "") for _, query in self.asked]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, list(request.query.items())))
        self.times.append(time.monotonic())
        if request.can_read_body:
            self.bodies.append(await request.json())
        answers = self._answers.get(request.path)
        if answers is None:
            return web.json_response({"error": "no route"}, status=404)
        return (answers.pop(0) if len(answers) > 1 else answers[0])(request)


@asynccontextmanager
async def serving() -> AsyncIterator[LocalServer]:
    app = web.Application()
    runner = web.AppRunner(app)
    local = LocalServer("")
    app.router.add_route("*", "/{path:.*}", local.answer)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        local.url = f"http://{host}:{port}"
        yield local
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client(limiter: RateLimiter | None = None, **options: Any) -> AsyncIterator[HttpClient]:
    options = {"attempts": 4, "first_wait_seconds": 0.005, "timeout_seconds": 2.0} | options
    async with HttpClient(limiter or RateLimiter(rate_per_second=1000, burst=1000), **options) as one:
        yield one


def reply(body: Any, status: int = 200, **headers: str) -> Answer:
    return lambda _: web.json_response(
        body, status=status, headers={key.replace("_", "-"): value for key, value in headers.items()}
    )


class RecordedPauses(RateLimiter):
    """A limiter that notes pauses instead of taking them."""

    def __init__(self) -> None:
        super().__init__(1000, 1000)
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


# --- the client ----------------------------------------------------------------------------------------------


async def test_an_answer_is_returned_unmodified() -> None:
    async with serving() as server, client() as ask:
        server.on("/x", lambda _: web.Response(body=b' {"a": 0.10}'))
        assert await ask.get(f"{server.url}/x", {"user": "0x1", "ids": ["a", "b"]}) == b' {"a": 0.10}'
        assert server.asked == [("/x", [("user", "0x1"), ("ids", "a"), ("ids", "b")])]


async def test_a_body_is_posted_as_json() -> None:
    async with serving() as server, client() as ask:
        server.on("/x", reply([1]))
        assert await ask.post(f"{server.url}/x", [{"token_id": "5"}]) == b"[1]"
        assert server.bodies == [[{"token_id": "5"}]]


async def test_a_404_is_none() -> None:
    async with serving() as server, client() as ask:
        assert await ask.get(f"{server.url}/nowhere", {}) is None
        assert await ask.post(f"{server.url}/nowhere", {}) is None
        assert len(server.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 422])
async def test_a_refusal_raises_the_venues_reason_and_is_not_retried(status: int) -> None:
    async with serving() as server, client() as ask:
        server.on("/x", reply({"error": "limit must be <= 1000", "code": "invalid_request"}, status))
        with pytest.raises(WireError, match=f"HTTP {status}: limit must be <= 1000 invalid_request"):
            await ask.get(f"{server.url}/x", {})
        assert len(server.asked) == 1


async def test_a_refusal_in_another_format_shows_its_beginning() -> None:
    async with serving() as server, client() as ask:
        server.on("/x", lambda _: web.Response(body=b"<html>" + b"x" * 1000, status=400))
        with pytest.raises(WireError, match="<html>xxx") as refused:
            await ask.get(f"{server.url}/x", {})
        assert len(str(refused.value)) < 400


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503])
async def test_a_transient_status_is_retried(status: int) -> None:
    async with serving() as server, client() as ask:
        server.on("/x", reply({}, status), reply({}, status), reply("at last"))
        assert await ask.get(f"{server.url}/x", {}) == b'"at last"'
        assert len(server.asked) == 3


async def test_attempts_come_to_an_end() -> None:
    async with serving() as server, client(attempts=3) as ask:
        server.on("/x", reply({"error": "database is down"}, 503))
        with pytest.raises(VenueUnavailableError, match="HTTP 503: database is down"):
            await ask.get(f"{server.url}/x", {})
        assert len(server.asked) == 3


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with serving() as server:
        url = server.url
    async with client(attempts=2) as ask:
        with pytest.raises(VenueUnavailableError, match=url):
            await ask.get(f"{url}/x", {})


async def test_a_server_that_never_answers_is_unavailable() -> None:
    async with asyncio.timeout(5):
        silent = await asyncio.start_server(lambda *_: asyncio.sleep(3), "127.0.0.1", 0)
        host, port = silent.sockets[0].getsockname()
        async with client(attempts=2, timeout_seconds=0.05) as ask:
            with pytest.raises(VenueUnavailableError, match="TimeoutError"):
                await ask.get(f"http://{host}:{port}/x", {})
        silent.close()


async def test_an_incomplete_answer_is_retried() -> None:
    async def breaking(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[1,")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(breaking, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with client(attempts=2) as ask:
        with pytest.raises(VenueUnavailableError):
            await ask.get(f"http://{host}:{port}/x", {})
    server.close()


async def test_no_request_goes_before_retry_after_is_over() -> None:
    async with serving() as server, client() as ask:
        server.on("/x", reply({}, 429, Retry_After="1"), reply("x"))
        server.on("/y", reply("y"))
        first = asyncio.create_task(ask.get(f"{server.url}/x", {}))
        while not server.asked:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert await ask.get(f"{server.url}/y", {}) == b'"y"'
        assert await first == b'"x"'
        assert [later - server.times[0] > 0.9 for later in server.times[1:]] == [True, True]


@pytest.mark.parametrize(
    ("status", "headers", "pauses"),
    [
        (429, {"Retry_After": "7"}, [7.0]),
        (503, {"Retry_After": "7"}, [7.0]),
        (503, {}, []),
        (429, {}, [1.0]),
        (429, {"Retry_After": "0"}, [0.0]),
        (429, {"Retry_After": "86400"}, [LONGEST_PAUSE_SECONDS]),
        (429, {"Retry_After": "9" * 400}, [LONGEST_PAUSE_SECONDS]),
        (429, {"Retry_After": "soon"}, [1.0]),
        (429, {"Retry_After": "-5"}, [1.0]),
        (429, {"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, [0.0]),
    ],
)
async def test_a_retry_after_is_bounded_and_malformed_ones_use_the_default(
    status: int, headers: dict[str, str], pauses: list[float]
) -> None:
    limiter = RecordedPauses()
    async with serving() as server, client(limiter) as ask:
        server.on("/x", reply({}, status, **headers), reply("x"))
        assert await ask.get(f"{server.url}/x", {}) == b'"x"'
    assert limiter.pauses == pauses


async def test_a_retry_after_may_be_a_date() -> None:
    limiter = RecordedPauses()
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    async with serving() as server, client(limiter) as ask:
        server.on("/x", reply({}, 429, Retry_After=until), reply("x"))
        await ask.get(f"{server.url}/x", {})
    assert 15 < limiter.pauses[0] <= 20
