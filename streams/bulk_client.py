"""A NATS connection for readers of millions of messages: parsed in blocks, without an object or a task per message.

The client library spends two tasks on every fetched message. Here a message costs one pass of a short loop, and what
all messages share is done for a whole block at once. Everything else of a client is left out: one connection, no
reconnecting, two subscriptions.
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import msgspec

from streams.connection import error_of
from streams.errors import LogError, RefusedError, UnavailableError
from streams.login import Login, login_of, tls_of, without_query
from streams.nats_protocol import BlockParser, Deliveries, split_message

_ANSWERS, _DELIVERIES = b"1", b"2"
_REFUSED = re.compile(r"authorization|authentication (expired|revoked)|permissions violation|tls required", re.I)
"""The -ERR lines that a retry does not cure."""


class Address(NamedTuple):
    """One server of a URL, and the credentials for CONNECT."""

    host: str
    port: int
    tls: bool
    login: dict[str, str]

    def __str__(self) -> str:
        return f"{'tls' if self.tls else 'nats'}://{self.host}:{self.port}"


def addresses(url: str) -> list[Address]:
    """The servers of `nats://[user:password@|token@]host[:port]`, also tls://, several separated by commas."""
    found = []
    for one in url.split(","):
        parts = urlsplit(one.strip() if "://" in one else f"nats://{one.strip()}")
        try:
            port = parts.port or 4222
        except ValueError:
            port = 0
        if parts.scheme not in ("nats", "tls") or not parts.hostname or not port:
            # The URL is not shown: it may hold a password.
            raise RefusedError("a server's URL is nats://host:port or tls://host:port, several separated by commas")
        login = {}
        if parts.password is not None:
            login = {"user": unquote(parts.username or ""), "pass": unquote(parts.password)}
        elif parts.username:
            login = {"auth_token": unquote(parts.username)}
        found.append(Address(parts.hostname, port, parts.scheme == "tls", login))
    return found


async def connect(url: str, name: str, *, tls: ssl.SSLContext | None = None, timeout: float = 5.0) -> "BulkConnection":
    """Connect to the first server of the URL that accepts the credentials; `timeout` is for each.

    `tls` holds the certificates to trust, those of the URL or the system's unless given. Raises RefusedError
    (credentials) or UnavailableError (no server answers) with the error of each server.
    """
    failures: list[LogError] = []
    login, tls = login_of(url), tls or tls_of(url)
    for address in addresses(",".join(login.servers) if login else without_query(url)):
        connection = BulkConnection(login)
        try:
            async with asyncio.timeout(timeout):
                await connection.open(address, name, tls)
            return connection
        except LogError as error:
            failures.append(error)
        except ssl.SSLCertVerificationError as error:
            failures.append(RefusedError(f"{address}: {error.verify_message}"))
        except (OSError, TimeoutError) as error:
            failures.append(UnavailableError(f"{address}: {str(error) or 'no answer'}"))
        except BaseException:
            connection.close()
            raise
        connection.close()
    kind = RefusedError if any(isinstance(failure, RefusedError) for failure in failures) else UnavailableError
    raise kind("; ".join(map(str, failures)))


class BulkConnection(asyncio.Protocol):
    """One connection. `received` counts its bytes."""

    def __init__(self, login: Login | None = None) -> None:
        self._login = login
        self._parser = BlockParser((_DELIVERIES,), self._on_line, self._on_answer)
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._info: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pongs: list[asyncio.Future[None]] = []
        self._requests: dict[bytes, asyncio.Future[tuple[bytes, bytes]]] = {}
        self._numbers = itertools.count(1)
        self._inbox = f"{login.inbox if login else '_INBOX'}.{os.urandom(11).hex()}"
        self._changed = asyncio.Event()
        self._failure: LogError | None = None
        self.info: dict[str, Any] = {}
        self.received = 0

    async def open(self, address: Address, name: str, tls: ssl.SSLContext | None) -> None:
        """Do the handshake and subscribe to the inbox. Raises LogError, OSError or ValueError; call once."""
        loop = asyncio.get_running_loop()
        self._address = str(address)
        await loop.create_connection(lambda: self, address.host, address.port)
        self.info = await self._info
        if address.tls or self.info.get("tls_required"):
            assert self._transport is not None
            context = tls or ssl.create_default_context()
            upgraded = await loop.start_tls(self._transport, self, context, server_hostname=address.host)
            self._transport = cast(asyncio.Transport, upgraded)
        hello = {
            "verbose": False, "pedantic": False, "protocol": 1, "headers": True, "no_responders": True,
            "lang": "python", "version": "1", "name": name, "tls_required": address.tls, **address.login,
            **self._signed(),
        }  # fmt: skip
        # Nothing more is written before the PONG: a write to a server that has hung up would hide the -ERR it sent.
        await self._ping(b"CONNECT %b\r\n" % json.dumps(hello).encode())
        inbox = self._inbox.encode()
        self.write(b"SUB %b.answer.* %b\r\nSUB %b.pull %b\r\n" % (inbox, _ANSWERS, inbox, _DELIVERIES))

    def _signed(self) -> dict[str, str]:
        """What CONNECT holds of a role: its public key, and its signature of the server's nonce."""
        if self._login is None:
            return {}
        signature = self._login.key.sign(self.info.get("nonce", "").encode())
        return {"nkey": self._login.key.public, "sig": signature.decode()}

    async def api(self, subject: str, body: Mapping[str, Any] | None = None, *, timeout: float = 5.0) -> dict[str, Any]:
        """Call `$JS.API.<subject>`; returns the decoded answer. Raises UnavailableError or RefusedError."""
        payload = json.dumps(body).encode() if body else b""
        answer: dict[str, Any] = msgspec.json.decode(await self.request(f"$JS.API.{subject}", payload, timeout=timeout))
        if "error" in answer:
            raise error_of(answer["error"], subject)
        return answer

    async def request(self, subject: str, payload: bytes, *, headers: bytes = b"", timeout: float = 5.0) -> bytes:
        """One request and the payload of its answer. Raises UnavailableError when there is none."""
        self._check()
        number = b"%d" % next(self._numbers)
        answer: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()
        self._requests[number] = answer
        self.publish(subject.encode(), payload, b"%b.answer.%b" % (self._inbox.encode(), number), headers)
        try:
            async with asyncio.timeout(timeout):
                status, answered = await answer
        except TimeoutError:
            raise UnavailableError(f"{subject}: no answer within {timeout:g} s") from None
        finally:
            del self._requests[number]
        if status.startswith(b"NATS/1.0 503"):
            raise UnavailableError(f"{subject}: no responders; is JetStream running at {self._address}?")
        return answered

    def pull(self, stream: str, consumer: str, body: Mapping[str, int]) -> None:
        """Ask a consumer for messages; they arrive in `take()`, with the server's statuses."""
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}".encode()
        self.publish(subject, json.dumps(body).encode(), f"{self._inbox}.pull".encode())

    def publish(self, subject: bytes, payload: bytes, reply: bytes = b"", headers: bytes = b"") -> None:
        """Send a message; `headers` is the whole block, from NATS/1.0 to the empty line."""
        if headers:
            size = len(headers) + len(payload)
            self.write(b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, len(headers), size, headers, payload))
        else:
            self.write(b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload))

    def take(self) -> Deliveries:
        """The deliveries and statuses since the last call."""
        return self._parser.arrived.pop(_DELIVERIES, None) or Deliveries.none()

    async def wait(self, seconds: float) -> bool:
        """True when deliveries or statuses arrived within so many seconds. LogError when the connection is lost."""
        if not self.has_deliveries:
            self._check()
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        if not self.has_deliveries:
            self._check()
        return self.has_deliveries

    def close(self) -> None:
        self._fail(UnavailableError(f"{self._address}: closed"))
        if self._transport is not None:
            self._transport.abort()

    def write(self, data: bytes) -> None:
        """Send protocol text as it is."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        try:
            self._parser.feed(data)
        except ValueError as error:
            self._fail(UnavailableError(f"{self._address}: this is not the NATS protocol: {error}"))
            self.close()
        if self.has_deliveries:
            self._changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(UnavailableError(f"{self._address}: connection lost: {error or 'closed by the server'}"))

    @property
    def has_deliveries(self) -> bool:
        """True when deliveries or statuses wait to be taken."""
        return _DELIVERIES in self._parser.arrived

    def _on_line(self, line: bytes) -> None:
        verb, _, rest = line.removesuffix(b"\n").removesuffix(b"\r").partition(b" ")
        if verb == b"PING":
            self.write(b"PONG\r\n")
        elif verb == b"PONG":
            if self._pongs and not (pong := self._pongs.pop(0)).done():
                pong.set_result(None)
        elif verb == b"INFO":
            if not self._info.done():
                self._info.set_result(json.loads(rest))
        elif verb == b"-ERR":
            text = rest.decode(errors="replace").strip("'")
            kind = RefusedError if _REFUSED.search(text) else UnavailableError
            self._fail(kind(f"{self._address}: {text}"))
        elif verb != b"+OK":
            raise ValueError(repr(line[:40]))

    def _on_answer(self, head: list[bytes], piece: bytes) -> None:
        answer = self._requests.get(head[1].rpartition(b".")[2])
        if answer is not None and not answer.done():
            answer.set_result(split_message(head, piece))

    async def _ping(self, before: bytes = b"") -> None:
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._check()
        self._pongs.append(pong)
        self.write(before + b"PING\r\n")
        await pong

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self, failure: LogError) -> None:
        # The first failure says why; that the connection is lost is only its consequence.
        self._failure = self._failure or failure
        waiting: list[asyncio.Future[Any]] = [self._info, *self._pongs, *self._requests.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(self._failure)
                future.exception()  # marks it as retrieved, in case no caller waits for it any more
        self._changed.set()
