"""The connection: a request can always be cancelled, and errors are those of `streams.errors`."""

import asyncio
import random
from pathlib import Path

import pytest

from gateways.embedded import Addresses
from streams.connection import PING_SECONDS, Connection, connect, error_of
from streams.errors import RefusedError, UnavailableError
from tests.streams.deadlines import eventually
from tests.streams.own_server import own_server
from tests.streams.proxy import proxied


async def test_a_request_cancelled_as_its_answer_comes_is_cancelled(log: Connection) -> None:
    chance = random.Random(2)

    async def ask_for_ever() -> None:
        while True:
            await log.api("INFO")

    for _ in range(300):
        task = asyncio.create_task(ask_for_ever())
        await asyncio.sleep(chance.uniform(0.0, 0.003))
        # In about half of the runs the answer has arrived already, and only the task has not run yet.
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2)
        if not done:
            task.cancel()
        assert done, "the task goes on as if it had not been cancelled"
        assert task.cancelled()


async def test_a_request_in_the_cleanup_of_a_cancelled_task_is_made(log: Connection) -> None:
    answers: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            answers.append((await log.api("INFO"))["type"])

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=2)
    assert task.cancelled()
    assert answers == ["io.nats.jetstream.api.v1.account_info_response"]


async def test_errors_of_the_library_are_translated(log: Connection) -> None:
    with pytest.raises(UnavailableError, match="no responders"):
        await log.request("no.subscriber")
    with pytest.raises(RefusedError, match=r"stream not found \(10059\)"):
        await log.api("STREAM.INFO.NOWHERE")
    with pytest.raises(RefusedError, match="max_payload"):
        await log.publish("x", b"x" * 9_000_000)
    await log.subscribe("silence", _ignore)
    with pytest.raises(UnavailableError, match=r"no answer within 0\.1 s"):
        await log.request("silence", timeout=0.1)
    await log.close()
    with pytest.raises(UnavailableError):
        await log.request("anything")


async def test_what_was_asked_without_a_connection_is_not_carried_out_later(tmp_path: Path) -> None:
    async with own_server(tmp_path) as server:
        connection = await connect(server.url, "tests")
        try:
            await server.kill()
            await eventually(lambda: not connection.client.is_connected)
            for _ in range(3):
                with pytest.raises(UnavailableError, match="not connected"):
                    await connection.api("STREAM.CREATE.LATE", {"name": "LATE", "subjects": ["late"]}, timeout=0.1)
            with pytest.raises(UnavailableError, match="not connected"):
                await connection.publish("late", b"x")
            asking = asyncio.create_task(connection.api("STREAM.NAMES", timeout=20))
            await asyncio.sleep(0.1)
            await server.start()
            assert "LATE" not in ((await asking)["streams"] or ())
        finally:
            await connection.close()


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (10005, "no suitable peers for placement, peer offline", UnavailableError),
        (10005, "no suitable peers for placement, insufficient storage", RefusedError),
        (10008, "JetStream system temporarily unavailable", UnavailableError),
        (10059, "stream not found", RefusedError),
    ],
)
def test_errors_that_pass_with_time_are_distinguished(code: int, text: str, kind: type[Exception]) -> None:
    assert type(error_of({"code": 400, "err_code": code, "description": text}, "STREAM.CREATE.RAW")) is kind


async def _ignore(_: object) -> None:
    """Never answers."""


async def test_a_server_that_goes_silent_is_taken_for_lost_and_the_client_connects_again(running: Addresses) -> None:
    """A half-open connection: the server is gone and never closed it."""
    async with proxied(running.nats_url) as proxy:
        connection = await connect(proxy.url, "through the proxy", ping_seconds=0.2)
        try:
            await connection.api("INFO")
            proxy.silence()
            with pytest.raises(UnavailableError):
                await connection.api("INFO", timeout=0.1)
            await eventually(lambda: connection.reconnects == 1, 5, what="a new connection")
            await connection.api("INFO")
        finally:
            await connection.close()


def test_a_silent_server_is_noticed_within_ten_seconds() -> None:
    assert 3 * PING_SECONDS < 10
