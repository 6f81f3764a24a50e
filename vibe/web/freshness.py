"""How far the read models are: followed by notification, for ETags and for reading one's writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import asyncpg
import msgspec
import structlog

from projections.engine.errors import is_transient
from projections.engine.positions import CHANNEL, TABLE

log = structlog.get_logger()

_LOAD_EVERY_SECONDS = 15.0
_RETRY_SECONDS = 1.0


class Freshness:
    """The positions of all projections. Postgres notifies of every move; a periodic read finds a swap of tables."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool
        self._positions: dict[tuple[str, str], tuple[int, int]] = {}
        self._changed = asyncio.Condition()
        self._lost = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; while Postgres is away, what was known stays."""
        while True:
            try:
                async with self._pool.acquire() as session:
                    await self._follow(session)
            except Exception as error:
                if not is_transient(error) and not isinstance(error, asyncpg.InterfaceError):
                    raise
                log.warning("web.freshness_lost", why=str(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self, session: Any) -> None:
        self._lost.clear()

        def lost(_: Any) -> None:
            self._lost.set()

        await session.add_listener(CHANNEL, self._notified)
        session.add_termination_listener(lost)
        try:
            while not self._lost.is_set():
                await self._load(session)
                try:
                    async with asyncio.timeout(_LOAD_EVERY_SECONDS):
                        await self._lost.wait()
                except TimeoutError:
                    continue
        finally:
            session.remove_termination_listener(lost)
            if not session.is_closed():
                await session.remove_listener(CHANNEL, self._notified)

    async def _load(self, session: Any) -> None:
        try:
            rows = await session.fetch(f"SELECT projection, stream, generation, position FROM {TABLE}")
        except asyncpg.UndefinedTableError:
            return  # no projection has run yet
        for row in rows:
            self._positions[row["projection"], row["stream"]] = row["generation"], row["position"]
        await self._announce()

    def _notified(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        moved = msgspec.json.decode(str(payload))
        for projection in moved["projections"]:
            key = projection, moved["stream"]
            generation, position = self._positions.get(key, (0, 0))
            self._positions[key] = generation, max(position, moved["position"])
        self._announcing = asyncio.ensure_future(self._announce())

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def of(self, projections: Iterable[str]) -> dict[str, int]:
        """The least position of these projections, by stream."""
        wanted = frozenset(projections)
        found: dict[str, int] = {}
        for (projection, stream), (_, position) in self._positions.items():
            if projection in wanted:
                found[stream] = min(found.get(stream, position), position)
        return found

    def tag(self, projections: Iterable[str]) -> str:
        """A text that changes whenever the rows of these projections may have changed."""
        wanted = frozenset(projections)
        marks = [
            f"{generation}.{position}"
            for (projection, _), (generation, position) in sorted(self._positions.items())
            if projection in wanted
        ]
        return "-".join(marks)

    async def reached(self, projections: Iterable[str], stream: str, sequence: int, timeout: float) -> bool:
        """Wait until each of these projections that reads `stream` holds it up to `sequence`; False when it took
        longer than `timeout` seconds. Projections that read other streams are not waited for."""
        wanted = frozenset(projections)

        def held() -> bool:
            found = (at for (name, of), (_, at) in self._positions.items() if name in wanted and of == stream)
            return all(at >= sequence for at in found)

        return await self._wait(held, timeout)

    async def moved(self, projections: Iterable[str], tag: str, timeout: float) -> bool:
        """Wait until `tag` is no longer that of these projections; False when it took longer than `timeout` s."""
        wanted = tuple(projections)
        return await self._wait(lambda: self.tag(wanted) != tag, timeout)

    async def _wait(self, condition: Any, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            return bool(condition())
        return True
