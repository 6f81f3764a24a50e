"""The connection to NATS: the one module that knows the client library and the server's error codes."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from streams.errors import ConflictError, DuplicateError, LogError, RefusedError, UnavailableError

log = structlog.get_logger()

CONFLICT = frozenset({10071, 10164})
DUPLICATE = frozenset({10201})
BUSY = frozenset({10210, 10008, 10009, 10023, 10039, 10047, 10077})
"""Too many batches in flight, no leader, insufficient resources, storage trouble: these pass with time."""
NOT_FOUND = frozenset({10014, 10037, 10059})


class Connection:
    """One NATS connection that reconnects for ever. Requests raise our errors, never the library's."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def api(self, subject: str, body: Mapping[str, Any] | None = None, *, timeout: float = 5.0) -> dict[str, Any]:
        """Call `$JS.API.<subject>`; returns the decoded answer. Raises UnavailableError or RefusedError."""
        payload = msgspec.json.encode(body) if body is not None else b""
        message = await self.request(f"$JS.API.{subject}", payload, timeout=timeout)
        answer: dict[str, Any] = msgspec.json.decode(message.data)
        if "error" in answer:
            raise error_of(answer["error"], subject)
        return answer

    async def request(
        self, subject: str, payload: bytes = b"", *, headers: dict[str, str] | None = None, timeout: float = 5.0
    ) -> Msg:
        """One request and its answer. Raises UnavailableError when nobody answers in time."""
        try:
            return await self.client.request(subject, payload, timeout=timeout, headers=headers)
        except (nats.errors.TimeoutError, TimeoutError) as error:
            raise UnavailableError(f"{subject}: no answer within {timeout:g} s") from error
        except nats.errors.NoRespondersError as error:
            raise UnavailableError(f"{subject}: nobody answers; is JetStream running?") from error
        except nats.errors.MaxPayloadError as error:
            raise RefusedError(f"{subject}: {len(payload):,} bytes are more than the server's max_payload") from error
        except nats.errors.Error as error:
            raise UnavailableError(f"{subject}: {error or type(error).__name__}") from error

    async def publish(
        self, subject: str, payload: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        try:
            await self.client.publish(subject, payload, reply=reply, headers=headers)
        except nats.errors.MaxPayloadError as error:
            raise RefusedError(f"{subject}: {len(payload):,} bytes are more than the server's max_payload") from error
        except nats.errors.Error as error:
            raise UnavailableError(f"{subject}: {error or type(error).__name__}") from error

    async def subscribe(self, subject: str, callback: Callable[[Msg], Awaitable[None]]) -> Any:
        return await self.client.subscribe(
            subject, cb=callback, pending_msgs_limit=1_000_000, pending_bytes_limit=512 * 1024 * 1024
        )

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and made again."""
        return self.client.stats["reconnects"]

    def inbox(self) -> str:
        return self.client.new_inbox()

    async def close(self) -> None:
        await self.client.close()


def error_of(error: Mapping[str, Any], subject: str, expected: int = 0) -> LogError:
    """Our error for an answer of the server."""
    code, text = int(error.get("err_code", 0)), str(error.get("description", ""))
    if code in CONFLICT:
        found = re.search(r"(\d+)$", text)
        return ConflictError(subject, expected, int(found[1]) if found else None)
    if code in DUPLICATE:
        return DuplicateError(f"{subject}: {text}")
    if code in BUSY or int(error.get("code", 0)) in (429, 503):
        return UnavailableError(f"{subject}: {text} ({code})")
    return RefusedError(f"{subject}: {text} ({code})", code)


async def connect(url: str, name: str) -> Connection:
    """Connect, retrying the first attempt for 30 s; afterwards the client reconnects for ever."""

    async def on_error(error: Exception) -> None:
        log.warning("nats.error", connection=name, error=str(error) or type(error).__name__)

    async def on_disconnect() -> None:
        log.info("nats.disconnected", connection=name)

    async def on_reconnect() -> None:
        log.info("nats.reconnected", connection=name)

    deadline = asyncio.get_running_loop().time() + 30
    while True:
        try:
            async with asyncio.timeout(5):
                client = await nats.connect(
                    url,
                    name=name,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,
                    connect_timeout=2,
                    drain_timeout=2,
                    pending_size=64 * 1024 * 1024,
                    error_cb=on_error,
                    disconnected_cb=on_disconnect,
                    reconnected_cb=on_reconnect,
                )
            return Connection(client)
        except (OSError, nats.errors.Error, TimeoutError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise UnavailableError(f"no NATS server answers at {url}: {error}") from error
            await asyncio.sleep(0.25)
