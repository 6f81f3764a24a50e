"""Read your writes: wait until a projection has stored an event. Postgres notifies; the table is not polled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec

from projections.engine.errors import UNAVAILABLE
from projections.engine.positions import CHANNEL, TABLE
from projections.engine.sessions import COMMAND_SECONDS, open_session

Pool = asyncpg.pool.Pool


async def wait_until_stored(
    database: str | Pool[Any], projection: str, stream: str, sequence: int, timeout: float = 10.0
) -> int:
    """Wait until `projection` has stored everything of `stream` up to `sequence`; returns its position then.

    `database` is a DSN, or a pool of which one connection is held meanwhile. Raises TimeoutError with the position
    that the projection has reached.
    """
    waiter = _Waiter(projection, stream, sequence)
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    async with _connection(database) as connection:
                        return await waiter.wait(connection)
                except UNAVAILABLE as error:
                    if isinstance(error, TimeoutError):
                        raise
                    await asyncio.sleep(0.2)  # Postgres is unreachable: connect again
    except TimeoutError:
        position = waiter.position
        reached = f"it is at {position}" if position is not None else "it has no position; does it read this stream?"
        raise TimeoutError(f"{projection} has not stored {stream}:{sequence} within {timeout:g} s; {reached}") from None


class _Waiter:
    def __init__(self, projection: str, stream: str, sequence: int) -> None:
        self._projection = projection
        self._stream = stream
        self._sequence = sequence
        self._changed = asyncio.Event()
        self.position: int | None = None

    async def wait(self, connection: asyncpg.Connection[Any]) -> int:
        def lost(_: Any) -> None:
            self._changed.set()

        await connection.add_listener(CHANNEL, self._on_notification)
        connection.add_termination_listener(lost)
        try:
            self._changed.clear()
            self._update(await self._stored_position(connection))  # after LISTEN, so that no move is missed
            while self.position is None or self.position < self._sequence:
                await self._changed.wait()
                self._changed.clear()
                if connection.is_closed():
                    raise ConnectionResetError("the connection to Postgres was lost")
            return self.position
        finally:
            connection.remove_termination_listener(lost)
            if not connection.is_closed():
                await connection.remove_listener(CHANNEL, self._on_notification)

    async def _stored_position(self, connection: asyncpg.Connection[Any]) -> int | None:
        try:
            found: int | None = await connection.fetchval(
                f"SELECT position FROM {TABLE} WHERE projection = $1 AND stream = $2", self._projection, self._stream
            )
        except asyncpg.UndefinedTableError:
            return None
        return found

    def _on_notification(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        notification = msgspec.json.decode(str(payload))
        if notification["stream"] == self._stream and self._projection in notification["projections"]:
            self._update(notification["position"])

    def _update(self, position: int | None) -> None:
        if position is not None and (self.position is None or position > self.position):
            self.position = position
            self._changed.set()


@asynccontextmanager
async def _connection(database: str | Pool[Any]) -> AsyncIterator[Any]:
    if isinstance(database, str):
        opened = await open_session(database, COMMAND_SECONDS)
        try:
            yield opened
        finally:
            opened.terminate()
    else:
        async with database.acquire() as held:
            yield held
