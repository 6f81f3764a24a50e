"""Servers that somebody else runs: all we do is see that they answer."""

import asyncio
import re

import asyncpg
import nats
from nats.errors import Error as NatsError

from gateways.embedded.errors import ServerError

ANSWER_TIMEOUT_S = 5.0


async def check_nats(url: str) -> None:
    """ServerError unless a NATS server lets us in within a few seconds."""
    causes: list[Exception] = []

    async def remember(error: Exception) -> None:
        causes.append(error)

    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            # The client tries again after a failure, and in the end says only that no server was left.
            client = await nats.connect(
                url, error_cb=remember, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0
            )
            await client.close()
    except (OSError, TimeoutError, ValueError, NatsError) as error:
        cause = causes[-1] if causes else error
        raise _silent("VIBE_NATS_URL", "a NATS server", url, cause) from error


async def check_postgres(dsn: str) -> None:
    """ServerError unless a Postgres server lets us in within a few seconds."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            connection = await asyncpg.connect(dsn)
            await connection.close()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _silent("VIBE_POSTGRES_DSN", "a Postgres server", dsn, error) from error


def _silent(setting: str, what: str, url: str, error: Exception) -> ServerError:
    return ServerError(
        f"{setting}: expected {what} to answer at {_without_password(url)} within {ANSWER_TIMEOUT_S:.0f} s, "
        f"got {type(error).__name__}: {error}. Start that server, correct the setting, "
        f"or remove {setting} to use the embedded one"
    )


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0])
