"""A stream as the server's own snapshot: taken while the stream is written to, restored under the same sequences and
times.

The server sends a snapshot in chunks, and sends on only while they are acknowledged. It leaves out what it cannot read
without an error (docs/nats.md, snapshots), so its reader has to check that it is whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from nats.aio.msg import Msg

from streams.connection import Connection, error_of
from streams.errors import RefusedError, UnavailableError

CHUNK_BYTES = 256 * 1024
_SILENT_SECONDS = 30.0


class Snapshot(NamedTuple):
    """A snapshot on its way: the stream's configuration and state as the server begins with it, and the chunks."""

    config: dict[str, Any]
    state: dict[str, Any]
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def snapshot(connection: Connection, stream: str) -> AsyncIterator[Snapshot]:
    """Take a snapshot without consumers, which readers make anew. Raises UnavailableError and RefusedError."""
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = connection.inbox()
    subscription = await connection.subscribe(inbox, arrived.put)
    try:
        body = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK_BYTES}
        answer = await connection.api(f"STREAM.SNAPSHOT.{stream}", body, timeout=30)
        yield Snapshot(answer["config"], answer["state"], _chunks(connection, stream, arrived))
    finally:
        await subscription.unsubscribe()


async def _chunks(connection: Connection, stream: str, arrived: asyncio.Queue[Msg]) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(_SILENT_SECONDS):
                message = await arrived.get()
        except TimeoutError as error:
            raise UnavailableError(f"{stream}: the snapshot stopped for {_SILENT_SECONDS:g} s; try again") from error
        if not message.data:
            _check_end(stream, message.headers or {})
            return
        yield message.data
        if message.reply:
            await connection.publish(message.reply)


def _check_end(stream: str, headers: dict[str, str]) -> None:
    status, why = headers.get("Status", "204"), headers.get("Description", "no reason given")
    if status.startswith("5"):
        raise RefusedError(f"{stream}: the server cannot read its store ({why}); restore the stream from a backup")
    if status != "204":
        raise UnavailableError(f"{stream}: the server ended the snapshot with {status} ({why}); try again")


async def restore(
    connection: Connection, config: dict[str, Any], state: dict[str, Any], chunks: AsyncIterator[bytes]
) -> dict[str, Any]:
    """Make a stream of a snapshot; returns its state. Raises RefusedError when a stream of that name exists or the
    snapshot is damaged."""
    name = config["name"]
    answer = await connection.api(f"STREAM.RESTORE.{name}", {"config": config, "state": state}, timeout=30)
    async for chunk in chunks:
        for begin in range(0, len(chunk), CHUNK_BYTES):
            _checked(await connection.request(answer["deliver_subject"], chunk[begin : begin + CHUNK_BYTES]), name)
    made = _checked(await connection.request(answer["deliver_subject"], timeout=120), name)
    state = made["state"]
    return dict(state)


def _checked(answer: Msg, name: str) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(answer.data) if answer.data.startswith(b"{") else {}
    if "error" in decoded:
        raise error_of(decoded["error"], f"restoring {name}")
    return decoded
