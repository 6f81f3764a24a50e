"""Reading a stream: one message, the newest of a subject, everything stored, or (`StreamSubscription`) from then on."""

import base64
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from streams.connection import NOT_FOUND, Connection
from streams.errors import RefusedError
from streams.subscription import Stored, StreamSubscription

__all__ = ["Stored", "StreamSubscription", "get", "last", "last_with_time", "read_all"]

_RECHECK_SECONDS = 5.0


async def get(connection: Connection, stream: str, sequence: int) -> Stored | None:
    """The message at a sequence, from the stream's leader; None when there is none."""
    return await _get(connection, stream, {"seq": sequence})


async def last(connection: Connection, stream: str, subject: str) -> Stored | None:
    """The newest message of a subject (wildcards allowed), from the stream's leader; None when there is none."""
    return await _get(connection, stream, {"last_by_subj": subject})


async def last_with_time(connection: Connection, stream: str, subject: str) -> tuple[Stored, float] | None:
    """Like `last`, with when the server stored the message, in seconds since the epoch."""
    message = await _message(connection, stream, {"last_by_subj": subject})
    return None if message is None else (_stored(message), datetime.fromisoformat(message["time"]).timestamp())


async def _get(connection: Connection, stream: str, body: dict[str, Any]) -> Stored | None:
    message = await _message(connection, stream, body)
    return None if message is None else _stored(message)


def _stored(message: dict[str, Any]) -> Stored:
    return Stored(message["seq"], message["subject"], base64.b64decode(message.get("data", "")))


async def _message(connection: Connection, stream: str, body: dict[str, Any]) -> dict[str, Any] | None:
    try:
        answer = await connection.api(f"STREAM.MSG.GET.{stream}", body)
    except RefusedError as error:
        if error.code in NOT_FOUND:
            return None
        raise
    message: dict[str, Any] = answer["message"]
    return message


async def read_all(
    connection: Connection,
    stream: str,
    filters: Sequence[str] = (),
    *,
    after: int = 0,
    batch: int = 5000,
    newest: bool = False,
    description: str = "reads the history",
) -> AsyncIterator[list[Stored]]:
    """Everything stored behind `after` that matches, in order, in lists, up to what was the end when it began.

    With `newest`, only the newest message of each subject; needs a filter. `description` is in the reader's name.
    """
    state = (await connection.api(f"STREAM.INFO.{stream}"))["state"]
    end = int(state["last_seq"])
    subscription = StreamSubscription(connection, stream, filters, batch=batch, newest=newest, description=description)
    # Only the leader knows where the end is: a consumer may be served by a replica that is still catching up, and the
    # number that such a replica counts as left to deliver is not to be relied on.
    reach = await _reach(connection, stream, subscription.server_filters, end)
    if reach <= after:
        return
    subscription.wake_at = reach
    await subscription.open(after)
    try:
        while subscription.position < reach or subscription.waiting:
            if not await subscription.wait(_RECHECK_SECONDS):
                # An age limit may have removed meanwhile what is waited for.
                reach = min(reach, await _reach(connection, stream, subscription.server_filters, end))
                subscription.wake_at = reach
            taken = [stored for stored in subscription.take(batch) if stored.sequence <= end]
            if taken:
                yield taken
    finally:
        await subscription.close()


async def _reach(connection: Connection, stream: str, filters: Sequence[str], end: int) -> int:
    """The sequence of the last message up to `end` that matches; 0 when there is none."""
    if not filters:
        state = (await connection.api(f"STREAM.INFO.{stream}"))["state"]
        return end if state["first_seq"] <= end else 0
    newest = [await last(connection, stream, one) for one in filters]
    return max((found.sequence for found in newest if found is not None), default=0)
