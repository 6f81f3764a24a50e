"""One port for a group of processes: every metric of each with the label `process`, and the health of all."""

import socket
from pathlib import Path

import aiohttp
import pytest

from vibe.app.group_endpoints import group_endpoints, merged
from vibe.app.http_endpoints import child_endpoints, endpoints
from vibe.app.observability import of_this_process
from vibe.app.settings import Settings
from vibe.app.supervisor import Child, Supervisor
from vibe.app.web_process import PortTakenError

HEALTHY = of_this_process(lambda: {"ok": True, "ready": True, "problems": []})

COPIES = """# HELP vibe_events_read_total Input events read
# TYPE vibe_events_read_total counter
vibe_events_read_total{stage="plan"} 3.0
# HELP vibe_commit_seconds Duration
# TYPE vibe_commit_seconds histogram
vibe_commit_seconds_bucket{le="+Inf",stage="plan"} 2.0
vibe_commit_seconds_count{stage="plan"} 2.0
"""
SIGNALS = """# HELP vibe_events_read_total Input events read
# TYPE vibe_events_read_total counter
vibe_events_read_total{stage="match"} 5.0
# HELP vibe_exits_owed Owed exits
# TYPE vibe_exits_owed gauge
vibe_exits_owed 0.0
"""


def test_each_family_is_described_once_and_each_sample_names_its_process() -> None:
    assert (
        merged({"copies": COPIES, "signals": SIGNALS})
        == """# HELP vibe_events_read_total Input events read
# TYPE vibe_events_read_total counter
vibe_events_read_total{process="copies",stage="plan"} 3.0
vibe_events_read_total{process="signals",stage="match"} 5.0
# HELP vibe_commit_seconds Duration
# TYPE vibe_commit_seconds histogram
vibe_commit_seconds_bucket{process="copies",le="+Inf",stage="plan"} 2.0
vibe_commit_seconds_count{process="copies",stage="plan"} 2.0
# HELP vibe_exits_owed Owed exits
# TYPE vibe_exits_owed gauge
vibe_exits_owed{process="signals"} 0.0
"""
    )


async def test_the_parent_answers_for_its_children_and_names_one_that_does_not(tmp_path: Path) -> None:
    supervisor = Supervisor({}, tmp_path)
    copies = supervisor.children["copies"] = Child("copies", ["run", "plan"])
    supervisor.children["sandbox"] = Child("sandbox", ["sandbox"])
    reported: list[str] = []
    group = group_endpoints(supervisor)
    async with (
        endpoints(Settings(http_port=None), group) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        async with client.get("/healthz") as answer:
            assert (answer.status, (await answer.json())["problems"]) == (503, ["copies: it does not answer"])
        async with child_endpoints(HEALTHY, reported.append):
            copies.http_port = int(reported[0].removeprefix("http "))
            async with client.get("/healthz") as answer:
                body = await answer.json()
                assert (answer.status, body["ok"], list(body["processes"])) == (200, True, ["copies"])
            async with client.get("/readyz") as answer:
                assert answer.status == 200
            async with client.get("/metrics") as answer:
                text = await answer.text()
                assert 'process="copies"' in text
                assert 'process="supervisor"' in text
        async with client.get("/readyz") as answer:
            assert answer.status == 503


async def test_a_port_that_is_set_and_taken_is_named_and_without_one_another_is_chosen() -> None:
    async with endpoints(Settings(http_port=0), HEALTHY) as none:
        assert none is None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} of 127.0.0.1 is used by another program"):
            async with endpoints(Settings(http_port=port), HEALTHY):
                pass
    async with endpoints(Settings(), HEALTHY) as first, endpoints(Settings(), HEALTHY) as second:
        assert first != second
