"""`vibe bench pipeline`: every trade of the load arrives as decisions, fills and ledger rows, each exactly once."""

import json
from pathlib import Path

from tests.system.command import vibe


async def test_a_small_load_is_copied_exactly_once(tmp_path: Path) -> None:
    load = (
        "--rate",
        "8",
        "--fanout",
        "3",
        "--influencers",
        "8",
        "--subscribers",
        "6",
        "--seconds",
        "3",
        "--venue-limits",
    )
    ended = await vibe(tmp_path, "bench", "pipeline", *load, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["sent"], found["signals"], found["requests"]) == (24, 24, 72)
    assert (found["decided"], found["executed"]) == (72, 72)
    assert found["ledger"] == 72 + 6, "a fill for each decision, a deposit for each subscriber"
    assert (found["lost"], found["doubled"], found["lag"], found["dead_letters"]) == (0, 0, 0, 0)
    parts = {name: value for name, value in found["cpu_ms_per_request"].items() if name != "total"}
    assert {"ingest", "signals", "copies", "projections", "nats-server", "postgres"} <= parts.keys()
    assert found["cpu_ms_per_request"]["total"] > 0
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert found["row_p99_ms"] > 0
    assert found["bytes_per_request"]["EXECUTIONS"] > 0
    assert found["messages_per_commit"] > 1
    assert found["venue"]["requests_refused"] == 0
    assert found["venue"]["weight"] < 300, "books come from the socket"
    assert not list(tmp_path.glob("**/bench-pipeline-*")), "the servers' folder is removed"
