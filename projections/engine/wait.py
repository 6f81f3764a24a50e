"""Read your writes: wait until a projection has stored an event, told by Postgres rather than asking again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec

from projections.engine.errors import LOST
from projections.engine.positions import CHANNEL, TABLE

Pool = asyncpg.pool.Pool


async def wait_until_stored(
    database: str | Pool[Any], projection: str, stream: str, sequence: int, timeout: float = 10.0
) -> int:
    """Wait until `projection` has stored everything of `stream` up to `sequence`; returns where it stands then.

    `database` is a DSN or a pool, of which one connection is held meanwhile. Raises TimeoutError that says how far it
    has come.
    """
    seen = _Seen(projection, stream, sequence)
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    async with _connection(database) as connection:
                        return await seen.wait(connection)
                except LOST as error:
                    if isinstance(error, TimeoutError):
                        raise
                    await asyncio.sleep(0.2)  # the database is away: begin again when it is back
    except TimeoutError:
        stands = "nowhere yet; is it a projection of this stream?" if seen.position is None else f"at {seen.position}"
        raise TimeoutError(
            f"{projection} has not passed {stream}:{sequence} within {timeout:g} s; it is {stands}"
        ) from None


class _Seen:
    def __init__(self, projection: str, stream: str, sequence: int) -> None:
        self._projection = projection
        self._stream = stream
        self._sequence = sequence
        self._news = asyncio.Event()
        self.position: int | None = None

    async def wait(self, connection: asyncpg.Connection[Any]) -> int:
        def lost(_: Any) -> None:
            self._news.set()

        await connection.add_listener(CHANNEL, self._told)
        connection.add_termination_listener(lost)
        try:
            self._news.clear()
            self._learn(await self._ask(connection))  # after the listening began, so that no move falls in between
            while self.position is None or self.position < self._sequence:
                await self._news.wait()
                self._news.clear()
                if connection.is_closed():
                    raise ConnectionResetError("the connection to Postgres was lost")
            return self.position
        finally:
            connection.remove_termination_listener(lost)
            if not connection.is_closed():
                await connection.remove_listener(CHANNEL, self._told)

    async def _ask(self, connection: asyncpg.Connection[Any]) -> int | None:
        try:
            found: int | None = await connection.fetchval(
                f"SELECT position FROM {TABLE} WHERE projection = $1 AND stream = $2", self._projection, self._stream
            )
        except asyncpg.UndefinedTableError:
            return None
        return found

    def _told(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        said = msgspec.json.decode(str(payload))
        if said["stream"] == self._stream and self._projection in said["projections"]:
            self._learn(said["position"])

    def _learn(self, position: int | None) -> None:
        if position is not None and (self.position is None or position > self.position):
            self.position = position
            self._news.set()


@asynccontextmanager
async def _connection(database: str | Pool[Any]) -> AsyncIterator[Any]:
    if isinstance(database, str):
        made = await asyncpg.connect(database, timeout=10)
        try:
            yield made
        finally:
            made.terminate()
    else:
        async with database.acquire() as held:
            yield held
