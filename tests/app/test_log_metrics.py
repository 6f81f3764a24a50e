"""The figures of the log as a whole: what the server reports of its streams, and a hole in one of them."""

from pathlib import Path

from prometheus_client import REGISTRY

from streams.append import Record, append
from streams.connection import Connection
from streams.topology import RAW
from vibe.app.log_metrics import read_disk, read_log


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_a_stream_s_size_and_what_it_lacks(log: Connection) -> None:
    await append(log, [Record(f"raw.1.a.b.{number}", b"{}") for number in range(5)])
    await read_log(log)
    assert value("vibe_stream_messages", stream="RAW") == value("vibe_stream_last_sequence", stream="RAW") == 5
    assert value("vibe_stream_missing_messages", stream="RAW") == 0
    assert value("vibe_stream_messages", stream="SIGNALS") == 0

    # An administrator can make a hole, in a stream that forbids no deletion.
    await log.api(f"STREAM.DELETE.{RAW.name}")
    await log.api(f"STREAM.CREATE.{RAW.name}", {**RAW.config(1), "deny_delete": False})
    await append(log, [Record(f"raw.1.a.b.{number}", b"{}") for number in range(5)])
    await log.api(f"STREAM.MSG.DELETE.{RAW.name}", {"seq": 3})
    await read_log(log)
    assert value("vibe_stream_missing_messages", stream="RAW") == 1


async def test_the_backlog_of_a_consumer_and_the_disk(log: Connection, tmp_path: Path) -> None:
    await append(log, [Record(f"raw.1.a.b.{number}", b"{}") for number in range(3)])
    config = {"name": "normalize-00-15", "durable_name": "normalize-00-15", "ack_policy": "all"}
    await log.api("CONSUMER.CREATE.RAW.normalize-00-15", {"stream_name": "RAW", "config": config})
    await read_log(log)
    assert value("vibe_consumer_waiting", stream="RAW", consumer="normalize-00-15") == 3
    read_disk(tmp_path / "not" / "there")
    assert 0 < (value("vibe_disk_free_bytes") or 0) < (value("vibe_disk_size_bytes") or 0)
