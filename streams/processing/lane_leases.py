"""Ownership: the instances of a stage share its lanes; each lane has one owner, and a dead owner is replaced.

One small document per stage, on one subject of LEASES, changed only by compare-and-set: who lives (a counter that
each instance moves every second) and who owns which lane. An instance whose counter stands still for three seconds
of the observer's own clock is taken for dead; one on the same machine whose process has gone, at once. Owners give
up lanes beyond their fair share, so instances come and go without a restart of the others.

All instances of a stage cut it into the same lanes. One that is set to another number stands by, saying so, until no
instance of the old number lives: to change the number, stop all, start all.

This chooses who works; it does not exclude. A paused owner that wakes up may still believe that a lane is its own:
the guard on the lane's checkpoint refuses it.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from streams.append import ExpectedVersion, Record, append
from streams.connection import Connection
from streams.errors import ConflictError, LogError
from streams.reader import last
from streams.subjects import Lane, token
from streams.topology import LEASES

log = structlog.get_logger()

HEARTBEAT_SECONDS = 1.0
DEAD_SECONDS = 3.0
"""Without a beat for this long an instance is replaced; with the beat and the load, well inside five seconds."""


class Member(Struct):
    """One instance: its counter, into how many lanes it cuts the stage, and where it runs, so that neighbours can see
    its process end."""

    beat: int
    place: str
    pid: int
    started: str
    layout: int = 0


class LeaseTable(Struct):
    """Who lives and who owns what: instance -> member, lane name -> instance; all lanes are of one layout."""

    members: dict[str, Member] = {}
    lanes: dict[str, str] = {}
    layout: int = 0


class Heartbeats:
    """How long each member's counter has stood still, by this observer's clock, while it was looking."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked = 0.0

    def look(self, now: float) -> None:
        """Say that the roster was read. After a gap nobody's silence is known: all may have been cut off alike."""
        if now - self._looked > 2 * HEARTBEAT_SECONDS:
            self._seen.clear()
        self._looked = now

    def silent_seconds(self, name: str, member: Member, now: float) -> float:
        beat, since = self._seen.get(name, (-1, now))
        if beat != member.beat:
            self._seen[name] = (member.beat, now)
            return 0.0
        return now - since


def fair_shares(lanes: int, owned: Mapping[str, int]) -> dict[str, int]:
    """How many lanes each instance keeps, given how many it has: all the same but for one, as few moves as can be."""
    share, extra = divmod(lanes, len(owned))
    order = sorted(owned, key=lambda name: (-owned[name], name))
    return {name: share + (place < extra) for place, name in enumerate(order)}


class LaneLeases:
    """One instance's part in the sharing of one stage's lanes.

    `take(lane)` is called when a lane becomes ours and must start work without waiting for its end; `leave(lane)`
    must have stopped the work when it returns, and the lane is given back only then; `lost(lane)` says that somebody
    else owns the lane already. The instance goes on beating while it leaves.
    """

    def __init__(
        self,
        connection: Connection,
        stage: str,
        lanes: Sequence[Lane],
        instance: str,
        *,
        take: Callable[[Lane], None],
        leave: Callable[[Lane], Awaitable[None]],
        lost: Callable[[Lane], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._stage = stage
        self._subject = f"leases.{token(stage)}"
        self._lanes = {lane.name: lane for lane in lanes}
        self.instance = instance
        self._take = take
        self._leave = leave
        self._lost = lost
        self._owned: set[str] = set()
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._beats = Heartbeats()
        self._standing_by = 0
        self._self = Member(0, _place(), os.getpid(), _started(os.getpid()), len(self._lanes))
        self._confirmed = -1e9
        self._log = log.bind(stage=stage)
        self.settled = asyncio.Event()
        """Set once the lanes have been shared out for the first time."""

    @property
    def owned(self) -> frozenset[str]:
        """Names of the lanes that are ours."""
        return frozenset(self._owned)

    @property
    def confirmed(self) -> bool:
        """True while nobody can have taken us for dead: our last beat landed less than three seconds ago."""
        return _now() - self._confirmed < DEAD_SECONDS

    async def run(self, stop: asyncio.Event) -> None:
        """Beat, take, leave, until `stop`; then stop the work and give every lane back."""
        stopper = asyncio.create_task(self._wake_on(stop))
        try:
            while True:
                stopping = stop.is_set()
                if stopping:
                    self._part_with(self._owned)
                try:
                    await self._beat(stopping)
                except LogError as error:
                    if stopping and not self._busy():
                        self._log.info("ownership.not_given_back", error=str(error))
                        return
                    self._log.warning("ownership.retry", error=str(error))
                if stopping and not self._owned and not self._leaving:
                    return
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            stopper.cancel()
            for task in self._leaving.values():
                task.cancel()
            await asyncio.gather(stopper, *self._leaving.values(), return_exceptions=True)

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _beat(self, stopping: bool) -> None:
        """One turn: read the roster, settle what is ours, write it back; whoever changed it meanwhile goes first."""
        for _ in range(20):
            self._wake.clear()
            sequence, roster = await self._read()
            now = _now()
            self._beats.look(now)
            self._bury_dead(roster, now)
            if self._must_stand_by(roster):
                self._lose(self._owned)
                self._forget_left()
                return
            self._lose({name for name in self._owned if roster.lanes.get(name, self.instance) != self.instance})
            mine = self._settle(roster, stopping)
            if await self._write(roster, sequence):
                self._confirmed = now
                for name in sorted(mine - self._owned):
                    self._owned.add(name)
                    self._log.info("lane.taken", lane=name, members=len(roster.members))
                    self._take(self._lanes[name])
                self.settled.set()
                return
            await asyncio.sleep(0.01)

    def _must_stand_by(self, roster: LeaseTable) -> bool:
        """True while instances live that cut the stage into other lanes: two layouts at once would do work twice."""
        own = len(self._lanes)
        others = [name for name, member in roster.members.items() if member.layout == roster.layout]
        standing_by = roster.layout if roster.layout != own and others else 0
        if standing_by and standing_by != self._standing_by:
            self._log.error(
                "ownership.stands_by",
                lanes=own,
                why=f"{len(others)} instances of this stage run with {standing_by} lanes; "
                f"stop them all, or start this one with {standing_by} lanes",
            )
        self._standing_by = standing_by
        return bool(standing_by)

    def _settle(self, roster: LeaseTable, stopping: bool) -> set[str]:
        """Write our part into the roster; the lanes that are ours once it is stored."""
        self._self.beat += 1
        roster.layout = len(self._lanes)
        roster.members[self.instance] = self._self
        held = Counter(roster.lanes.values())
        shares = fair_shares(len(self._lanes), {name: held[name] for name in roster.members})
        share = 0 if stopping else shares[self.instance]
        staying = sorted(self._owned - self._leaving.keys())
        self._part_with(staying[share:])
        self._forget_left()
        taken = {name for name, owner in roster.lanes.items() if owner != self.instance}
        free = [name for name in self._lanes if name not in taken | self._owned | self._leaving.keys()]
        mine = self._owned | set(free[: max(0, share - len(staying))])
        roster.lanes = {lane: owner for lane, owner in roster.lanes.items() if lane in self._lanes and lane in taken}
        roster.lanes |= dict.fromkeys(mine, self.instance)
        if stopping and not mine:
            del roster.members[self.instance]
        return mine

    def _lose(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            self._owned.discard(name)
            self._log.warning("lane.lost", lane=name)
            if name not in self._leaving:
                self._part(name, self._lost)

    def _part_with(self, names: Iterable[str]) -> None:
        for name in sorted(set(names) - self._leaving.keys()):
            self._log.info("lane.left", lane=name)
            self._part(name, self._leave)

    def _part(self, name: str, how: Callable[[Lane], Awaitable[None]]) -> None:
        async def part() -> None:
            await how(self._lanes[name])
            self._wake.set()

        self._leaving[name] = asyncio.create_task(part())

    def _forget_left(self) -> None:
        for name in [name for name, task in self._leaving.items() if task.done()]:
            del self._leaving[name]
            self._owned.discard(name)

    def _busy(self) -> bool:
        return any(not task.done() for task in self._leaving.values())

    def _bury_dead(self, roster: LeaseTable, now: float) -> None:
        for name, member in list(roster.members.items()):
            if name == self.instance:
                continue
            silent = self._beats.silent_seconds(name, member, now)
            if silent > DEAD_SECONDS or _has_gone(member, self._self.place):
                self._log.warning("member.dead", instance=name, silent_seconds=round(silent, 1))
                del roster.members[name]
        roster.lanes = {lane: owner for lane, owner in roster.lanes.items() if owner in roster.members}

    async def _read(self) -> tuple[int, LeaseTable]:
        stored = await last(self._connection, LEASES.name, self._subject)
        if stored is None:
            return 0, LeaseTable()
        return stored.sequence, msgspec.json.decode(stored.payload, type=LeaseTable)

    async def _write(self, roster: LeaseTable, sequence: int) -> bool:
        record = Record(self._subject, msgspec.json.encode(roster))
        try:
            await append(self._connection, [record], ExpectedVersion(self._subject, sequence), timeout=2)
        except ConflictError:
            return False
        return True


def _now() -> float:
    return asyncio.get_running_loop().time()


def _place() -> str:
    """This machine since its last start, and this process namespace: inside it a pid means something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # dead, and its parent has not looked yet
    except (OSError, IndexError):
        return ""


def _has_gone(member: Member, place: str) -> bool:
    """True when a member of this very machine has no process any more."""
    return bool(place) and member.place == place and _started(member.pid) != member.started
