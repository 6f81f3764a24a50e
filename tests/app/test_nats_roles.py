"""Who may do what in NATS: every subject that a process uses, tried by every role on one server.

The table states who may publish to a subject. Nothing is stored: the server has no streams, and answers or refuses.
"""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import nats
import pytest
import structlog
from nats.aio.client import Client

from gateways.embedded.nats_server import binary
from gateways.embedded.ports import HOST
from gateways.embedded.process import Command, Process
from streams import bulk_client
from streams.connection import Connection, connect
from streams.errors import UnavailableError
from streams.login import as_role, inbox_of, key_file, with_keys
from streams.nkeys import user_of
from streams.roles import MONITOR, OPERATOR, OPERATOR_SERVICES, ROLES
from streams.topology import HISTORY, STREAMS
from tests.repository import ROOT
from tests.streams.own_ports import own_ports
from vibe.app.nats_roles import keys_folder, make_keys, password_file, write_configuration

ALL = frozenset({"admin", "ingest", "pipeline", "execute", "projector", "web", "ops-writer", "archiver", "backup"})
NO_OTHER = frozenset[str]()
OPERATORS = frozenset({"web", "ops-writer"})
STAGES = frozenset({"ingest", "pipeline"})
EVERYTHING = ALL - {"admin", "ingest", "execute", "archiver"}
"""The roles that read every stream."""


def read_by(*more: str) -> frozenset[str]:
    return EVERYTHING | frozenset(more)


READERS: dict[str, frozenset[str]] = {
    "RAW": read_by("ingest", "archiver"),
    "SIGNALS": read_by("ingest", "archiver"),
    "GROUPS": read_by("archiver"),
    "REQUESTS": read_by("execute", "archiver"),
    "EXECUTIONS": read_by("execute", "archiver"),
    "CONFIG": read_by("ingest", "execute", "archiver"),
    "DEAD": read_by("execute", "archiver"),
    "DISCOVERY": read_by("archiver"),
    "LEASES": read_by(),
    "SNAPSHOTS": read_by("ingest", "execute"),
}

MAY_PUBLISH: dict[str, frozenset[str]] = {
    # What is stored, and by whom alone.
    "raw.1.hyperliquid.fills.0xa": frozenset({"ingest"}),
    "discovery.hyperliquid": frozenset({"ingest"}),
    "signals.1.hyperliquid.ann.BTC": frozenset({"pipeline"}),
    "signals.checkpoint.normalize.00-15": frozenset({"pipeline"}),
    "groups.1.hyperliquid.ann.BTC": frozenset({"pipeline"}),
    "quotes.1.hyperliquid.BTC": frozenset({"pipeline"}),
    "exits.1.sam": frozenset({"pipeline"}),
    "marks.hyperliquid.BTC": frozenset({"pipeline"}),
    "requests.8.ann": frozenset({"pipeline"}),
    "requests.checkpoint.execute.00-15": frozenset({"pipeline", "execute"}),
    "orders.1.sam": frozenset({"execute"}),
    "executions.1.sam": frozenset({"pipeline"}),
    "executions.checkpoint.plan.00-15": frozenset({"pipeline"}),
    "config.subscriber.sam": OPERATORS,
    "dead.ingest.venue": frozenset({"ingest", "projector"}),
    "dead.plan.REQUESTS": frozenset({"pipeline", "projector"}),
    "dead.execute.EXECUTIONS": frozenset({"execute", "projector"}),
    "dead.projection%2Eposition.EXECUTIONS": frozenset({"projector"}),
    "dead.projections.RAW": frozenset({"projector"}),
    "dead.retry.plan.1": OPERATORS,
    "dead.dropped.plan": OPERATORS,
    "leases.plan": frozenset({"pipeline"}),
    "leases.execute": frozenset({"execute"}),
    "snapshots.plan.00-15.head": frozenset({"pipeline"}),
    "snapshots.execute.00-15.head": frozenset({"execute"}),
    "snapshots.config-influencer.00-63.head": STAGES | OPERATORS,
    # Streams are made, changed and removed by the admin alone.
    **{
        f"$JS.API.STREAM.{what}.{stream.name}": NO_OTHER
        for what in ("CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE", "MSG.DELETE", "LEADER.STEPDOWN", "PEER.REMOVE")
        for stream in STREAMS
    },
    "$JS.API.META.LEADER.STEPDOWN": NO_OTHER,
    "$JS.SNAPSHOT.RESTORE.EXECUTIONS.abc": NO_OTHER,
    **{f"$JS.API.STREAM.SNAPSHOT.{stream.name}": frozenset({"backup"}) for stream in STREAMS},
    "$JS.SNAPSHOT.ACK.EXECUTIONS.abc": frozenset({"backup"}),
    # Asking.
    "$JS.API.INFO": ALL,
    **{f"$JS.API.STREAM.INFO.{stream.name}": ALL for stream in STREAMS},
    **{f"$JS.API.STREAM.MSG.GET.{stream.name}": ALL for stream in STREAMS},
    "$JS.API.STREAM.NAMES": NO_OTHER,
    "$JS.API.STREAM.INFO.OTHER": NO_OTHER,
    **{f"$JS.API.DIRECT.GET.{stream.name}": OPERATORS for stream in STREAMS},
    **{f"$JS.API.CONSUMER.LIST.{stream.name}": OPERATORS | {"projector"} for stream in STREAMS},
    "$JS.API.CONSUMER.LIST.RAW": OPERATORS | {"projector", "archiver"},
    # Reading.
    **{
        f"$JS.API.CONSUMER.{what}": READERS[stream.name]
        for stream in STREAMS
        for what in (
            f"CREATE.{stream.name}",
            f"CREATE.{stream.name}.reader-a",
            f"INFO.{stream.name}.reader-a",
            f"DELETE.{stream.name}.reader-a",
            f"MSG.NEXT.{stream.name}.reader-a",
        )
    },
    "$JS.API.CONSUMER.RESET.REQUESTS.plan-00-15": frozenset({"pipeline", "projector"}),
    "$JS.API.CONSUMER.RESET.EXECUTIONS.projections": frozenset({"pipeline", "execute", "projector"}),
    "$JS.API.CONSUMER.DURABLE.CREATE.RAW.other": NO_OTHER,
    "$JS.ACK.RAW.other.1.1.1.1.0": NO_OTHER,
    # Another role's inboxes, and the server itself.
    "_INBOX_web.answer": NO_OTHER,
    "$SYS.REQ.SERVER.PING": NO_OTHER,
}
for _stream in HISTORY:
    MAY_PUBLISH[f"$JS.API.CONSUMER.LIST.{_stream.name}"] = OPERATORS | {"projector", "archiver"}
for _name in ("LEASES", "SNAPSHOTS"):
    MAY_PUBLISH[f"$JS.API.CONSUMER.LIST.{_name}"] = OPERATORS | {"projector", "archiver"}


class Server(NamedTuple):
    url: str
    keys: Path


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A nats-server with the roles and no stream."""
    folder = tmp_path_factory.mktemp("roles")
    keys, conf, (port,) = keys_folder(folder), folder / "nats.conf", own_ports(1)
    make_keys(keys)
    write_configuration(ROOT / "nats.conf", keys, conf)
    process = Process(
        Command(
            program=binary(),
            args=("-c", str(conf), "-a", HOST, "-p", str(port), "-sd", str(folder / "store")),
            log=folder / "nats.log",
            stop_signal=signal.SIGTERM,
        )
    )
    try:
        url = f"nats://{HOST}:{port}"
        await (await connect(as_role(with_keys(url, keys), "admin"), "tests")).close()
        yield Server(url, keys)
    finally:
        await process.stop()


async def test_every_role_may_publish_what_it_needs_and_nothing_else(server: Server) -> None:
    found: dict[str, set[str]] = {subject: set() for subject in MAY_PUBLISH}
    for role in ROLES:
        for subject in MAY_PUBLISH.keys() - await refused(server, role.name, publish=list(MAY_PUBLISH)):
            found[subject].add(role.name)
    expected = {subject: {"admin", *roles} for subject, roles in MAY_PUBLISH.items()}
    assert found == expected


def test_every_permission_is_in_the_table() -> None:
    """A subject that a role may use and the table does not name is a permission that is tried by no test."""

    def fits(pattern: str, subject: str) -> bool:
        wanted, has = pattern.split("."), subject.split(".")
        if wanted[-1] == ">":
            return len(has) >= len(wanted) and fits(".".join(wanted[:-1]), ".".join(has[: len(wanted) - 1]))
        return len(has) == len(wanted) and all(a in ("*", b) for a, b in zip(wanted, has, strict=True))

    untried = {
        pattern
        for role in ROLES
        for pattern in role.publish
        if not any(fits(pattern, subject) and role.name in roles for subject, roles in MAY_PUBLISH.items())
    }
    others = {"dead.", "snapshots.", "leases.", "$JS.API.CONSUMER.RESET."}  # of one stage or stream, for all
    assert not {pattern for pattern in untried if not pattern.startswith(tuple(others))}


async def test_every_role_hears_its_own_inboxes_alone(server: Server) -> None:
    for role in ROLES:
        if role.name == "admin":
            continue
        own = f"{inbox_of(role.name)}.x"
        foreign = [">", "_INBOX.>", "raw.>", "executions.>", "$JS.EVENT.ADVISORY.>"]
        foreign += [f"{inbox_of(other.name)}.>" for other in ROLES if other.name != role.name]
        assert await refused(server, role.name, subscribe=[own, *foreign]) == set(foreign), role.name


async def test_a_client_without_a_key_or_with_the_key_of_another_server_is_refused(
    server: Server, tmp_path: Path
) -> None:
    make_keys(tmp_path)
    with pytest.raises(Exception, match=r"(?i)authorization violation"):
        await nats.connect(server.url, allow_reconnect=False, max_reconnect_attempts=1)
    with pytest.raises(Exception, match="Authorization Violation"):
        await bulk_client.connect(as_role(with_keys(server.url, tmp_path), "admin"), "tests")


async def test_operators_ask_through_their_own_account_and_write_nothing(server: Server) -> None:
    admin, operator = await connection_of(server, "admin"), await operator_client(server)
    try:
        await admin.api("STREAM.CREATE.RAW", {"name": "RAW", "subjects": ["raw.>"], "allow_direct": True})
        for subject in OPERATOR_SERVICES:
            # Whatever the answer is: without the service there is none, and the library raises.
            await operator.request(subject.replace("*", "RAW").replace(">", "RAW"), b"{}", timeout=2)
        await admin.api("STREAM.DELETE.RAW")
    finally:
        await operator.close()
        await admin.close()
    denied = ["executions.1.sam", "config.control.pause", "$JS.API.STREAM.DELETE.RAW", "$JS.API.STREAM.PURGE.RAW"]
    denied += ["$JS.API.CONSUMER.MSG.NEXT.RAW.a", "$JS.API.CONSUMER.CREATE.RAW", "$SYS.REQ.SERVER.PING"]
    assert await refused(server, OPERATOR, publish=denied) == set(denied)


async def test_what_operators_have_answered_to_the_subject_of_a_stream_is_stored_nowhere(server: Server) -> None:
    """In one account the server would write its answer into the stream, with its own rights."""
    admin, operator = await connection_of(server, "admin"), await operator_client(server)
    try:
        await admin.api("STREAM.CREATE.FORGED", {"name": "FORGED", "subjects": ["forged.>"]})
        await operator.publish("$JS.API.STREAM.INFO.FORGED", b"", reply="forged.settlement")
        await operator.publish("$JS.API.INFO", b"", reply="forged.settlement")
        await operator.flush()
        await asyncio.sleep(0.1)
        assert (await admin.api("STREAM.INFO.FORGED"))["state"]["messages"] == 0
        await admin.publish("$JS.API.INFO", reply="forged.settlement")
        await admin.flushed()
        await asyncio.sleep(0.1)
        assert (await admin.api("STREAM.INFO.FORGED"))["state"]["messages"] == 1, "the check sees a stored answer"
        await admin.api("STREAM.DELETE.FORGED")
    finally:
        await operator.close()
        await admin.close()


async def test_a_denied_request_has_no_answer_and_is_logged_with_the_role(server: Server) -> None:
    web = await connection_of(server, "web")
    try:
        with structlog.testing.capture_logs() as logged, pytest.raises(UnavailableError, match="no answer within"):
            await web.api("STREAM.DELETE.EXECUTIONS", timeout=0.3)
    finally:
        await web.close()
    (denied,) = (entry for entry in logged if entry["event"] == "nats.denied")
    assert denied["role"] == "web"
    assert "$js.api.stream.delete.executions" in denied["error"].lower()


def test_the_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    assert set(make_keys(tmp_path)) == {*ALL, MONITOR}
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert make_keys(tmp_path) == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    key_file(tmp_path, "web").unlink()
    assert make_keys(tmp_path) == ["web"]


async def connection_of(server: Server, role: str) -> Connection:
    return await connect(as_role(with_keys(server.url, server.keys), role), "tests")


async def operator_client(server: Server) -> Client:
    password = password_file(server.keys).read_text().strip()
    return await nats.connect(
        server.url, user=OPERATOR, password=password, inbox_prefix=inbox_of(OPERATOR), allow_reconnect=False
    )


async def refused(server: Server, role: str, *, publish: Sequence[str] = (), subscribe: Sequence[str] = ()) -> set[str]:
    """The subjects of these that the server refuses to a role, or to the operator."""
    reader, writer = await asyncio.open_connection(HOST, urlsplit(server.url).port)
    info = json.loads((await reader.readline()).removeprefix(b"INFO "))
    hello: dict[str, object] = {"verbose": False, "pedantic": False, "protocol": 1}
    if role == OPERATOR:
        hello |= {"user": role, "pass": password_file(server.keys).read_text().strip()}
    else:
        key = user_of(key_file(server.keys, role).read_text())
        hello |= {"nkey": key.public, "sig": key.sign(info["nonce"].encode()).decode()}
    writer.write(b"CONNECT %b\r\n" % json.dumps(hello).encode())
    for subject in publish:
        writer.write(f"PUB {subject} 0\r\n\r\n".encode())
    for number, subject in enumerate(subscribe):
        writer.write(f"SUB {subject} {number}\r\n".encode())
    writer.write(b"PING\r\n")
    found: set[str] = set()
    try:
        async with asyncio.timeout(10):
            while not (line := await reader.readline()).startswith(b"PONG"):
                text = line.decode()
                assert line, "the server hung up"
                if text.startswith("-ERR"):
                    violation = re.search(r'Permissions Violation for (?:Publish|Subscription) to "([^"]+)"', text)
                    assert violation is not None, text
                    found.add(violation[1])
        return found
    finally:
        writer.close()
