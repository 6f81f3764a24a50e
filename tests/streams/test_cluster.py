"""Three nodes, three copies, and a kill -9 of the leader in the middle of work: nothing lost, nothing twice."""

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from eventsourcing.persistence import StoredEvent
from eventsourcing.utils import Environment
from msgspec import Struct

from streams import subjects, topology
from streams.append import ExpectedVersion, Record, append
from streams.bulk_replay import Replay
from streams.connection import Connection
from streams.envelope import Codec, Recorded
from streams.errors import LogError
from streams.eventsourcing import Factory
from streams.processing.checkpoint import CHECKPOINT_TYPE, Checkpoint
from streams.processing.processor import LaneWorker
from streams.processing.stage import Output, Stage
from streams.reader import last, read_all
from streams.retry import retry_until_available
from streams.topology import EXECUTIONS, RAW, REQUESTS
from tests.streams.cluster import CONFIGURATIONS, NODES, Cluster, cluster_in, connected
from tests.streams.deadlines import eventually

CONF = Path(__file__).parents[2] / "nats.conf"
BATCH = 5


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """All nodes run, and hold the topology's streams in three copies."""
    async with cluster_in(tmp_path_factory.mktemp("cluster")) as running:
        connection = await connected(running, "n1")
        await topology.apply(connection, replicas=3)
        await connection.close()
        yield running


@pytest.fixture
async def log(cluster: Cluster) -> AsyncIterator[Connection]:
    connection = await connected(cluster, "n2")
    yield connection
    await connection.close()


async def lose_leader(cluster: Cluster, connection: Connection, stream: str) -> str:
    """kill -9 the node that leads a stream; returns its name."""
    leader = await cluster.leader(connection, stream)
    await cluster.kill(leader)
    return leader


async def bring_back(cluster: Cluster, node: str, connection: Connection, *, but: str = "") -> None:
    """Start a killed node and wait until every stream has its three copies again."""
    cluster.start(node)
    await cluster.ready()
    for stream in topology.STREAMS:
        if stream.name != but:
            await cluster.caught_up(connection, stream.name)


# --- configuration -----------------------------------------------------------------------------------------


def test_the_nodes_differ_in_their_name_only() -> None:
    texts = {node: (CONFIGURATIONS / f"{node}.conf").read_text() for node in NODES}
    routes = re.compile(r"routes: \[.*\]")
    own = {
        routes.sub("", text).replace(node, "NODE").replace(node.upper(), "NODE").replace("Node NODE", "NODE")
        for node, text in texts.items()
    }
    assert len(own) == 1
    assert len({match[0] for text in texts.values() if (match := routes.search(text))}) == 1


def test_the_nodes_store_as_the_single_server_does() -> None:
    def settings(text: str) -> list[str]:
        lines = (line.partition("#")[0].strip() for line in text[text.index("jetstream") :].splitlines())
        inside = [line for line in lines if line and not line.startswith("store_dir")]
        return inside[: inside.index("}", inside.index("}") + 1) + 1]

    single = settings(CONF.read_text())
    assert "sync_interval: always" in single
    for node in NODES:
        assert settings((CONFIGURATIONS / f"{node}.conf").read_text()) == single


async def test_every_stream_has_three_copies(cluster: Cluster, log: Connection) -> None:
    await topology.verify(log)
    for stream in topology.STREAMS:
        found = await log.api(f"STREAM.INFO.{stream.name}")
        assert found["config"]["num_replicas"] == 3
        assert len(found["cluster"]["replicas"]) == 2
    assert await topology.apply(log, replicas=3) == [(stream.name, "unchanged") for stream in topology.STREAMS]


async def test_streams_are_applied_when_a_missing_node_comes(cluster: Cluster, log: Connection) -> None:
    await log.api("STREAM.DELETE.LEASES")
    await cluster.kill("n3")
    applied = asyncio.create_task(topology.apply(log, replicas=3))
    await asyncio.sleep(1)
    assert not applied.done()
    await bring_back(cluster, "n3", log, but="LEASES")
    assert ("LEASES", "created") in await applied
    await cluster.caught_up(log, "LEASES")


async def test_readers_of_a_replica_that_lags_behind_wait_for_all_of_it(cluster: Cluster, log: Connection) -> None:
    leader = await cluster.leader(log, "RAW")
    lagging = next(node for node in NODES if node != leader)
    reader = await connected(cluster, leader)
    subject = subjects.raw("lagging", "test", "writes", "lagging")

    async def write(count: int) -> int:
        for _ in range(count):
            landed = await append(reader, [Record(subject, b"x" * 20_000) for _ in range(100)])
        return landed.last

    await write(1)
    os.kill(cluster.pid(lagging), signal.SIGSTOP)
    try:
        end = await write(15)
    finally:
        os.kill(cluster.pid(lagging), signal.SIGCONT)

    async def read(number: int) -> list[int]:
        if number % 3 == 0:
            blocks = Replay(cluster.url(leader), "RAW", after=end - 50, until=end).blocks()
            return [sequence async for block in blocks for sequence in block.sequences]
        filters = [subject] if number % 3 == 1 else []
        return [one.sequence async for batch in read_all(reader, "RAW", filters, after=end - 50) for one in batch]

    for first in range(0, 120, 12):
        found = await asyncio.gather(*(read(number) for number in range(first, first + 12)))
        assert found == [list(range(end - 49, end + 1))] * 12
    await cluster.caught_up(log, "RAW")
    await reader.close()


# --- the leader is lost ------------------------------------------------------------------------------------


class Writer:
    """Appends numbered batches to one subject, each guarded by the one before; finds out what became of each."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.subject = subjects.raw(name, "test", "writes", name)
        self.acked = 0
        self.unknown = 0
        self.found = 0
        self._connection = connection
        self._sequence = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._write(self.acked)
            self.acked += 1

    async def _write(self, number: int) -> None:
        records = [Record(self.subject, f"{number}.{part}".encode()) for part in range(BATCH)]
        while True:
            try:
                landed = await append(
                    self._connection, records, ExpectedVersion(self.subject, self._sequence), timeout=1.0
                )
                self._sequence = landed.last
                return
            except LogError:
                self.unknown += 1
            await asyncio.sleep(0.05)
            try:
                newest = await last(self._connection, RAW.name, self.subject)
            except LogError:
                continue
            if newest is not None and newest.payload == records[-1].payload:
                self._sequence = newest.sequence
                self.found += 1
                return


async def test_acknowledged_batches_outlive_the_leader(cluster: Cluster, log: Connection) -> None:
    connections = [await connected(cluster, node) for node in NODES]
    writers = [Writer(f"writer-{number}", connections[number % 3]) for number in range(6)]
    stop = asyncio.Event()
    running = [asyncio.create_task(writer.run(stop)) for writer in writers]
    await eventually(lambda: all(writer.acked >= 20 for writer in writers), what="20 batches of each writer")

    lost = await lose_leader(cluster, log, RAW.name)
    before = [writer.acked for writer in writers]
    await eventually(
        lambda: all(w.acked >= then + 20 for w, then in zip(writers, before, strict=True)),
        within=40,
        what="20 more batches of each writer",
    )
    stop.set()
    await asyncio.gather(*running)
    await bring_back(cluster, lost, log)

    assert sum(writer.unknown for writer in writers) > 0
    stored = [message async for page in read_all(log, RAW.name) for message in page]
    for writer in writers:
        mine = [message for message in stored if message.subject == writer.subject]
        wanted = [f"{number}.{part}".encode() for number in range(writer.acked) for part in range(BATCH)]
        assert [message.payload for message in mine] == wanted
        firsts = [message.sequence for message in mine[::BATCH]]
        assert [message.sequence for message in mine] == [first + part for first in firsts for part in range(BATCH)]
    for connection in connections:
        await connection.close()


class Asked(Struct, frozen=True):
    number: int


class Answered(Struct, frozen=True):
    number: int


class Answering(Stage[None]):
    """One answer to each question."""

    name = "answering"
    description = "answers"
    reads = REQUESTS
    writes = EXECUTIONS
    input_patterns = ("requests.{}.*",)
    input_types = frozenset({"test.asked"})

    def initial(self, lane: subjects.Lane) -> None:
        return None

    def handle(self, state: None, event: Recorded, now: int) -> Iterator[Output]:
        number = event.data.number
        yield Output(subjects.executions(f"asker-{number % 7}"), Answered(number), f"answer-{number}", "test")


CODEC = Codec({"test.asked": Asked, "test.answered": Answered, CHECKPOINT_TYPE: Checkpoint})


async def ask(connection: Connection, number: int) -> None:
    """Append one question; it is asked again, under the same id, until the log has it."""
    asked = CODEC.encode(Asked(number), id=f"asked-{number}", source="test", time_ns=time.time_ns())
    asker = f"asker-{number % 7}"
    record = Record(subjects.requests(subjects.partition(asker), asker), asked, f"asked-{number}")
    while True:
        try:
            await append(connection, [record], timeout=1.0)
            return
        except LogError:
            await asyncio.sleep(0.05)


async def answers(connection: Connection) -> Counter[int]:
    """How often each question was answered."""
    found: Counter[int] = Counter()
    async for page in read_all(connection, EXECUTIONS.name):
        for message in page:
            for event in CODEC.decode(EXECUTIONS.name, message.sequence, message.subject, message.payload):
                if isinstance(event.data, Answered):
                    found[event.data.number] += 1
    return found


async def test_a_stage_works_on_when_the_leader_is_lost(cluster: Cluster, log: Connection) -> None:
    working = await connected(cluster, "n3")
    asked = 0

    async def keep_asking() -> None:
        nonlocal asked
        while not enough.is_set():
            await ask(log, asked)
            asked += 1
            await asyncio.sleep(0.005)

    stop, enough = asyncio.Event(), asyncio.Event()
    worker = LaneWorker(working, CODEC, Answering(), subjects.lanes(1)[0], time.time_ns)
    running = [asyncio.create_task(worker.run(stop)), asyncio.create_task(keep_asking())]
    await eventually(lambda: asked >= 100, what="100 questions")
    while sum((await answers(log)).values()) < 50:
        await asyncio.sleep(0.05)

    lost = await lose_leader(cluster, log, EXECUTIONS.name)
    then = asked
    await eventually(lambda: asked >= then + 100, within=40, what="100 more questions")
    enough.set()
    await running[1]
    async with asyncio.timeout(60):
        while len(found := await retry_until_available(lambda: answers(log))) < asked:
            await asyncio.sleep(0.1)
    stop.set()
    await running[0]
    await bring_back(cluster, lost, log)

    assert found == Counter(range(asked))
    assert await answers(log) == found
    await working.close()


async def test_a_recorder_works_on_when_the_leader_is_lost(cluster: Cluster, log: Connection) -> None:
    environment = {"NATS_URL": cluster.url("n1"), "NATS_REPLICAS": "3", "NATS_STREAM": "kill"}
    with Factory(Environment("app", environment)) as factory:
        recorder = await asyncio.to_thread(factory.application_recorder)
        done = 0
        enough = False

        def record() -> None:
            nonlocal done
            while not enough:
                first = 2 * done
                pair = [StoredEvent("one", first + part, "topic", b"{}") for part in (1, 2)]
                ids = recorder.insert_events(pair)
                assert ids is not None
                assert ids[1] == ids[0] + 1
                assert recorder.select_events("one", desc=True, limit=1) == pair[1:]
                assert recorder.select_events("one", gt=first) == pair
                done += 1

        recording = asyncio.create_task(asyncio.to_thread(record))
        await eventually(lambda: done >= 20, what="20 inserts")
        lost = await lose_leader(cluster, log, recorder.stream)
        then = done
        await eventually(lambda: done >= then + 20, within=40, what="20 more inserts")
        enough = True
        await recording
        stored = await asyncio.to_thread(recorder.select_notifications, None, 10_000)
        assert [event.originator_version for event in stored] == list(range(1, 2 * done + 1))
        await bring_back(cluster, lost, log)
        await asyncio.to_thread(factory.close)
