"""The table of streams: applied, verified, repaired; and history that cannot be edited."""

import pytest

from streams import topology
from streams.append import Record, append
from streams.connection import Connection
from streams.errors import RefusedError, TopologyError
from streams.reader import get
from streams.topology import STREAMS

HISTORY = [stream for stream in STREAMS if stream.config(1)["deny_delete"]]


async def test_apply_is_idempotent_and_verify_passes(log: Connection) -> None:
    assert {stream.name for stream in HISTORY} >= {
        "RAW", "SIGNALS", "GROUPS", "REQUESTS", "EXECUTIONS", "CONFIG", "DEAD", "DISCOVERY"
    }  # fmt: skip
    await topology.verify(log)
    await append(log, [Record("config.a.b", b"kept")])
    for _ in range(2):
        assert await topology.apply(log) == [(stream.name, "unchanged") for stream in STREAMS]
    await topology.verify(log)
    kept = await get(log, "CONFIG", 1)
    assert kept is not None
    assert kept.payload == b"kept"


async def test_a_missing_stream_is_named_and_made(log: Connection) -> None:
    await log.api("STREAM.DELETE.GROUPS")
    with pytest.raises(TopologyError, match=r"GROUPS does not exist; run: vibe streams apply"):
        await topology.verify(log)
    assert ("GROUPS", "created") in await topology.apply(log)
    await topology.verify(log)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_age", 3_600_000_000_000),
        ("subjects", ["groups.>"]),
        ("duplicate_window", 1_000_000_000),
        ("allow_atomic", False),
        ("max_msgs", 10),
        ("compression", "none"),
        ("description", "changed"),
        ("discard", "new"),
    ],
)
async def test_a_changed_stream_is_reported_and_repaired(log: Connection, setting: str, value: object) -> None:
    found = await topology.info(log, "GROUPS")
    assert found is not None
    await log.api("STREAM.UPDATE.GROUPS", {**found["config"], setting: value})
    with pytest.raises(TopologyError, match=f"stream GROUPS: .*{setting} is "):
        await topology.verify(log)
    assert [name for name, what in await topology.apply(log) if what == "updated"] == ["GROUPS"]
    await topology.verify(log)


@pytest.mark.parametrize("stream", HISTORY, ids=lambda stream: stream.name)
async def test_history_cannot_be_deleted_or_purged(log: Connection, stream: topology.Stream) -> None:
    subject = stream.subjects[0].replace(">", "x.y")
    await append(log, [Record(subject, b"history")])
    for call, body in ((f"STREAM.MSG.DELETE.{stream.name}", {"seq": 1}), (f"STREAM.PURGE.{stream.name}", {})):
        with pytest.raises(RefusedError, match="not permitted"):
            await log.api(call, body)
    found = await topology.info(log, stream.name)
    assert found is not None
    for setting in ("deny_delete", "deny_purge"):
        with pytest.raises(RefusedError):
            await log.api(f"STREAM.UPDATE.{stream.name}", {**found["config"], setting: False})
    kept = await get(log, stream.name, 1)
    assert kept is not None
    assert kept.payload == b"history"


async def test_an_unknown_stream_has_no_info(log: Connection) -> None:
    assert await topology.info(log, "UNKNOWN") is None
