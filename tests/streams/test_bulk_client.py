"""The parser against recorded bytes in every possible pieces, and the handshake with real servers."""

import asyncio
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateways.embedded.nats_server import binary
from gateways.embedded.ports import HOST, free
from gateways.embedded.process import Command, Process
from streams.bulk_client import Address, Arrived, Parser, addresses, connect
from streams.errors import RefusedError, UnavailableError
from tests.streams.own_ports import own_ports

HEADERS = b"NATS/1.0\r\nNats-Msg-Id: evt_1\r\nNats-Batch-Sequence: 1\r\n\r\n"
LOOKS_LIKE_PROTOCOL = b"\r\nPING\r\nMSG a 1 b 5\r\nhello\r\nHMSG a 1 b 12 17\r\nNATS/1.0\r\n\r\nhello\r\n-ERR 'no'\r\n"


def msg(subject: bytes, reply: bytes, payload: bytes) -> bytes:
    return b"MSG %b 2 %b%d\r\n%b\r\n" % (subject, reply and reply + b" ", len(payload), payload)


def hmsg(subject: bytes, reply: bytes, payload: bytes, headers: bytes = HEADERS) -> bytes:
    total = len(headers) + len(payload)
    return b"HMSG %b 2 %b%d %d\r\n%b%b\r\n" % (subject, reply and reply + b" ", len(headers), total, headers, payload)


class Heard:
    """What a parser told; `arrived` are its deliveries."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.answers: list[tuple[bytes, bytes, bytes, bytes]] = []
        self.parser = Parser(self.lines.append, lambda *answer: self.answers.append(answer))

    @property
    def arrived(self) -> Arrived:
        return self.parser.arrived

    def feed(self, data: bytes, size: int) -> "Heard":
        for start in range(0, len(data), size):
            self.parser.feed(data[start : start + size])
        return self


RECORDED = b"".join(
    [
        b'INFO {"server_id":"X","headers":true,"version":"2.15.1 of today"}\r\n',
        b"PONG\r\n",
        msg(b"raw.1", b"$JS.ACK.S.C.1.1.1.7.4", b"plain"),
        hmsg(b"raw.2", b"$JS.ACK.S.C.1.2.2.7.3", b"with headers"),
        b"PING\r\n",
        hmsg(b"raw.3", b"$JS.ACK.S.C.1.3.3.7.2", LOOKS_LIKE_PROTOCOL),
        msg(b"raw.4", b"$JS.ACK.S.C.1.4.4.7.1", LOOKS_LIKE_PROTOCOL),
        hmsg(b"_INBOX.a.pull", b"", b"", b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\n\r\n"),
        msg(b"_INBOX.a.answer.1", b"", b'{"type":"x"}'),
        hmsg(b"raw.5", b"$JS.ACK.S.C.1.5.5.7.0", b""),
        msg(b"raw.6", b"$JS.ACK.S.C.1.6.6.7.0", b""),
        b"-ERR 'Permissions Violation for Publish to \"a b\"'\r\n",
    ]
)


def test_any_pieces_give_the_same_messages() -> None:
    for size in range(1, len(RECORDED) + 1):
        heard = Heard().feed(RECORDED, size)
        assert heard.arrived.subjects == [b"raw.1", b"raw.2", b"raw.3", b"raw.4", b"raw.5", b"raw.6"], size
        assert heard.arrived.replies == [
            *(b"$JS.ACK.S.C.1.%d.%d.7.%d" % (number, number, 5 - number) for number in range(1, 6)),
            b"$JS.ACK.S.C.1.6.6.7.0",
        ]
        assert heard.arrived.payloads == [b"plain", b"with headers", LOOKS_LIKE_PROTOCOL, LOOKS_LIKE_PROTOCOL, b"", b""]
        assert heard.answers == [
            (b"_INBOX.a.pull", b"2", b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\n\r\n", b""),
            (b"_INBOX.a.answer.1", b"2", b"", b'{"type":"x"}'),
        ]
        assert heard.lines == [
            b'INFO {"server_id":"X","headers":true,"version":"2.15.1 of today"}',
            b"PONG",
            b"PING",
            b"-ERR 'Permissions Violation for Publish to \"a b\"'",
        ]


def test_a_message_is_given_with_its_last_byte_and_not_before() -> None:
    whole = hmsg(b"raw.1", b"$JS.ACK.S.C.1.1.1.7.0", b"payload")
    heard = Heard()
    heard.parser.feed(whole[:-1])
    assert heard.arrived.payloads == []
    heard.parser.feed(whole[-1:])
    assert heard.arrived.payloads == [b"payload"]


def test_a_large_message_in_small_pieces_is_put_together_once() -> None:
    payload = bytes(range(256)) * 4096
    heard = Heard()
    copied = 0
    parse = heard.parser._parse

    def counted(data: bytes) -> tuple[int, int]:
        nonlocal copied
        copied += len(data)
        return parse(data)

    heard.parser._parse = counted  # type: ignore[method-assign]
    heard.feed(msg(b"raw.1", b"$JS.ACK.S.C.1.1.1.7.0", payload), 1000)
    assert heard.arrived.payloads == [payload]
    assert copied < 1.1 * len(payload)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nats://a:4223", [Address("a", 4223, False, {})]),
        ("a", [Address("a", 4222, False, {})]),
        ("tls://u:p%40ss@a", [Address("a", 4222, True, {"user": "u", "pass": "p@ss"})]),
        ("nats://secret@a, b:1", [Address("a", 4222, False, {"auth_token": "secret"}), Address("b", 1, False, {})]),
    ],
)
def test_urls(url: str, expected: list[Address]) -> None:
    assert addresses(url) == expected


@pytest.mark.parametrize("url", ["", "http://a", "nats://", "nats://u:secret@a:port", "nats://a,,b"])
def test_what_is_no_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(RefusedError, match="nats://host:port") as refused:
        addresses(url)
    assert "secret" not in str(refused.value)


@asynccontextmanager
async def nats_server(folder: Path, *args: str) -> AsyncIterator[str]:
    """A nats-server with these arguments; `host:port` of it."""
    port = own_ports(1)[0]
    command = Command(
        program=binary(),
        args=("-a", HOST, "-p", str(port), *args),
        log=folder / "nats.log",
        stop_signal=signal.SIGTERM,
    )
    process = Process(command)
    try:
        async with asyncio.timeout(10):
            while free(port):
                assert process.exit_code is None, process.tail()
                await asyncio.sleep(0.01)
        yield f"{HOST}:{port}"
    finally:
        await process.stop()


@asynccontextmanager
async def says(*lines: bytes) -> AsyncIterator[str]:
    """A server that answers whatever it hears with these lines; `host:port` of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in lines:
            writer.write(line)
            await reader.read(1000)
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_users_and_passwords(tmp_path: Path) -> None:
    async with nats_server(tmp_path, "--user", "reader", "--pass", "se:cret/") as at:
        (await connect(f"nats://reader:se%3Acret%2F@{at}", "t")).close()
        for wrong in ("reader:wrong@", "reader@", ""):
            with pytest.raises(RefusedError, match="Authorization Violation") as refused:
                await connect(f"nats://{wrong}{at}", "t")
            assert at in str(refused.value)
            assert "wrong" not in str(refused.value)


async def test_tokens(tmp_path: Path) -> None:
    async with nats_server(tmp_path, "--auth", "s3cret") as at:
        (await connect(f"nats://s3cret@{at}", "t")).close()
        with pytest.raises(RefusedError, match="Authorization Violation"):
            await connect(f"nats://guess@{at}", "t")


async def test_the_next_server_is_tried(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as at:
        (await connect(f"nats://{HOST}:1,nats://{at}", "t")).close()


async def test_nobody_there_names_every_server() -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1.*127\.0\.0\.1:2"):
        await connect(f"nats://{HOST}:1,nats://{HOST}:2", "t")


async def test_something_else_than_nats() -> None:
    async with says(b"HTTP/1.1 400 Bad Request\r\n\r\n") as at:
        with pytest.raises(UnavailableError, match="not the NATS protocol"):
            await connect(f"nats://{at}", "t")


async def test_a_server_that_says_nothing() -> None:
    async with says(b"") as at:
        with pytest.raises(UnavailableError, match=f"{at}: no answer"):
            await connect(f"nats://{at}", "t", timeout=0.1)


async def test_pings_are_answered_and_the_first_failure_is_kept() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO {}\r\n")
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\nPING\r\n")
        await reader.readuntil(b"PONG\r\n")
        writer.write(b"-ERR 'Stale Connection'\r\n")
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        wire = await connect(f"nats://{HOST}:{server.sockets[0].getsockname()[1]}", "t")
        await asyncio.sleep(0.1)  # the connection is closed by now, which is only a consequence
        with pytest.raises(UnavailableError, match="Stale Connection"):
            await wire.wait(5)
        wire.close()


async def test_a_request_that_nobody_answers(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as at:
        wire = await connect(f"nats://{at}", "t")
        with pytest.raises(UnavailableError, match="is JetStream running"):
            await wire.api("INFO")
        wire.close()


async def test_a_request_that_is_forbidden_says_so_at_once(tmp_path: Path) -> None:
    conf = tmp_path / "nats.conf"
    conf.write_text('authorization { users = [{ user: u, password: p, permissions: { publish: { deny: ">" } } }] }')
    async with nats_server(tmp_path, "-c", str(conf)) as at:
        wire = await connect(f"nats://u:p@{at}", "t")
        with pytest.raises(RefusedError, match=r'Permissions Violation for Publish to "\$JS\.API\.INFO"'):
            await wire.api("INFO")
        wire.close()


async def test_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    make = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=nats \
        -addext subjectAltName=IP:{HOST} -keyout {key} -out {certificate}"
    subprocess.run(make.split(), check=True, capture_output=True)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with nats_server(tmp_path, "--tls", "--tlscert", str(certificate), "--tlskey", str(key)) as at:
        for scheme in ("tls", "nats"):  # the server insists, whatever the URL says
            wire = await connect(f"{scheme}://{at}", "t", tls=trusting)
            with pytest.raises(UnavailableError, match="is JetStream running"):
                await wire.api("INFO")
            wire.close()
        with pytest.raises(RefusedError, match="self-signed certificate"):
            await connect(f"tls://{at}", "t")
    async with nats_server(tmp_path) as at:
        with pytest.raises(UnavailableError):  # never a password in the clear where TLS was asked for
            await connect(f"tls://u:p@{at}", "t", tls=trusting, timeout=2)
