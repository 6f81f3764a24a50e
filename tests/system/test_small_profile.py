"""The small profile: everything on one CPU, within the memory of a small machine, in one process of stages."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.system.command import start
from vibe.app.system import MOST_PROCESSES, PROCESSES, processes_of

MEMORY_MB = 1_200
"""What a small machine of 2 GB has left for it, with room for the system."""


def tree(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from tree(int(child))


def memory_mb(pid: int) -> float:
    """The memory of a process in MB, with its part of what it shares."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1_000 for line in rollup.splitlines() if line.startswith("Pss:")), 0.0)


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


async def test_a_demo_runs_on_one_cpu_in_little_memory_in_one_process_of_stages(tmp_path: Path) -> None:
    process = await start(tmp_path, "demo", "--seconds", "8", "--json", settings={"VIBE_PROFILE": "small"})
    cpu = min(os.sched_getaffinity(0))
    largest, stages = 0.0, Counter[str]()
    ended = asyncio.create_task(process.communicate())
    try:
        while not ended.done():
            pids = list(tree(process.pid))
            for pid in pids:
                try:
                    os.sched_setaffinity(pid, {cpu})
                except OSError:
                    continue
            largest = max(largest, sum(map(memory_mb, pids)))
            stages.update({f"{pid}" for pid in pids if "vibe run" in command_of(pid)})
            await asyncio.wait({ended}, timeout=0.5)
        out, err = await asyncio.wait_for(ended, 120)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err.decode()
    assert len(stages) == 1, "all stages are in one process"
    assert 100 < largest < MEMORY_MB
    report = out.decode().strip().splitlines()[-1]
    assert '"lag":0' in report
    assert '"dead_letters":0' in report
    assert (tmp_path / "web-token").is_file(), "the pages are served by the same process"


def test_every_number_of_processes_runs_every_stage_once_and_plan_as_often_as_it_is_shared() -> None:
    for count in range(1, MOST_PROCESSES + 1):
        processes = processes_of(count)
        assert len(processes) == count
        ran = Counter(stage for stages in processes.values() for stage in stages)
        assert set(ran) == {stage for stages in PROCESSES.values() for stage in stages}
        assert ran.pop("plan") == max(1, count - 3)
        assert set(ran.values()) == {1}
