"""The bulk reader against real servers: every message once and in order, whatever fails."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

from gateways.embedded import Addresses
from gateways.embedded.ports import HOST
from streams.bulk_client import BulkConnection, connect
from streams.bulk_replay import SHORT_ENDS, Block, IncompleteError, Replay, replay
from streams.errors import DataLossError, RefusedError, UnavailableError
from streams.nats_protocol import Deliveries
from streams.pull_window import PullSettings, PullWindow
from tests.streams.own_server import CONF, OwnServer, own_server
from tests.streams.test_bulk_client import nats_server

MIB = 1024 * 1024
NASTY = b"\r\nPING\r\nHMSG s.1 2 $JS.ACK.S.C.1.1.1.1.1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n-ERR 'no'\r\n\r\n"


class Message(NamedTuple):
    subject: str
    payload: bytes
    headers: bytes = b""


class Server:
    """A server with streams to fill."""

    _numbers = itertools.count(1)

    def __init__(self, url: str, wire: BulkConnection) -> None:
        self.url = url
        self.wire = wire
        self._made: list[str] = []

    async def stream(self, messages: Sequence[Message] = (), **config: Any) -> str:
        """The name of a new stream that holds these messages; its subjects are below its name."""
        name = f"REPLAY{next(self._numbers)}"
        config = {"name": name, "subjects": [f"{name}.>"], "storage": "file", "num_replicas": 1, **config}
        await self.wire.api(f"STREAM.CREATE.{name}", config)
        self._made.append(name)
        await self.put(name, messages)
        return name

    async def put_safely(self, stream: str, messages: Sequence[Message]) -> None:
        """On disk when it returns, in atomic batches with their headers."""
        for number in range(0, len(messages), 1000):
            batch = messages[number : number + 1000]
            headers = [b"Nats-Batch-Id: %d\r\nNats-Batch-Sequence: %d\r\n" % (number, n + 1) for n in range(len(batch))]
            headers[-1] += b"Nats-Batch-Commit: 1\r\n"
            framed = [b"NATS/1.0\r\n%b\r\n" % lines for lines in headers]
            await self.put(
                stream, [Message(one.subject, one.payload, head) for one, head in zip(batch, framed, strict=True)]
            )

    async def put(self, stream: str, messages: Sequence[Message]) -> None:
        if messages:
            for subject, payload, headers in messages[:-1]:
                self.wire.publish(f"{stream}.{subject}".encode(), payload, headers=headers)
            subject, payload, headers = messages[-1]
            answer = await self.wire.request(f"{stream}.{subject}", payload, headers=headers, timeout=30)
            assert b'"seq":' in answer, answer

    async def state(self, stream: str) -> dict[str, int]:
        answer = await self.wire.api(f"STREAM.INFO.{stream}")
        state: dict[str, int] = answer["state"]
        return state

    async def delete(self, stream: str, *sequences: int) -> None:
        for sequence in sequences:
            await self.wire.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})

    async def remove(self) -> None:
        for name in self._made:
            await self.wire.api(f"STREAM.DELETE.{name}")
        self.wire.close()


@pytest.fixture
async def server(running: Addresses) -> AsyncIterator[Server]:
    """The suite's server."""
    made = Server(running.nats_url, await connect(running.nats_url, "tests"))
    try:
        yield made
    finally:
        await made.remove()


class Read(NamedTuple):
    sequences: list[int]
    subjects: list[bytes]
    payloads: list[bytes]
    blocks: list[int]


async def everything(reader: Replay, between: Callable[[int], Any] | None = None, *, into: Read | None = None) -> Read:
    """All that a reader yields, also in `into`; `between(n)` runs (and is awaited) behind the n-th block, from 0."""
    read = into or Read([], [], [], [])
    async with aclosing(reader.blocks()) as blocks:
        async for block in blocks:
            assert len(block.sequences) == len(block.subjects) == len(block.payloads) > 0
            read.sequences.extend(block.sequences)
            read.subjects.extend(block.subjects)
            read.payloads.extend(block.payloads)
            read.blocks.append(len(block.sequences))
            if between is not None and (work := between(len(read.blocks) - 1)) is not None:
                await work
    return read


def numbered(count: int, *, headed: bool = False, size: int = 40) -> list[Message]:
    """Messages that say which they are, on eight subjects."""
    return [
        Message(
            f"{number % 8}.x",
            b"%d " % number + b"." * size,
            b"NATS/1.0\r\nNats-Msg-Id: evt_%d\r\n\r\n" % number if headed else b"",
        )
        for number in range(1, count + 1)
    ]


FAST = {"persist_mode": "async"}
"""No fsync for every message: for streams that need not survive a crash."""


@pytest.mark.parametrize("headed", [False, True], ids=["without headers", "with headers"])
async def test_everything_once_and_in_order(server: Server, headed: bool) -> None:
    messages = numbered(25_000, headed=headed)  # more than two pulls
    stream = await server.stream(messages, **FAST)
    reader = Replay(server.url, stream)
    read = await everything(reader)
    assert read.sequences == list(range(1, 25_001))
    assert read.payloads == [message.payload for message in messages]
    assert read.subjects == [f"{stream}.{message.subject}".encode() for message in messages]
    assert read.blocks == [4096] * 6 + [25_000 - 6 * 4096]
    assert (reader.total, reader.done, reader.restarts, reader.position) == (25_000, 25_000, 0, 25_000)


async def test_on_uvloop(server: Server) -> None:
    messages = numbered(12_000, headed=True)
    stream = await server.stream(messages, **FAST)
    reading = everything(Replay(server.url, stream))
    read = await asyncio.to_thread(lambda: uvloop.run(reading))
    assert read.sequences == list(range(1, 12_001))
    assert read.payloads == [message.payload for message in messages]


async def test_with_and_without_headers_mixed(server: Server) -> None:
    messages = [numbered(300, headed=number % 3 == 0)[number] for number in range(300)]
    stream = await server.stream(messages, **FAST)
    read = await everything(Replay(server.url, stream))
    assert read.payloads == [message.payload for message in messages]


async def test_payloads_that_look_like_the_protocol(server: Server) -> None:
    headers = b"NATS/1.0\r\nA: PING\r\n\r\n"
    payloads = [NASTY, b"", b"\r\n", NASTY * 1000, b"\n", b"x\r", bytes(range(256))]
    messages = [Message("a", payload, head) for payload in payloads for head in (b"", headers)] * 5
    stream = await server.stream(messages, **FAST)
    read = await everything(Replay(server.url, stream))
    assert read.payloads == [message.payload for message in messages]


@pytest.mark.parametrize("pull", [8 * MIB, 64 * 1024], ids=["within a pull", "larger than a pull"])
async def test_large_messages(server: Server, pull: int) -> None:
    largest = b"l" * (server.wire.info["max_payload"] - 100)
    payloads = [b"%d" % number + b"m" * MIB for number in range(20)] + [largest, b"small", largest]
    stream = await server.stream([Message("a", payload, b"NATS/1.0\r\nA: b\r\n\r\n") for payload in payloads], **FAST)
    reader = Replay(server.url, stream, pull=PullSettings(max_bytes=pull))
    read = await everything(reader)
    assert read.payloads == payloads
    assert reader.restarts == 0
    assert max(read.blocks) < 20  # a block is bounded in bytes too


async def test_pulls_that_end_without_a_status(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # The server does not report that a pull has ended when a message uses its bytes to the last one.
    stream = await server.stream(numbered(60, size=100), **FAST)
    silences = 0
    recount = PullWindow._recount

    async def counted(pulls: PullWindow, wanted: int | None) -> None:
        nonlocal silences
        silences += 1
        await recount(pulls, wanted)

    monkeypatch.setattr(PullWindow, "_recount", counted)
    for size in range(2_000, 2_200):
        reader = Replay(server.url, stream, exact=True, pull=PullSettings(max_bytes=size))
        read = await everything(reader)
        assert read.sequences == list(range(1, 61))
        assert reader.restarts == 0, size
    assert silences > 0


@pytest.mark.parametrize(
    ("after", "until", "expected"),
    [
        (0, None, range(1, 101)),
        (40, None, range(41, 101)),
        (0, 60, range(1, 61)),
        (40, 60, range(41, 61)),
        (59, 60, range(60, 61)),
        (60, 60, range(0)),
        (60, 40, range(0)),
        (100, None, range(0)),
        (0, 0, range(0)),
        (0, 500, range(1, 101)),
    ],
)
async def test_after_and_until(server: Server, after: int, until: int | None, expected: range) -> None:
    stream = await server.stream(numbered(100), **FAST)
    for filters in ((), (f"{stream}.*.x",)):
        reader = Replay(server.url, stream, filters, after=after, until=until)
        read = await everything(reader)
        assert read.sequences == list(expected)
        assert reader.total == len(expected)


async def test_filters(server: Server) -> None:
    stream = await server.stream(numbered(1000), **FAST)
    reader = Replay(server.url, stream, [f"{stream}.1.x", f"{stream}.5.>"], after=100, until=901, block=50)
    read = await everything(reader)
    expected = [number for number in range(101, 902) if number % 8 in (1, 5)]
    assert read.sequences == expected
    assert [int(payload.split()[0]) for payload in read.payloads] == expected
    assert set(read.subjects) == {f"{stream}.1.x".encode(), f"{stream}.5.x".encode()}
    assert reader.total == len(expected)
    assert read.blocks[:-1] == [50] * (len(expected) // 50)


async def test_nothing_there(server: Server) -> None:
    stream = await server.stream()
    assert await everything(Replay(server.url, stream)) == ([], [], [], [])
    await server.put(stream, numbered(3))
    assert await everything(Replay(server.url, stream, [f"{stream}.7.x"])) == ([], [], [], [])


@pytest.mark.parametrize("filtered", [False, True])
async def test_ends_at_what_was_the_end_when_it_began(server: Server, filtered: bool) -> None:
    stream = await server.stream(numbered(2000), **FAST)
    async with line(server.url) as between:
        reader = Replay(between.url, stream, [f"{stream}.1.x"] if filtered else (), block=100)
        more = [Message("1.x", b"x" * MIB)] * 40
        read = await everything(reader, lambda n: server.put(stream, more) if n == 0 else None)
        assert between.brought < 20 * MIB  # what comes later is not even fetched, beyond the pulls on their way
    assert read.sequences == list(range(1, 2001, 8 if filtered else 1))
    assert reader.total == len(read.sequences)


async def test_the_function_is_the_class(server: Server) -> None:
    stream = await server.stream(numbered(100), **FAST)
    found = [block async for block in replay(server.url, stream, [f"{stream}.1.x"], after=1, until=20, block=2)]
    assert found == [Block([9, 17], [f"{stream}.1.x".encode()] * 2, [b"9 " + b"." * 40, b"17 " + b"." * 40])]


async def consumers(server: Server, stream: str) -> list[str]:
    return list((await server.wire.api(f"CONSUMER.NAMES.{stream}"))["consumers"] or ())


async def test_no_consumer_is_left(server: Server) -> None:
    stream = await server.stream(numbered(30_000), **FAST)
    reader = Replay(server.url, stream)
    async with aclosing(reader.blocks()) as blocks:
        async for _ in blocks:
            assert len(await consumers(server, stream)) == 1
            break
    assert await consumers(server, stream) == []
    await everything(Replay(server.url, stream))
    assert await consumers(server, stream) == []
    with pytest.raises(ZeroDivisionError):
        await everything(Replay(server.url, stream), lambda n: 1 // 0)
    assert await consumers(server, stream) == []


# What is missing


@pytest.mark.parametrize("gone", [[500], [500, 501, 502], [2], [1000], [998, 999, 1000]])
async def test_a_hole_is_named_behind_all_that_lies_before_it(server: Server, gone: list[int]) -> None:
    stream = await server.stream(numbered(1000), **FAST)
    await server.delete(stream, *gone)
    read = Read([], [], [], [])
    with pytest.raises(DataLossError) as lost:
        await everything(Replay(server.url, stream, block=64), into=read)
    assert (lost.value.stream, lost.value.first, lost.value.last) == (stream, gone[0], gone[-1])
    assert read.sequences == list(range(1, gone[0]))


async def test_a_connection_lost_at_the_end_hides_no_hole(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = await server.stream(numbered(100), **FAST)
    await server.delete(stream, 100)
    front_of = Replay._front_of
    failing = [True]

    async def lost(reader: Replay, wire: BulkConnection) -> int:
        if failing:
            failing.pop()
            raise UnavailableError("connection lost")
        return await front_of(reader, wire)

    monkeypatch.setattr(Replay, "_front_of", lost)
    reader = Replay(server.url, stream)
    with pytest.raises(DataLossError):
        await everything(reader)
    assert reader.restarts == 1 + SHORT_ENDS  # what only lags behind would have come meanwhile


async def test_a_hole_beyond_the_range_is_not_looked_at(server: Server) -> None:
    stream = await server.stream(numbered(1000), **FAST)
    await server.delete(stream, 200, 801)
    read = await everything(Replay(server.url, stream, after=200, until=800))
    assert read.sequences == list(range(201, 801))


async def test_what_was_removed_at_the_front_is_no_hole(server: Server) -> None:
    stream = await server.stream(numbered(1000), **FAST)
    await server.wire.api(f"STREAM.PURGE.{stream}", {"seq": 301})
    read = await everything(Replay(server.url, stream, after=100))
    assert read.sequences == list(range(301, 1001))
    await server.wire.api(f"STREAM.PURGE.{stream}")
    assert (await everything(Replay(server.url, stream))).sequences == []


async def test_a_stream_of_newest_values_has_no_holes(server: Server) -> None:
    stream = await server.stream(numbered(100), max_msgs_per_subject=1)
    read = await everything(Replay(server.url, stream))
    assert read.sequences == list(range(93, 101))
    await server.put(stream, numbered(3))  # replaces three
    read = await everything(Replay(server.url, stream))
    assert read.sequences == [93, 94, 95, 96, 100, 101, 102, 103]


BULKY = 2048
MANY = 20_000
"""20,000 messages of 2 KiB: more than all pulls together may bring before a slow reader asks again."""


@pytest.mark.parametrize("filtered", [False, True])
async def test_a_front_that_overtakes_the_reader_is_no_hole(server: Server, filtered: bool) -> None:
    stream = await server.stream(numbered(MANY, size=BULKY), **FAST)

    async def purge(block: int) -> None:
        if block == 0:
            await server.wire.api(f"STREAM.PURGE.{stream}", {"seq": MANY - 9})

    reader = Replay(server.url, stream, [f"{stream}.>"] if filtered else (), block=1000)
    read = await everything(reader, purge)
    assert read.sequences[-10:] == list(range(MANY - 9, MANY + 1))
    assert read.sequences == sorted(set(read.sequences))
    assert reader.done == len(read.sequences) < reader.total == MANY


async def test_a_filtered_read_that_brought_less_than_was_counted(server: Server) -> None:
    stream = await server.stream(numbered(MANY, size=BULKY), **FAST)
    reader = Replay(server.url, stream, [f"{stream}.>"], after=1, block=1000)
    with pytest.raises(IncompleteError) as lost:
        await everything(reader, lambda n: server.delete(stream, MANY - 10, MANY - 5) if n == 0 else None)
    assert (lost.value.first, lost.value.last, lost.value.missing) == (2, MANY, 2)
    assert isinstance(lost.value, DataLossError)
    assert reader.done == MANY - 3


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A server to be killed."""
    async with own_server(tmp_path) as started:
        yield started


@asynccontextmanager
async def on(own: OwnServer) -> AsyncIterator[Server]:
    wire = await connect(own.url, "tests")
    try:
        yield Server(own.url, wire)
    finally:
        wire.close()


@asynccontextmanager
async def stored(folder: Path) -> AsyncIterator[Server]:
    """A server on this folder, which it leaves in order at the end."""
    async with nats_server(folder, "-c", str(CONF), "-sd", str(folder)) as at:
        wire = await connect(f"nats://{at}", "tests")
        try:
            yield Server(f"nats://{at}", wire)
        finally:
            wire.close()


def flip_a_bit(folder: Path, stream: str, text: bytes) -> None:
    (block,) = folder.glob(f"jetstream/*/streams/{stream}/msgs/1.blk")
    content = block.read_bytes()
    at = content.index(text)
    block.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


@pytest.mark.parametrize("flipped", [500, 1000])
async def test_a_flipped_bit_on_the_disk(tmp_path: Path, flipped: int) -> None:
    """The server skips such a message without a report, and still counts it."""
    pull = PullSettings(seconds=0.2)
    async with stored(tmp_path) as server:
        stream = await server.stream(numbered(1000), **FAST)
    flip_a_bit(tmp_path, stream, b"%d ...." % flipped)
    async with stored(tmp_path) as server:
        with pytest.raises(DataLossError) as lost:
            await everything(Replay(server.url, stream, pull=pull))
        assert (lost.value.first, lost.value.last) == (flipped, flipped)
        read = Read([], [], [], [])
        with pytest.raises(IncompleteError) as incomplete:
            await everything(Replay(server.url, stream, [f"{stream}.>"], pull=pull), into=read)
        assert (incomplete.value.first, incomplete.value.last, incomplete.value.missing) == (1, 1000, 1)
        assert read.sequences == [number for number in range(1, 1001) if number != flipped]


async def test_a_stream_that_lost_its_end(own: OwnServer, tmp_path: Path) -> None:
    """Not closed in order, the server reads its store again and interruptions it off at the damage."""
    async with on(own) as server:
        stream = await server.stream(allow_atomic=True)
        await server.put_safely(stream, numbered(1000))
    await own.kill()
    flip_a_bit(tmp_path / "nats", stream, b"500 ....")
    await own.start()
    for filters in ((), (f"{stream}.>",)):
        with pytest.raises(DataLossError) as lost:
            await everything(Replay(own.url, stream, filters, after=1000))
        assert (lost.value.first, lost.value.last) == (500, 1000)
    assert (await everything(Replay(own.url, stream, after=499))).sequences == []


# What breaks


async def test_kill_9_of_the_server_in_the_middle(own: OwnServer) -> None:
    async with on(own) as server:
        stream = await server.stream(allow_atomic=True)
        await server.put_safely(stream, numbered(5000, size=8000))

    async def restart(block: int) -> None:
        if block in (0, 9):
            await own.kill()
            await own.start()

    reader = Replay(own.url, stream, block=250)
    read = await everything(reader, restart)
    assert read.sequences == list(range(1, 5001))
    assert read.payloads == [message.payload for message in numbered(5000, size=8000)]
    assert reader.restarts == 2


async def test_a_server_that_stays_away_for_a_while(own: OwnServer) -> None:
    async with on(own) as server:
        stream = await server.stream(allow_atomic=True)
        await server.put_safely(stream, numbered(MANY, size=BULKY))
    starting: list[asyncio.Task[None]] = []

    async def away(block: int) -> None:
        if block == 0:
            await own.kill()
            starting.append(asyncio.create_task(later()))

    async def later() -> None:
        await asyncio.sleep(1)
        await own.start()

    reader = Replay(own.url, stream, [f"{stream}.1.x"], block=100, connect_within=0)
    read = await everything(reader, away)
    await asyncio.gather(*starting)
    assert read.sequences == list(range(1, MANY + 1, 8))


class Line:
    """A TCP proxy: counts what comes back from the server, and disconnects or falls silent after so many bytes."""

    def __init__(self, server: str) -> None:
        self._port = int(server.rpartition(":")[2])
        self.disconnect_after: list[int] = []
        self.silent_after: list[int] = []
        self.brought = 0
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(HOST, self._port)
        self.connections += 1
        limit = self.disconnect_after.pop(0) if self.disconnect_after else None
        silent = self.silent_after.pop(0) if self.silent_after else None
        forth = asyncio.create_task(self._forth(reader, server_writer))
        with contextlib.suppress(OSError):
            passed = 0
            while chunk := await server_reader.read(10_000):
                if limit is not None and passed + len(chunk) > limit:
                    writer.write(chunk[: limit - passed])
                    await writer.drain()
                    break
                passed += len(chunk)
                self.brought += len(chunk)
                if silent is None or passed < silent:
                    writer.write(chunk)
                    await writer.drain()
        forth.cancel()
        writer.close()
        server_writer.close()

    async def _forth(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(10_000):
            server.write(chunk)


@asynccontextmanager
async def line(server: str) -> AsyncIterator[Line]:
    made = Line(server)
    listening = await asyncio.start_server(made.serve, HOST, 0)
    made.url = f"nats://{HOST}:{listening.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        listening.close()


@pytest.mark.parametrize("filtered", [False, True])
async def test_connections_lost_in_the_middle(server: Server, filtered: bool) -> None:
    messages = numbered(10_000, headed=True, size=300)
    stream = await server.stream(messages, **FAST)
    async with line(server.url) as between:
        # in the handshake, in messages and in the lines above them, in the answers to a second start
        between.disconnect_after = [100, 50_001, 3000, 1_000_003, 200_000, 1500, 700_777]
        reader = Replay(between.url, stream, [f"{stream}.>"] if filtered else ())
        read = await everything(reader)
        assert between.disconnect_after == []
    assert read.sequences == list(range(1, 10_001))
    assert read.payloads == [message.payload for message in messages]
    assert reader.restarts >= 4
    assert reader.total == 10_000


async def test_a_connection_that_falls_silent(server: Server) -> None:
    stream = await server.stream(numbered(10_000, size=300), **FAST)
    async with line(server.url) as between:
        between.silent_after = [1_000_000]
        reader = Replay(between.url, stream, pull=PullSettings(seconds=0.1))
        read = await everything(reader)
    assert read.sequences == list(range(1, 10_001))
    assert reader.restarts == 1


async def test_a_delivery_that_went_missing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = await server.stream(numbered(10_000, size=300), **FAST)
    take = BulkConnection.take
    losing = [True]

    def lossy(wire: BulkConnection) -> Deliveries:
        taken = take(wire)
        if losing and len(taken.replies) > 1:
            losing.pop()
            for column in (taken.subjects, taken.replies, taken.payloads):
                del column[len(column) // 2]
        return taken

    monkeypatch.setattr(BulkConnection, "take", lossy)
    reader = Replay(server.url, stream, [f"{stream}.>"])
    read = await everything(reader)
    assert read.sequences == list(range(1, 10_001))
    assert reader.restarts == 1


async def test_a_consumer_that_an_operator_deleted(server: Server) -> None:
    stream = await server.stream(numbered(MANY, size=BULKY), **FAST)

    async def delete() -> None:
        for name in await consumers(server, stream):
            await server.wire.api(f"CONSUMER.DELETE.{stream}.{name}")

    reader = Replay(server.url, stream, block=1000, pull=PullSettings(seconds=0.5))
    read = await everything(reader, lambda n: delete() if n == 0 else None)
    assert read.sequences == list(range(1, MANY + 1))
    assert reader.restarts == 1


async def test_a_slow_reader_of_the_blocks_stops_the_reading_ahead(server: Server) -> None:
    stream = await server.stream([Message("a", b"%d" % n + b"x" * MIB) for n in range(100)], **FAST)
    async with line(server.url) as between:

        async def wait_until_nothing_comes() -> None:
            seen = -1
            while between.brought > seen:
                seen = between.brought
                await asyncio.sleep(0.2)
            assert between.brought < 40 * MIB

        read = await everything(Replay(between.url, stream), lambda n: wait_until_nothing_comes() if n == 0 else None)
        assert between.brought > 100 * MIB
    assert read.sequences == list(range(1, 101))


# What is refused


async def test_no_such_stream(server: Server) -> None:
    with pytest.raises(RefusedError, match="stream not found"):
        await everything(Replay(server.url, "NOSUCH"))


async def test_a_filter_that_is_none(server: Server) -> None:
    stream = await server.stream()
    with pytest.raises(RefusedError, match="filter"):
        await everything(Replay(server.url, stream, [f"{stream}.a", f"{stream}.>"]))


async def test_no_server_listens_at_the_start() -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1\b"):
        await everything(Replay(f"nats://{HOST}:1", "ANY", connect_within=0.1))
