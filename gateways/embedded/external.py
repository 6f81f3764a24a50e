"""External servers: another operator runs them, and the only check is that they answer."""

import asyncio
import re
from urllib.parse import urlsplit

import asyncpg
import nats
from nats.errors import Error as NatsError

from gateways.embedded.errors import ServerError


async def check_nats(url: str, timeout_s: float) -> None:
    """Raises ServerError unless a NATS server accepts a connection within `timeout_s`. With a URL that names keys one
    has to answer: which role logs in is chosen later."""
    if "?" in url:
        await _answers(url, timeout_s)
        return
    causes: list[Exception] = []

    async def remember(error: Exception) -> None:
        causes.append(error)

    try:
        async with asyncio.timeout(timeout_s):
            # The client tries again after a failure, and reports in the end only that no server was left.
            client = await nats.connect(
                url, error_cb=remember, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0
            )
            await client.close()
    except (OSError, TimeoutError, ValueError, NatsError) as error:
        cause = causes[-1] if causes else error
        raise _no_answer("VIBE_NATS_URL", "a NATS server", url, timeout_s, cause) from error


async def _answers(url: str, timeout_s: float) -> None:
    error: Exception = ValueError("the URL names no server")
    for one in url.split(","):
        parts = urlsplit(one)
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 4222)
                try:
                    greeting = await reader.readline()
                finally:
                    writer.close()
                if greeting.startswith(b"INFO "):
                    return
                raise ValueError("this is not a NATS server")
        except (OSError, TimeoutError, ValueError) as why:
            error = why
    raise _no_answer("VIBE_NATS_URL", "a NATS server", url, timeout_s, error)


async def check_postgres(dsn: str, timeout_s: float) -> None:
    """Raises ServerError unless a Postgres server accepts a connection within `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            connection = await asyncpg.connect(dsn)
            await connection.close()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _no_answer("VIBE_POSTGRES_DSN", "a Postgres server", dsn, timeout_s, error) from error


def _no_answer(setting: str, what: str, url: str, timeout_s: float, error: Exception) -> ServerError:
    return ServerError(
        f"{setting}: expected {what} to answer at {_without_password(url)} within {timeout_s:g} s, "
        f"got {type(error).__name__}: {error}. Start that server, correct the setting, "
        f"or remove {setting} to use the embedded one"
    )


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0])
