"""Lane leases: the instances of a stage share its lanes; each lane has one owner, and a dead owner is replaced.

One small document per stage, on one subject of LEASES, changed only by compare-and-set, lists the instances that are
alive (each increments a counter every second, its heartbeat) and the owner of each lane. An instance whose counter has
not changed for three seconds, by the observer's own clock, counts as dead; one on the same host whose process has
ended counts as dead at once. Owners release lanes beyond their fair share, so instances come and go without a restart
of the others.

All instances of a stage divide it into the same lanes. One that is set to another number waits, and logs so, until no
instance with the old number is alive: to change the number, stop all, start all.

A lease chooses who works; it does not exclude. A paused owner that wakes up may still take a lane for its own: the
server then refuses its commit, because the lane's checkpoint has moved on.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct, field

from streams.append import ExpectedVersion, Record, append
from streams.connection import Connection
from streams.errors import ConflictError, LogError, RefusedError
from streams.reader import last, last_with_time
from streams.subjects import Lane, token
from streams.topology import LEASES

log = structlog.get_logger()

HEARTBEAT_SECONDS = 1.0
DEAD_SECONDS = 3.0
"""Without a heartbeat for this long an instance is replaced: with the heartbeat and the load, well within five
seconds."""
_SILENT_SECONDS = 10.0
"""A stage whose lease table has not changed for this long has no instance that works: clocks may differ a little."""
_RED_SECONDS = 5.0
"""An instance that could not store a heartbeat for this long is not well, whatever the reason."""
_MAX_PROBLEMS, _MAX_PROBLEM = 8, 300
"""Of what an instance reports in the lease table: texts, and characters of one."""
_WRITE_ATTEMPTS = 20
_CONFLICT_PAUSE_SECONDS = 0.01


class Member(Struct, omit_defaults=True):
    """One instance: its counter, its host and process (so that instances on the same host can see the process end),
    into how many lanes it divides the stage, and what keeps it from its work."""

    heartbeat: int = field(name="beat")
    host: str = field(name="place")
    pid: int
    started: str
    layout: int = 0
    problems: tuple[str, ...] = ()


class LeaseTable(Struct):
    """Instance -> member, and lane name -> instance that owns it; all lanes are of one layout."""

    members: dict[str, Member] = {}
    lanes: dict[str, str] = {}
    layout: int = 0


async def lease_table(connection: Connection, stage: str) -> LeaseTable:
    """The lease table of a stage as it is now; empty when no instance has ever run it."""
    return (await _stored_table(connection, f"leases.{token(stage)}"))[1]


async def stage_problems(connection: Connection, stage: str, now: float) -> list[str]:
    """What the instances of a stage report that keeps them from their work, and that none of them works although they
    were not stopped; `now` is in seconds since the epoch, and to be right within some seconds."""
    stored_at, table = await _stored_table(connection, f"leases.{token(stage)}")
    if not table.members:
        return []
    if now - stored_at > _SILENT_SECONDS:
        return [f"{stage}: no instance has shown a heartbeat for {now - stored_at:.0f} s"]
    return [problem for member in table.members.values() for problem in member.problems]


async def _stored_table(connection: Connection, subject: str) -> tuple[float, LeaseTable]:
    """When a lease table was stored (seconds since the epoch), and the table; (0, an empty one) when none was."""
    found = await last_with_time(connection, LEASES.name, subject)
    if found is None:
        return 0.0, LeaseTable()
    stored, stored_at = found
    return stored_at, msgspec.json.decode(stored.payload, type=LeaseTable)


class Heartbeats:
    """How long each instance's counter has not changed, by this observer's clock, while it was reading the table."""

    def __init__(self) -> None:
        self._counters: dict[str, tuple[int, float]] = {}
        self._read_at = 0.0

    def on_read(self, now: float) -> None:
        """The lease table was read. After a gap no instance's silence is known: all may have been cut off alike."""
        if now - self._read_at > 2 * HEARTBEAT_SECONDS:
            self._counters.clear()
        self._read_at = now

    def silent_seconds(self, name: str, member: Member, now: float) -> float:
        counter, since = self._counters.get(name, (-1, now))
        if counter != member.heartbeat:
            self._counters[name] = (member.heartbeat, now)
            return 0.0
        return now - since


def fair_shares(lanes: int, owned: Mapping[str, int]) -> dict[str, int]:
    """How many lanes each instance keeps, given how many it has: they differ by one at most, and few lanes move."""
    share, extra = divmod(lanes, len(owned))
    order = sorted(owned, key=lambda name: (-owned[name], name))
    return {name: share + (rank < extra) for rank, name in enumerate(order)}


class LaneLeases:
    """The leases of one instance on the lanes of one stage.

    `acquired(lane)` starts work on a lane, without waiting for its end. `release(lane)` must have stopped the work when
    it returns; only then is the lane given back, and the heartbeats go on meanwhile. `lost(lane)` stops work on a lane
    that another instance owns already.
    """

    def __init__(
        self,
        connection: Connection,
        stage: str,
        lanes: Sequence[Lane],
        instance: str,
        *,
        acquired: Callable[[Lane], None],
        release: Callable[[Lane], Awaitable[None]],
        lost: Callable[[Lane], Awaitable[None]],
        problems: Callable[[], Sequence[str]] = tuple,
        host: str | None = None,
    ) -> None:
        """`problems` returns what keeps the instance from its work; others read it in the lease table."""
        self._connection = connection
        self._stage = stage
        self._subject = f"leases.{token(stage)}"
        self._lanes = {lane.name: lane for lane in lanes}
        self._instance = instance
        self._on_acquired = acquired
        self._on_release = release
        self._on_lost = lost
        self._problems = problems
        self._owned: set[str] = set()
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._heartbeats = Heartbeats()
        self._waits_for_layout = 0
        self._stored_at = _now()
        self._failure: LogError | None = None
        pid = os.getpid()
        self._self = Member(0, this_host() if host is None else host, pid, process_start(pid), len(self._lanes))
        self._log = log.bind(stage=stage)
        self.settled = asyncio.Event()
        """Set once the lanes have been shared out for the first time."""

    @property
    def owned(self) -> frozenset[str]:
        """Names of the lanes that this instance owns."""
        return frozenset(self._owned)

    @property
    def problem(self) -> str | None:
        """Why this instance cannot hold lanes, for the operator; None again once it can."""
        if self._waits_for_layout:
            return f"{self._stage}: waits until no instance with {self._waits_for_layout} lanes is alive"
        if self._failure is None or (
            not isinstance(self._failure, RefusedError) and _now() - self._stored_at < _RED_SECONDS
        ):
            return None
        return f"{self._stage}: the log refuses its lease: {self._failure}"

    async def run(self, stop: asyncio.Event) -> None:
        """Send heartbeats, acquire and release lanes, until `stop`; then stop the work and give every lane back."""
        stopper = asyncio.create_task(self._wake_on(stop))
        try:
            while True:
                stopping = stop.is_set()
                if stopping:
                    self._release(self._owned)
                try:
                    await self._heartbeat(stopping)
                except LogError as error:
                    if stopping and not self._is_ending_lanes():
                        self._log.info("leases.not_released", error=str(error))
                        return
                    self._failure = error
                    # The next heartbeat is the retry, at its own pace: a backoff would make this instance look dead.
                    self._log.warning("leases.retry", error=str(error))
                if stopping and not self._owned and not self._ending:
                    return
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            stopper.cancel()
            for task in self._ending.values():
                task.cancel()
            await asyncio.gather(stopper, *self._ending.values(), return_exceptions=True)

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _heartbeat(self, stopping: bool) -> None:
        """Read the lease table, update this instance's part of it and write it back; on a conflict, read it again."""
        for _ in range(_WRITE_ATTEMPTS):
            self._wake.clear()
            sequence, table = await self._read()
            now = _now()
            self._heartbeats.on_read(now)
            self._remove_dead(table, now)
            if self._must_wait(table):
                self._lose(self._owned)
                self._forget_ended()
                return
            self._lose({name for name in self._owned if table.lanes.get(name, self._instance) != self._instance})
            mine = self._update(table, stopping)
            if await self._write(table, sequence):
                self._failure, self._stored_at = None, now
                for name in sorted(mine - self._owned):
                    self._owned.add(name)
                    self._log.info("lane.acquired", lane=name, members=len(table.members))
                    self._on_acquired(self._lanes[name])
                self.settled.set()
                return
            # No backoff: the log is available, and an instance that wrote first is done.
            await asyncio.sleep(_CONFLICT_PAUSE_SECONDS)

    def _must_wait(self, table: LeaseTable) -> bool:
        """True while instances live that divide the stage into other lanes: two layouts at once would work twice."""
        own = len(self._lanes)
        others = [name for name, member in table.members.items() if member.layout == table.layout]
        other_layout = table.layout if table.layout != own and others else 0
        if other_layout and other_layout != self._waits_for_layout:
            self._log.error(
                "leases.other_layout",
                lanes=own,
                why=f"{len(others)} instances of this stage run with {other_layout} lanes; "
                f"stop them all, or start this one with {other_layout} lanes",
            )
        self._waits_for_layout = other_layout
        return bool(other_layout)

    def _update(self, table: LeaseTable, stopping: bool) -> set[str]:
        """Write this instance into the table; returns the lanes that it owns once the table is stored."""
        self._self.heartbeat += 1
        self._self.problems = tuple(each[:_MAX_PROBLEM] for each in self._problems()[:_MAX_PROBLEMS])
        table.layout = len(self._lanes)
        table.members[self._instance] = self._self
        held = Counter(table.lanes.values())
        shares = fair_shares(len(self._lanes), {name: held[name] for name in table.members})
        share = 0 if stopping else shares[self._instance]
        staying = sorted(self._owned - self._ending.keys())
        self._release(staying[share:])
        self._forget_ended()
        taken = {name for name, owner in table.lanes.items() if owner != self._instance}
        free = [name for name in self._lanes if name not in taken | self._owned | self._ending.keys()]
        mine = self._owned | set(free[: max(0, share - len(staying))])
        table.lanes = {lane: owner for lane, owner in table.lanes.items() if lane in self._lanes and lane in taken}
        table.lanes |= dict.fromkeys(mine, self._instance)
        if stopping and not mine:
            del table.members[self._instance]
        return mine

    def _lose(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            self._owned.discard(name)
            self._log.warning("lane.lost", lane=name)
            if name not in self._ending:
                self._end_work(name, self._on_lost)

    def _release(self, names: Iterable[str]) -> None:
        for name in sorted(set(names) - self._ending.keys()):
            self._log.info("lane.released", lane=name)
            self._end_work(name, self._on_release)

    def _end_work(self, name: str, callback: Callable[[Lane], Awaitable[None]]) -> None:
        async def end() -> None:
            await callback(self._lanes[name])
            self._wake.set()

        self._ending[name] = asyncio.create_task(end())

    def _forget_ended(self) -> None:
        for name in [name for name, task in self._ending.items() if task.done()]:
            del self._ending[name]
            self._owned.discard(name)

    def _is_ending_lanes(self) -> bool:
        return any(not task.done() for task in self._ending.values())

    def _remove_dead(self, table: LeaseTable, now: float) -> None:
        for name, member in list(table.members.items()):
            if name == self._instance:
                continue
            silent = self._heartbeats.silent_seconds(name, member, now)
            if silent > DEAD_SECONDS or has_ended(member, self._self.host):
                self._log.warning("instance.dead", instance=name, silent_seconds=round(silent, 1))
                del table.members[name]
        table.lanes = {lane: owner for lane, owner in table.lanes.items() if owner in table.members}

    async def _read(self) -> tuple[int, LeaseTable]:
        stored = await last(self._connection, LEASES.name, self._subject)
        if stored is None:
            return 0, LeaseTable()
        return stored.sequence, msgspec.json.decode(stored.payload, type=LeaseTable)

    async def _write(self, table: LeaseTable, sequence: int) -> bool:
        record = Record(self._subject, msgspec.json.encode(table))
        try:
            await append(self._connection, [record], ExpectedVersion(self._subject, sequence), timeout=2)
        except ConflictError:
            return False
        return True


def this_host() -> str:
    """This machine since its last start, and this process namespace: a pid means something only within both."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # a zombie: it has ended, and its parent has not waited for it
    except (OSError, IndexError):
        return ""


def has_ended(member: Member, host: str) -> bool:
    """True when the process of an instance on this very host is gone."""
    return bool(host) and member.host == host and process_start(member.pid) != member.started


def _now() -> float:
    return asyncio.get_running_loop().time()
