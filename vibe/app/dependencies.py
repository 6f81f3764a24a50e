"""Whether the servers that a process depends on answer, asked all the time: health is red within five seconds of the
truth, and green again by itself.

A server that accepts a connection and then answers nothing (a stopped process, a half-open connection) counts as away,
so each question has a time limit, and what counts is how long ago the last one was answered.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import asyncpg
import structlog

from streams.connection import Connection

log = structlog.get_logger()

Probe = Callable[[], Awaitable[None]]
"""Returns when the server has answered; raises an error that names why it did not."""

PROBE_SECONDS = 2.0
"""How long one question may take."""
EVERY_SECONDS = 1.0
_RED_SECONDS = EVERY_SECONDS + PROBE_SECONDS + 1.0
"""Without an answer for this long a server is away, whatever the question on its way does."""


class Dependencies:
    """The last answer of each server, by its name."""

    def __init__(
        self, probes: Mapping[str, Probe], *, every: float = EVERY_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._probes = dict(probes)
        self._every = every
        self._clock = clock
        self._answered = dict.fromkeys(probes, clock())
        self._failed: dict[str, str] = {}

    @property
    def problems(self) -> list[str]:
        """One text for each server that does not answer."""
        now = self._clock()
        silent = {
            name: f"no answer for {now - since:.0f} s"
            for name, since in self._answered.items()
            if now - since > _RED_SECONDS
        }
        return [f"{name}: {why}" for name, why in {**silent, **self._failed}.items()]

    async def run(self) -> None:
        """Ask every server again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, probe in self._probes.items():
                group.create_task(self._keep_asking(name, probe))

    async def _keep_asking(self, name: str, probe: Probe) -> None:
        while True:
            why = await answer_of(probe)
            if why is None:
                self._answered[name] = self._clock()
                if self._failed.pop(name, None) is not None:
                    log.info("dependency.answers", name=name)
            elif name not in self._failed:
                log.warning("dependency.away", name=name, why=why)
            if why is not None:
                self._failed[name] = why
            await asyncio.sleep(self._every)


async def answer_of(probe: Probe, seconds: float = PROBE_SECONDS) -> str | None:
    """None when the server answers in time, else why it does not."""
    try:
        async with asyncio.timeout(seconds):
            await probe()
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


async def ask_nats(connection: Connection) -> None:
    """Returns when JetStream answers on this connection."""
    await connection.api("INFO", timeout=PROBE_SECONDS)


async def ask_postgres(dsn: str) -> None:
    """Returns when a new session is served: one that is kept would not show that no other can be opened."""
    session = await asyncpg.connect(dsn, timeout=PROBE_SECONDS)
    try:
        await session.fetchval("SELECT 1")
    finally:
        session.terminate()


def dependencies_of(connection: Connection, postgres_dsn: str | None) -> Dependencies:
    """NATS, and Postgres for a process that uses it."""
    probes: dict[str, Probe] = {"nats": partial(ask_nats, connection)}
    if postgres_dsn is not None:
        probes["postgres"] = partial(ask_postgres, postgres_dsn)
    return Dependencies(probes)
