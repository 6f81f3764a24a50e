"""kill -9 of everything in the middle of a demo, then again: nothing decided twice, nothing missing."""

import asyncio
import os
import signal
from pathlib import Path

from tests.system.command import assert_exactly_once, ends, start, until, vibe


def running(folder: Path) -> list[str]:
    """Command lines of processes that mention the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


async def test_a_killed_demo_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    reference = asyncio.create_task(vibe(whole, "demo", "--seconds", "22", "--json"))

    for run in (1, 2):
        before = await decisions(killed) if run > 1 else 0
        process = await start(killed, "demo", "--json")
        # Only once the demo owns the servers does this process ask them.
        await until(lambda run=run: started(killed, run), 40, "the stages are ready")
        await until(lambda before=before: more_than(killed, before), 40, "decisions before the kill")
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def gone() -> bool:
        return not running(killed)

    await until(gone, 10, "no process of the killed demo is left")

    ended = await vibe(killed, "demo", "--seconds", "3", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["dead_letters"] == 0
    assert (await reference).code == 0

    async with ends(killed) as at:
        events = await at.events()
    assert_exactly_once(events)
    async with ends(whole) as at:
        told = await at.events()
    # What an undisturbed run of the same seed saw up to the same moment is what the killed one saw.
    horizon = max(event.data.event_time for event in events["signal.recorded"])
    wanted = {e.data.signal_id for e in told["signal.recorded"] if e.data.event_time <= horizon}
    assert {e.data.signal_id for e in events["signal.recorded"]} == wanted
    groups = {e.data.group_id for e in told["group.closed"] if e.data.event_time <= horizon}
    assert {e.data.group_id for e in events["group.closed"]} == groups
    requests = {e.data.request_id for e in told["execution.requested"] if e.data.event_time <= horizon}
    assert {e.data.request_id for e in events["execution.requested"]} == requests


async def started(folder: Path, times: int) -> bool:
    path = folder / "logs" / "copies.log"
    return path.exists() and path.read_text().count("process.ready") >= times


async def decisions(folder: Path) -> int:
    async with ends(folder) as at:
        count: int = await at.database.fetchval("SELECT count(*) FROM copy_attempt")
        return count


async def more_than(folder: Path, before: int) -> bool:
    return await decisions(folder) > before
