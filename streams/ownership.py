"""Ownership: the instances of a stage share its lanes; each lane has one owner, and a dead owner is replaced.

One small document per stage, on one subject of LEASES, changed only by compare-and-set: who lives (a counter that
each instance moves every second) and who owns which lane. An instance whose counter stands still for three seconds
of the observer's own clock is taken for dead; one on the same machine whose process has gone, at once. Owners give
up lanes beyond their fair share, so instances come and go without a restart of the others.

This chooses who works; it does not exclude. A paused owner that wakes up may still believe that a lane is its own:
the guard on the lane's checkpoint refuses it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from streams.append import Guard, Record, append
from streams.connection import Connection
from streams.errors import ConflictError, LogError
from streams.read import last
from streams.subjects import Lane, token
from streams.topology import LEASES

log = structlog.get_logger()

BEAT_SECONDS = 1.0
DEAD_SECONDS = 3.0
"""Without a beat for this long an instance is replaced; with the beat and the load, well inside five seconds."""


class Member(Struct):
    """One instance: its counter, and where it runs, so that neighbours can see its process end."""

    beat: int
    place: str
    pid: int
    started: str


class Roster(Struct):
    """Who lives and who owns what: instance -> member, lane name -> instance."""

    members: dict[str, Member] = {}
    lanes: dict[str, str] = {}


class Beats:
    """How long each member's counter has stood still, by this observer's clock."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def silent_seconds(self, name: str, member: Member, now: float) -> float:
        beat, since = self._seen.get(name, (-1, now))
        if beat != member.beat:
            self._seen[name] = (member.beat, now)
            return 0.0
        return now - since


def fair_share(lanes: int, members: int) -> int:
    """The most lanes that one of `members` instances keeps."""
    return -(-lanes // max(1, members))


class Ownership:
    """One instance's part in the sharing of one stage's lanes.

    `take(lane)` is called when a lane becomes ours and must start work without waiting for its end; `leave(lane)`
    must have stopped the work when it returns; `lost(lane)` says that somebody else owns the lane already.
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
        self._beats = Beats()
        self._self = Member(0, _place(), os.getpid(), _started(os.getpid()))
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
        while not stop.is_set():
            try:
                await self._beat()
            except LogError as error:
                self._log.warning("ownership.retry", error=str(error))
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue
        await self._resign()

    async def _beat(self) -> None:
        """One turn: read the roster, settle what is ours, write it back; whoever changed it meanwhile goes first."""
        for _ in range(20):
            sequence, roster = await self._read()
            now = _now()
            for name in [name for name in self._owned if roster.lanes.get(name, self.instance) != self.instance]:
                self._owned.discard(name)
                self._log.warning("lane.lost", lane=name, to=roster.lanes[name])
                await self._lost(self._lanes[name])
            self._bury_dead(roster, now)
            self._self.beat += 1
            roster.members[self.instance] = self._self
            share = fair_share(len(self._lanes), len(roster.members))
            for name in sorted(self._owned)[share:]:
                await self._leave(self._lanes[name])
                self._owned.discard(name)
                self._log.info("lane.left", lane=name, members=len(roster.members))
            mine = set(self._owned)
            for name in self._lanes:
                if len(mine) < share and name not in mine and roster.lanes.get(name) is None:
                    mine.add(name)
            roster.lanes = {n: o for n, o in roster.lanes.items() if o != self.instance and n in self._lanes}
            roster.lanes |= dict.fromkeys(mine, self.instance)
            if await self._write(roster, sequence):
                self._confirmed = now
                for name in sorted(mine - self._owned):
                    self._owned.add(name)
                    self._log.info("lane.taken", lane=name, members=len(roster.members))
                    self._take(self._lanes[name])
                self.settled.set()
                return
            await asyncio.sleep(0.01)

    def _bury_dead(self, roster: Roster, now: float) -> None:
        for name, member in list(roster.members.items()):
            if name == self.instance:
                continue
            silent = self._beats.silent_seconds(name, member, now)
            if silent > DEAD_SECONDS or _has_gone(member, self._self.place):
                self._log.warning("member.dead", instance=name, silent_seconds=round(silent, 1))
                del roster.members[name]
        roster.lanes = {lane: owner for lane, owner in roster.lanes.items() if owner in roster.members}

    async def _resign(self) -> None:
        for name in sorted(self._owned):
            await self._leave(self._lanes[name])
        try:
            for _ in range(20):
                sequence, roster = await self._read()
                roster.members.pop(self.instance, None)
                roster.lanes = {lane: owner for lane, owner in roster.lanes.items() if owner != self.instance}
                if await self._write(roster, sequence):
                    break
        except LogError as error:
            self._log.info("ownership.not_given_back", error=str(error))
        self._owned.clear()

    async def _read(self) -> tuple[int, Roster]:
        stored = await last(self._connection, LEASES.name, self._subject)
        if stored is None:
            return 0, Roster()
        return stored.sequence, msgspec.json.decode(stored.payload, type=Roster)

    async def _write(self, roster: Roster, sequence: int) -> bool:
        record = Record(self._subject, msgspec.json.encode(roster))
        try:
            await append(self._connection, [record], Guard(self._subject, sequence), timeout=2)
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
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _has_gone(member: Member, place: str) -> bool:
    """True when a member of this very machine has no process any more."""
    return bool(place) and member.place == place and _started(member.pid) != member.started
