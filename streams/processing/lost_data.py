"""Data that was lost: a stream that is gone, or that ends before what other streams have read of it.

Checkpoints state how far a stage has read its input, CONFIG and the retries in DEAD. Stored events are never removed
from the end of a stream. So one that ends before a checkpoint's position has lost its end: a server that found its
store damaged cuts it off there, and an administrator can delete a stream. To go on would give new events the sequences
of lost ones.
"""

from __future__ import annotations

from functools import partial

from streams.connection import Connection
from streams.errors import DataLossError
from streams.processing import checkpoint as checkpoints
from streams.retry import retry_until_available
from streams.topology import CONFIG, DEAD, HISTORY, info, refuse_other_format


async def refuse_lost_data(connection: Connection) -> None:
    """Raises DataLossError for a stream that is missing or ends before what a checkpoint in another one states, and
    TopologyError for a log of another format. Waits for a cluster without a leader."""
    await retry_until_available(partial(_refuse, connection))


async def _refuse(connection: Connection) -> None:
    ends: dict[str, int] = {}
    reached: dict[str, int] = {}
    for stream in HISTORY:
        found = await info(connection, stream.name)
        ends[stream.name] = int(found["state"]["last_seq"]) if found else 0
        if found is None or not found["state"]["messages"]:
            continue
        refuse_other_format(found)
        body = {"subjects_filter": f"{stream.name.lower()}.checkpoint.>"}
        listed = await connection.api(f"STREAM.INFO.{stream.name}", body)
        for subject in listed["state"].get("subjects") or ():
            _, newest = await checkpoints.load(connection, stream.name, subject)
            if newest is not None:
                for name, position in _positions(newest):
                    reached[name] = max(reached.get(name, 0), position)
    for stream in HISTORY:
        # Ends were read before the checkpoints of later streams: a stage may have gone on meanwhile.
        if reached.get(stream.name, 0) > ends[stream.name]:
            now = await info(connection, stream.name)
            end = int(now["state"]["last_seq"]) if now else 0
            if reached[stream.name] > end:
                raise DataLossError(stream.name, end + 1, reached[stream.name])


def _positions(newest: checkpoints.Checkpoint) -> tuple[tuple[str, int], ...]:
    furthest = max([newest.position, *(position for position, _ in newest.ahead.values())])
    return (newest.stream, furthest), (CONFIG.name, newest.config_sequence), (DEAD.name, newest.retried)
