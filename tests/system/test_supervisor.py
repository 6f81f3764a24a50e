"""The supervisor reports which processes it waits for, and names those that are late."""

import asyncio
from pathlib import Path

import pytest

from vibe.app.supervisor import Child, Supervisor


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    made = Supervisor({}, tmp_path)
    made.children = {name: Child(name, []) for name in ("ingest", "plan", "sandbox")}
    (tmp_path / "plan.log").write_text("cannot connect\n")
    return made


async def test_each_process_is_reported_and_the_others_are_waited_for(supervisor: Supervisor) -> None:
    reported: list[str] = []
    waiting = asyncio.create_task(
        supervisor.wait_for_all(lambda child: child.ready, 10, "ready", reported.append, report_every=0.05)
    )
    supervisor.children["sandbox"].ready.set()
    await asyncio.sleep(0.2)
    for child in supervisor.children.values():
        child.ready.set()
    await waiting
    assert reported[0] == "ready: sandbox (1 of 3)"
    assert reported[1] == "not ready yet: ingest, plan"
    assert reported[-1] == "ready: ingest, plan (3 of 3)"


async def test_late_processes_are_named_with_the_ends_of_their_logs(supervisor: Supervisor) -> None:
    supervisor.children["sandbox"].prepared.set()
    supervisor.children["ingest"].prepared.set()
    with pytest.raises(TimeoutError, match=r"not connected within 0.1 s: plan\n--- .*plan.log\ncannot connect"):
        await supervisor.wait_for_all(lambda child: child.prepared, 0.1, "connected", lambda _: None)
