"""A stream that is gone, or shorter than what others have read of it, is found before anything is written."""

import pytest

from streams import topology
from streams.append import Record, append
from streams.connection import Connection
from streams.errors import DataLossError
from streams.processing.checkpoint import Checkpoint, encode
from streams.processing.lost_data import refuse_lost_data


async def reached(log: Connection, stream: str, **checkpoint: object) -> None:
    made = Checkpoint(stage="match", lane="00-63", stream="GROUPS", **{"position": 0, **checkpoint})  # type: ignore[arg-type]
    await append(log, [Record(f"{stream.lower()}.checkpoint.match.00-63", encode(made, 1_795_000_000_000_000_000))])


async def fill(log: Connection, subject: str, count: int) -> None:
    await append(log, [Record(subject, b"{}") for _ in range(count)])


async def test_a_log_that_holds_what_its_checkpoints_state_is_whole(log: Connection) -> None:
    await refuse_lost_data(log)
    await fill(log, "groups.1.hyperliquid.ann.BTC", 5)
    await fill(log, "config.subscriber.sam", 2)
    await reached(log, "REQUESTS", position=5, config_sequence=2)
    await refuse_lost_data(log)


async def test_a_stream_that_ends_before_a_checkpoint_has_lost_its_end(log: Connection) -> None:
    await fill(log, "groups.1.hyperliquid.ann.BTC", 5)
    await reached(log, "REQUESTS", position=9)
    with pytest.raises(DataLossError, match=r"GROUPS: sequences 6..9 are missing.*restore the stream from a backup"):
        await refuse_lost_data(log)


async def test_a_stream_that_was_deleted_is_not_made_anew(log: Connection) -> None:
    await fill(log, "config.subscriber.sam", 2)
    await reached(log, "REQUESTS", config_sequence=2)
    await log.api("STREAM.DELETE.CONFIG")
    with pytest.raises(DataLossError, match=r"CONFIG: sequences 1..2 are missing"):
        await refuse_lost_data(log)
    assert await topology.info(log, "CONFIG") is None
