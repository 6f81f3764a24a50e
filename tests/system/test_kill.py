"""kill -9 of everything in the middle of a demo, twice: nothing is decided twice, nothing is missing."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from domain.events import CopyRequested, Venue
from streams.envelope import Recorded
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


async def test_a_killed_demo_continues_where_it_was(tmp_path: Path) -> None:
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
        undisturbed = await at.events()
    # Up to the same time the killed run has the same signals as an undisturbed run of the same seed.
    for venue in Venue:
        seen = [event.data for event in events["signal.recorded"] if event.data.venue is venue]
        # A fill has the time of its block, up to three seconds behind the match: the play may end inside the last.
        all_undisturbed = [e.data for e in undisturbed["signal.recorded"] if e.data.venue is venue]
        # On a slow machine the kills may take longer than the whole of the other run.
        horizon = min(max(signal.event_time for signal in signals) for signals in (seen, all_undisturbed))
        horizon -= 4_000_000_001 * (venue is Venue.POLYMARKET)
        wanted = {signal.signal_id for signal in all_undisturbed if signal.event_time <= horizon}
        assert {signal.signal_id for signal in seen if signal.event_time <= horizon} == wanted, venue
    horizon = min(
        max(event.data.event_time for event in each["signal.recorded"] if of_perpetuals(event))
        for each in (events, undisturbed)
    )
    # Polymarket's windows close by when its data comes, which a stop of everything delays: the other venue's are equal.
    for name in ("group.closed", "execution.requested"):
        found, wanted = (
            {
                event.id
                for event in each[name]
                if of_perpetuals(event) and facts_of(event).event_time <= horizon and not is_try(event)
            }
            for each in (events, undisturbed)
        )
        assert found == wanted


def facts_of(event: Recorded) -> Any:
    """The facts of an event; of a request, those that it shares with the others of its group."""
    return event.head if isinstance(event.data, CopyRequested) else event.data


def is_try(event: Recorded) -> bool:
    """A request of a try of an owed exit, which comes at a time of its own."""
    return isinstance(event.data, CopyRequested) and event.data.exit is not None


def of_perpetuals(event: Recorded) -> bool:
    return bool(facts_of(event).venue is Venue.HYPERLIQUID)


async def started(folder: Path, times: int) -> bool:
    logs = [folder / "logs" / f"{name}.log" for name in ("copies", "projections")]
    return all(path.exists() and path.read_text().count("process.ready") >= times for path in logs)


async def decisions(folder: Path) -> int:
    async with ends(folder) as at:
        count: int = await at.database.fetchval("SELECT count(*) FROM copy_attempt")
        return count


async def more_than(folder: Path, before: int) -> bool:
    return await decisions(folder) > before
