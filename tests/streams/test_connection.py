"""The connection: cancelling always works, and errors are ours."""

import asyncio
import random

import pytest

from streams.connection import Connection
from streams.errors import RefusedError, UnavailableError


async def test_a_request_cancelled_as_its_answer_comes_is_cancelled(log: Connection) -> None:
    moments = random.Random(2)

    async def ask_for_ever() -> None:
        while True:
            await log.api("INFO")

    for _ in range(300):
        task = asyncio.create_task(ask_for_ever())
        await asyncio.sleep(moments.uniform(0.0, 0.003))
        # As often as not the answer is there already, and only the task has not been told.
        for _ in range(moments.randrange(40)):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2)
        if not done:
            task.cancel()
        assert done, "the task goes on as if nobody had cancelled it"
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


async def test_errors_are_our_own(log: Connection) -> None:
    with pytest.raises(UnavailableError, match="nobody answers"):
        await log.request("nobody.listens")
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


async def _ignore(_: object) -> None:
    """Never answers."""
