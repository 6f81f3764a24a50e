"""The bulk connection: addresses, the handshake with real servers, and what it reports when it fails."""

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
from streams.bulk_client import Address, addresses, connect
from streams.errors import RefusedError, UnavailableError
from tests.streams.own_ports import own_ports


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
def test_an_invalid_url_is_refused_without_showing_it(url: str) -> None:
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
async def answering(*lines: bytes) -> AsyncIterator[str]:
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


async def test_an_unreachable_url_names_every_server() -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1.*127\.0\.0\.1:2"):
        await connect(f"nats://{HOST}:1,nats://{HOST}:2", "t")


async def test_a_server_of_another_protocol() -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as at:
        with pytest.raises(UnavailableError, match="not the NATS protocol"):
            await connect(f"nats://{at}", "t")


async def test_a_server_that_does_not_answer() -> None:
    async with answering(b"") as at:
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


async def test_a_request_without_a_responder(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as at:
        wire = await connect(f"nats://{at}", "t")
        with pytest.raises(UnavailableError, match="is JetStream running"):
            await wire.api("INFO")
        wire.close()


async def test_a_request_without_permission_fails_at_once(tmp_path: Path) -> None:
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
