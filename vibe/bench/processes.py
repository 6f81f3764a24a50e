"""What processes cost, from /proc: CPU time and memory of this process's descendants, flushes of the disks."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


class Usage(NamedTuple):
    """CPU seconds by role since each process began, and the highest resident size so far in MB."""

    cpu_seconds: dict[str, float]
    rss_mb: dict[str, float]


class _Process(NamedTuple):
    pid: int
    parent: int
    name: str
    own_seconds: float
    reaped_seconds: float


def usage(names: Mapping[int, str]) -> Usage:
    """The usage of all descendants of this process. `names` gives the roles of known processes; nats-server and
    Postgres are recognized by their command names, descendants of a known process count as its own."""
    found = {process.pid: process for pid in _PROC.iterdir() if pid.name.isdigit() if (process := _read(pid))}
    cpu: dict[str, float] = {}
    memory: dict[str, float] = {}
    for process in found.values():
        role = _role(process, found, names)
        if role is None:
            continue
        cpu[role] = cpu.get(role, 0.0) + process.own_seconds
        if process.name == "postgres" and (parent := found.get(process.parent)) and parent.name != "postgres":
            # Backends come and go: those that ended are counted by the postmaster that reaped them.
            cpu[role] += process.reaped_seconds
        memory[role] = memory.get(role, 0.0) + _peak_mb(process.pid)
    return Usage(cpu, memory)


def flushes() -> int | None:
    """Flush requests that all disks have completed since boot; None where the kernel does not count them."""
    total, counted = 0, False
    for line in (_PROC / "diskstats").read_text().splitlines():
        fields = line.split()
        if len(fields) >= 19:
            total, counted = total + int(fields[18]), True
    return total if counted else None


def _read(folder: Path) -> _Process | None:
    try:
        text = (folder / "stat").read_text()
    except OSError:
        return None  # it ended meanwhile
    name, _, rest = text[text.index("(") + 1 :].rpartition(")")
    fields = rest.split()
    own, reaped = (sum(map(int, fields[at : at + 2])) / _TICKS for at in (11, 13))
    return _Process(int(folder.name), int(fields[1]), name, own, reaped)


def _role(process: _Process, found: Mapping[int, _Process], names: Mapping[int, str]) -> str | None:
    role, at = None, process
    while True:
        if at.pid in names:
            return names[at.pid]
        if at.name in ("nats-server", "postgres"):
            role = at.name
        if at.pid == os.getpid():
            return role or "supervisor"
        parent = found.get(at.parent)
        if parent is None:
            return None
        at = parent


def _peak_mb(pid: int) -> float:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
