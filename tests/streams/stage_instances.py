"""Instances of the counting stage that share its lanes, and input that flows while they come and go."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from streams.connection import Connection
from streams.errors import LogError
from streams.processing.lane_leases import LeaseTable
from streams.reader import last
from tests.streams.counting import BURST, Given, checkpoints, dead_lettered, each_once_in_order, feed_in, plain, written
from tests.streams.deadlines import settled
from tests.streams.subprocesses import heard, process

INSTANCE = "tests.streams.instance"
KEYS = 40
"""So many keys have inputs for every one of eight lanes."""


class Flow:
    """Appends inputs all the time."""

    def __init__(self, connection: Connection) -> None:
        self.inputs: list[Given] = []
        self._connection = connection
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stop.is_set():
            more = plain(KEYS, keys=KEYS, first=len(self.inputs) + 1)
            try:
                await feed_in(self._connection, more)
            except LogError:
                # The outcome of this batch is unknown: read it back.
                await reachable(self._connection)
                info = await self._connection.api("STREAM.INFO.SIGNALS")
                if info["state"]["messages"] == len(self.inputs):
                    continue
            self.inputs.extend(more)
            await asyncio.sleep(0.05)

    async def end(self) -> None:
        self._stop.set()
        await self._task


@asynccontextmanager
async def flowing(connection: Connection) -> AsyncIterator[Flow]:
    """Input flows during the block; after it every input has had its one effect, in order."""
    flow = Flow(connection)
    try:
        yield flow
    finally:
        await flow.end()
    await all_counted(connection, flow.inputs)


async def all_counted(connection: Connection, inputs: list[Given]) -> None:
    outputs = sum(BURST if given.kind == "burst" else 1 for given in inputs)
    await settled(lambda: stored(connection), lambda found: found >= outputs, 20, every=0.05)
    each_once_in_order(await written(connection), inputs)
    assert await dead_lettered(connection) == []


async def stored(connection: Connection) -> int:
    info = await connection.api("STREAM.INFO.GROUPS", {"subjects_filter": "groups.*.test.>"})
    return sum((info["state"].get("subjects") or {}).values())


async def reachable(connection: Connection) -> None:
    async def answers() -> bool:
        try:
            await connection.api("STREAM.INFO.SIGNALS", timeout=0.5)
        except LogError:
            return False
        return True

    await settled(answers, bool)


async def lease_table(connection: Connection) -> LeaseTable:
    found = await last(connection, "LEASES", "leases.counting")
    return msgspec.json.decode(found.payload, type=LeaseTable) if found else LeaseTable()


async def shares(connection: Connection) -> dict[str, int]:
    """How many lanes each living instance owns."""
    now = await lease_table(connection)
    owners = list(now.lanes.values())
    return {name: owners.count(name) for name in sorted(now.members)}


async def shared(connection: Connection, expected: dict[str, int], within: float = 10.0) -> None:
    await settled(lambda: shares(connection), lambda found: found == expected, within)


async def owned(connection: Connection, name: str) -> list[str]:
    return sorted(lane for lane, owner in (await lease_table(connection)).lanes.items() if owner == name)


async def committed_by(connection: Connection, pid: int) -> list[str]:
    """The lanes whose newest checkpoint is of that process."""
    found = await checkpoints(connection, 4)
    return sorted(name for name, reached in found.items() if f"-{pid:x}-" in reached.commit)


async def taken_over(connection: Connection, pid: int, since: float, within: float) -> float:
    """Seconds since `since` until others have committed for every lane that was that process's."""
    await settled(lambda: committed_by(connection, pid), lambda names: not names, within)
    return time.monotonic() - since


class Instances:
    """Instances of the counting stage by name."""

    def __init__(self, url: str, folder: Path, stack: AsyncExitStack) -> None:
        self._url = url
        self._folder = folder
        self._stack = stack
        self.by_name: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str, *options: str, lane_count: int = 4, loaded: bool = True) -> None:
        started = await self._stack.enter_async_context(
            process(INSTANCE, self._url, str(lane_count), name, *options, log=self.log(name))
        )
        self.by_name[name] = started
        if loaded:
            await heard(started, "loaded")

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def pid(self, name: str) -> int:
        return self.by_name[name].pid

    async def at_work(self, connection: Connection, name: str) -> float:
        """The time when the instance has committed for every lane that it owns."""
        mine = await owned(connection, name)
        assert mine
        await settled(lambda: committed_by(connection, self.pid(name)), lambda found: found == mine, 10)
        return time.monotonic()

    async def stop(self, name: str) -> None:
        self.by_name[name].terminate()
        assert await self.by_name[name].wait() == 0, self.log(name).read_text()[-2_000:]

    def assert_only_ended(self, *ended: str) -> None:
        """No instance has ended but the named ones."""
        assert {name for name, started in self.by_name.items() if started.returncode is not None} == set(ended)


@asynccontextmanager
async def instances(url: str, folder: Path) -> AsyncIterator[Instances]:
    async with AsyncExitStack() as stack:
        yield Instances(url, folder, stack)


async def all_counted_so_far(connection: Connection, flow: Flow) -> None:
    count = len(flow.inputs)
    await settled(lambda: stored(connection), lambda found: found >= count, 20, every=0.05)
