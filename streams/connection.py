"""The connection to NATS: the one module that knows the client library and the server's error codes."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from streams import metrics
from streams.errors import ConflictError, DuplicateError, LogError, RefusedError, UnavailableError
from streams.login import login_of, shown, tls_of, without_query
from streams.nats_protocol import ClientParser, Sink
from streams.retry import RetryPolicy

log = structlog.get_logger()

CONFLICT = frozenset({10071, 10164})
DUPLICATE = frozenset({10201})
BUSY = frozenset({10210, 10008, 10009, 10023, 10039, 10047, 10049, 10077, 10176})
"""Too many batches in flight, no leader, insufficient resources, storage trouble (also a stream whose folder is still
being removed), a batch that lost its beginning to a change of leader: these pass with time."""
NO_PEERS, PEER_OFFLINE = 10005, "peer offline"
"""There is no place for all replicas of a stream: this passes only if that is because a node is away."""
NOT_FOUND = frozenset({10014, 10037, 10059})
"""docs/nats.md, error codes, lists all of these."""

PING_SECONDS = 3.0
"""Between pings to the server. After two of them without an answer the connection counts as lost: a server that is gone
without closing it, behind a router that forgot it for example, is noticed within ten seconds."""

_FIRST_CONNECTION = RetryPolicy(first_delay=0.25, factor=1.0, longest_delay=0.25, give_up_after=30.0)


class ClientInternals:
    """Every private part of nats-py that this package uses, because no public one does the job.

    `tests/streams/test_nats_py_internals.py` holds them to the installed version.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def insert_parser(self) -> ClientParser:
        """Put our parser in front of the library's: it has no way to take messages before an object is made of each."""
        parser = ClientParser(self._client._ps)
        self._client._ps = cast(Any, parser)
        return parser

    def present(self, public_key: str) -> None:
        """Log in with this nkey: the library takes a seed only through a package of its own."""
        self._client._public_nkey = public_key

    async def write(self, commands: bytes) -> None:
        """Write protocol text at once: `publish` writes one message at a time, at three times the cost."""
        await self._client._send_command(commands)
        await self._client._flush_pending()

    @staticmethod
    def subscription_id(subscription: Any) -> bytes:
        """The id under which the server delivers: it is in each MSG line, and no public attribute has it."""
        return str(subscription._id).encode()


class Connection:
    """One NATS connection that reconnects for ever. Requests raise this package's errors, never the library's."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._internals = ClientInternals(client)
        self._parser = self._internals.insert_parser()

    @property
    def name(self) -> str:
        """The connection's name, as `nats server report connections` shows it."""
        return str(self.client.options["name"])

    @property
    def max_payload(self) -> int:
        """The largest message that the server takes, in bytes, headers included."""
        return int(self.client.max_payload)

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
        """One request and its answer. Raises UnavailableError when there is no answer in time.

        Nothing is sent while there is no connection: the library would keep it, and after the reconnect the server
        would carry out what no caller waits for any more.
        """
        await self._connected(timeout, subject)
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        try:
            answer = await self.client.request(subject, payload, timeout=timeout, headers=headers)
            if task is not None and task.cancelling() > cancelled:
                # The library waits with asyncio.wait_for, which drops a cancellation that meets the answer.
                raise asyncio.CancelledError
            return answer
        except (nats.errors.TimeoutError, TimeoutError) as error:
            raise UnavailableError(f"{subject}: no answer within {timeout:g} s") from error
        except nats.errors.NoRespondersError as error:
            raise UnavailableError(f"{subject}: no responders; is JetStream running?") from error
        except nats.errors.MaxPayloadError as error:
            raise RefusedError(f"{subject}: {len(payload):,} bytes are more than the server's max_payload") from error
        except nats.errors.Error as error:
            raise UnavailableError(f"{subject}: {error or type(error).__name__}") from error

    async def publish(
        self, subject: str, payload: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send a message. Raises UnavailableError when not connected, RefusedError for too large ones."""
        if not self.client.is_connected:
            raise UnavailableError("not connected to NATS")
        try:
            await self.client.publish(subject, payload, reply=reply, headers=headers)
        except nats.errors.MaxPayloadError as error:
            raise RefusedError(f"{subject}: {len(payload):,} bytes are more than the server's max_payload") from error
        except nats.errors.Error as error:
            raise UnavailableError(f"{subject}: {error or type(error).__name__}") from error

    async def _connected(self, timeout: float, subject: str) -> None:
        # A poll, not a retry: nothing is attempted, and the library does not notify of a reconnect at every place.
        now = asyncio.get_running_loop().time
        deadline = now() + timeout
        while not self.client.is_connected:
            if now() > deadline or self.client.is_closed:
                raise UnavailableError(f"{subject}: not connected to NATS")
            await asyncio.sleep(0.02)

    async def publish_block(self, messages: Sequence[tuple[str, bytes, bytes]]) -> None:
        """Write many messages (subject, header block, payload) at once, at a third of the cost of `publish`.

        They are never buffered over a reconnect. Raises UnavailableError when not connected, RefusedError when one is
        too large.
        """
        client = self.client
        if not client.is_connected:
            raise UnavailableError("not connected to NATS")
        commands = []
        for subject, headers, payload in messages:
            size = len(headers) + len(payload)
            if size > client.max_payload:
                raise RefusedError(f"{subject}: {size:,} bytes are more than the server's max_payload")
            commands.append(b"HPUB %b %d %d\r\n%b%b\r\n" % (subject.encode(), len(headers), size, headers, payload))
        await self._internals.write(b"".join(commands))

    async def flushed(self, timeout: float = 10.0) -> None:
        """Wait until the server has taken everything that was written. Raises UnavailableError."""
        try:
            await self.client.flush(timeout=int(timeout))
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError(f"the server takes nothing: {error or type(error).__name__}") from error

    async def subscribe(self, subject: str, callback: Callable[[Msg], Awaitable[None]]) -> Any:
        return await self.client.subscribe(
            subject, cb=callback, pending_msgs_limit=1_000_000, pending_bytes_limit=512 * 1024 * 1024
        )

    async def subscribe_blocks(self, subject: str, sink: Sink) -> Any:
        """Subscribe to an inbox whose messages `sink` receives in blocks, at a tenth of the cost of `subscribe`."""
        subscription = await self.client.subscribe(subject)
        self._parser.sinks[self._internals.subscription_id(subscription)] = sink
        return subscription

    async def unsubscribe_blocks(self, subscription: Any) -> None:
        self._parser.sinks.pop(self._internals.subscription_id(subscription), None)
        await subscription.unsubscribe()

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and re-established."""
        return self.client.stats["reconnects"]

    def inbox(self) -> str:
        return self.client.new_inbox()

    async def close(self) -> None:
        await self.client.close()


def error_of(error: Mapping[str, Any], subject: str, expected: int = 0) -> LogError:
    """This package's error for an error in an answer of the server."""
    code, text = int(error.get("err_code", 0)), str(error.get("description", ""))
    if code in CONFLICT:
        found = re.search(r"(\d+)$", text)
        return ConflictError(subject, expected, int(found[1]) if found else None)
    if code in DUPLICATE:
        return DuplicateError(f"{subject}: {text}")
    if code in BUSY or int(error.get("code", 0)) in (429, 503) or (code == NO_PEERS and PEER_OFFLINE in text):
        return UnavailableError(f"{subject}: {text} ({code})")
    return RefusedError(f"{subject}: {text} ({code})", code)


def _credentials(client: Client, url: str) -> dict[str, Any]:
    """The options of the library's `connect` that say where the servers are, whom to trust and who logs in."""
    login, tls = login_of(url), tls_of(url)
    encrypted = {} if tls is None else {"tls": tls}
    if login is not None:
        ClientInternals(client).present(login.key.public)
        return {
            "servers": login.servers,
            "user": login.role,
            "signature_cb": lambda nonce: login.key.sign(nonce.encode()),
            "inbox_prefix": login.inbox,
            **encrypted,
        }
    servers = without_query(url).split(",")
    parts = urlsplit(servers[0])
    if parts.password is None:
        return {"servers": servers, **encrypted}
    # The library does not use what a URL holds for servers that it discovers.
    return {
        "servers": servers,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password),
        **encrypted,
    }


async def connect(url: str, name: str, *, ping_seconds: float = PING_SECONDS) -> Connection:
    """Connect, retrying for 30 s; afterwards the client reconnects for ever.

    A server that does not answer for three times `ping_seconds` is taken for lost. `url` may hold several servers of a
    cluster, separated by commas, and the role that logs in (streams/login.py). Raises UnavailableError, and
    RefusedError for a role without its key.
    """

    async def on_error(error: Exception) -> None:
        text = str(error) or type(error).__name__
        if "permissions violation" in text.lower():
            metrics.DENIED.inc()
            log.error("nats.denied", connection=name, role=role, error=text)
            return
        log.warning("nats.error", connection=name, error=text)

    async def on_disconnect() -> None:
        log.info("nats.disconnected", connection=name)

    async def on_reconnect() -> None:
        log.info("nats.reconnected", connection=name)

    backoff = _FIRST_CONNECTION.start()
    while True:
        client = Client()
        credentials = _credentials(client, url)
        role = credentials.get("user")
        try:
            async with asyncio.timeout(5):
                await client.connect(
                    **credentials,
                    name=name,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=cast(int, 0.25),
                    connect_timeout=2,
                    drain_timeout=2,
                    ping_interval=cast(int, ping_seconds),
                    max_outstanding_pings=2,
                    pending_size=64 * 1024 * 1024,
                    error_cb=on_error,
                    disconnected_cb=on_disconnect,
                    reconnected_cb=on_reconnect,
                )
            return Connection(client)
        except (OSError, nats.errors.Error, TimeoutError) as error:
            if backoff.is_over:
                raise UnavailableError(f"no NATS server answers at {shown(url)}: {error}") from error
        await backoff.sleep()
