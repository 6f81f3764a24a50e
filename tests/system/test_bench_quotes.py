"""`vibe bench quotes`: a load of groups gets its books from the socket, within the venue's real limits."""

import json
from pathlib import Path

from tests.system.command import vibe


async def test_a_small_load_is_quoted_from_the_socket_within_the_venues_limits(tmp_path: Path) -> None:
    ended = await vibe(tmp_path, "bench", "quotes", "--rate", "20", "--coins", "10", "--seconds", "4", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["groups"], found["quoted"], found["failed"]) == (80, 80, {})
    assert found["socket"] + found["request"] + found["shared"] == 80
    assert found["socket_share"] > 0.5, "only a loaded machine is late with the first ones"
    assert (found["requests_refused"], found["subscriptions_refused"]) == (0, 0)
    assert found["weight"] <= 20 + 2 * found["request"], (
        "the coins' lots, and a request for each book that was not live"
    )
    assert found["subscriptions"] == 10 * (2 + 2), "two for each book, one for each listener"
    assert 0 < found["age_p50_ms"] <= found["age_p99_ms"]
