"""The range of a stream that the log still holds."""

from typing import Any, NamedTuple, cast

from streams.bulk_client import BulkConnection, connect
from streams.connection import Connection
from streams.envelope import nanoseconds
from streams.errors import TopologyError
from streams.topology import info


class LiveRange(NamedTuple):
    """A stream in the log: when it was created, its sequences (`first` is `last` + 1 when it is empty), its age limit
    (ns, 0 = none), and when the log stored the requested message (ns, 0 without one)."""

    created: str
    first: int
    last: int
    max_age: int
    stored_ns: int = 0


async def live_range(url: str, stream: str, *, behind: int | None = None) -> LiveRange:
    """The range of a stream; with `behind`, also when the first message after that sequence was stored.

    Raises TopologyError when the stream does not exist, or what the log raises when it is unreachable.
    """
    bulk = await connect(url, f"archive of {stream}")
    try:
        found = await info(cast(Connection, bulk), stream)  # both have the same api()
        if found is None:
            raise TopologyError(f"stream {stream} does not exist; run: vibe streams apply")
        state = found["state"]
        first, last = int(state["first_seq"]), int(state["last_seq"])
        stored_ns = 0
        if behind is not None and max(behind + 1, first) <= last:
            stored_ns = await _stored(bulk, stream, max(behind + 1, first))
        return LiveRange(found["created"], max(first, 1), last, int(found["config"].get("max_age", 0)), stored_ns)
    finally:
        bulk.close()


async def _stored(bulk: BulkConnection, stream: str, sequence: int) -> int:
    answer: dict[str, Any] = await bulk.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
    whole, _, fraction = answer["message"]["time"].rstrip("Z").partition(".")
    return nanoseconds(f"{whole}.{fraction[:6] or 0}Z")
