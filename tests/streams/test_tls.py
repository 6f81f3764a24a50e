"""TLS between clients and nats-server: only 1.3, only certificates that the URL trusts, renewed ones at a reload."""

import asyncio
import os
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gateways.embedded.nats_server import binary
from gateways.embedded.ports import HOST
from gateways.embedded.process import Command, Process
from streams import bulk_client
from streams.connection import connect
from streams.errors import RefusedError
from streams.login import as_role, login_of, tls_of, with_keys
from tests.repository import ROOT
from tests.streams.own_ports import own_ports
from vibe.app.nats_roles import Certificate, configuration, make_keys


class Server(NamedTuple):
    url: str
    folder: Path
    process: Process


def certificate(folder: Path, name: str) -> Certificate:
    """A certificate of its own for the address of the server."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{HOST}"]
    subprocess.run([*command, "-keyout", made.key, "-out", made.certificate], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    folder = tmp_path_factory.mktemp("tls")
    make_keys(folder / "keys")
    conf, (port,) = folder / "nats.conf", own_ports(1)
    text = configuration((ROOT / "nats.conf").read_text(), folder / "keys", certificate(folder, "server"))
    conf.write_text(text)
    command = Command(
        program=binary(),
        args=("-c", str(conf), "-a", HOST, "-p", str(port), "-sd", str(folder / "store")),
        log=folder / "nats.log",
        stop_signal=signal.SIGTERM,
    )
    process = Process(command)
    try:
        made = Server(f"tls://{HOST}:{port}", folder, process)
        await (await connect(trusting(made, "server"), "tests")).close()
        yield made
    finally:
        await process.stop()


def trusting(server: Server, name: str) -> str:
    """The URL of a role that trusts the certificate of this name."""
    return as_role(with_keys(server.url, server.folder / "keys") + f"&ca={server.folder / name}.pem", "web")


async def test_both_clients_log_in_over_tls(server: Server) -> None:
    connection = await connect(trusting(server, "server"), "tests")
    bulk = await bulk_client.connect(trusting(server, "server"), "tests")
    try:
        assert connection.client.is_connected
        assert _version_of(bulk) == "TLSv1.3"
    finally:
        bulk.close()
        await connection.close()


async def test_a_certificate_that_is_not_trusted_is_refused(server: Server) -> None:
    certificate(server.folder, "stranger")
    with pytest.raises(RefusedError, match="self-signed certificate"):
        await bulk_client.connect(trusting(server, "stranger"), "tests")


async def test_an_older_version_of_tls_is_refused(server: Server) -> None:
    context = ssl.create_default_context(cafile=str(server.folder / "server.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    reader, writer = await asyncio.open_connection(HOST, int(server.url.rpartition(":")[2]))
    assert (await reader.readline()).startswith(b"INFO ")
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        await writer.start_tls(context, server_hostname=HOST)
    writer.close()


async def test_a_renewed_certificate_is_used_after_a_reload(server: Server) -> None:
    renewed = certificate(server.folder, "renewed")
    os.replace(renewed.key, server.folder / "server.key")
    (server.folder / "server.pem").write_bytes(renewed.certificate.read_bytes())
    os.kill(server.process.pid, signal.SIGHUP)
    async with asyncio.timeout(10):
        while True:
            try:
                (await bulk_client.connect(trusting(server, "renewed"), "tests")).close()
                return
            except RefusedError:
                await asyncio.sleep(0.1)


def test_a_url_without_certificates_uses_those_of_the_system_and_a_missing_file_is_named(tmp_path: Path) -> None:
    assert tls_of("tls://a:4222") is None
    assert login_of("tls://a:4222") is None
    with pytest.raises(RefusedError, match=r"trusts the certificates in .*none\.pem, which cannot be read"):
        tls_of(f"tls://a:4222?ca={tmp_path}/none.pem")


def _version_of(bulk: bulk_client.BulkConnection) -> str:
    assert bulk._transport is not None
    return str(bulk._transport.get_extra_info("ssl_object").version())
