"""The system: counts per minute, latencies, checkpoints of stages, and changes of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from projections.models.system_metrics import BEYOND, BUCKETS
from projections.queries.fetch import Reader, many


class Minute(Struct, frozen=True, kw_only=True):
    """Counts of one minute (UTC, by recording time); minutes without events are absent."""

    minute: datetime
    raw_events: int
    signals: int
    observations: int
    gaps: int
    groups: int
    quotes: int
    quotes_failed: int
    requests: int
    executed: int
    skipped: int
    orders: int
    fills: int
    results: int
    settlements: int
    breakers_tripped: int
    dead_letters: int


class Latency(Struct, frozen=True, kw_only=True):
    """Durations of one hop in a time span: exact count and mean, percentiles to within their bucket, in microseconds.

    `percentiles` by the requested percents, interpolated linearly inside a bucket.
    """

    hop: str
    events: int
    mean_us: int
    percentiles: dict[str, int]


class Checkpoint(Struct, frozen=True, kw_only=True):
    """The checkpoint of a lane: its `position` in the stream that it reads."""

    writes: str
    stage: str
    lane: str
    reads: str
    position: int
    config_sequence: int
    superseded: bool
    sequence: int
    reached_at: datetime


class AuditLine(Struct, frozen=True, kw_only=True):
    """One change of the configuration; `event` holds its facts."""

    sequence: int
    index: int
    event_id: str
    kind: str
    target_id: str
    actor: str
    recorded_at: datetime
    event: dict[str, Any]


class _Bucket(Struct, frozen=True, kw_only=True):
    hop: str
    up_to_us: int
    events: int
    total_us: int


async def minutes(db: Reader, since: datetime, until: datetime) -> list[Minute]:
    """The counts of every minute with events in [since, until), in order."""
    return await many(
        db,
        Minute,
        f"SELECT {', '.join(Minute.__struct_fields__)} FROM system_metrics "
        "WHERE minute >= $1 AND minute < $2 ORDER BY minute",
        since,
        until,
    )


async def latencies(
    db: Reader, since: datetime, until: datetime, percents: Sequence[int] = (50, 95, 99)
) -> list[Latency]:
    """Every hop's latency over the minutes in [since, until), by hop; from the buckets of system_latency."""
    found = await many(
        db,
        _Bucket,
        "SELECT hop, up_to_us, sum(events) AS events, sum(total_us) AS total_us FROM system_latency "
        "WHERE minute >= $1 AND minute < $2 GROUP BY hop, up_to_us ORDER BY hop, up_to_us",
        since,
        until,
    )
    by_hop: dict[str, list[_Bucket]] = {}
    for bucket in found:
        by_hop.setdefault(bucket.hop, []).append(bucket)
    return [_latency(hop, buckets, percents) for hop, buckets in by_hop.items()]


def _latency(hop: str, buckets: Sequence[_Bucket], percents: Sequence[int]) -> Latency:
    events = sum(bucket.events for bucket in buckets)
    return Latency(
        hop=hop,
        events=events,
        mean_us=sum(bucket.total_us for bucket in buckets) // events,
        percentiles={str(percent): _percentile(buckets, events, percent) for percent in percents},
    )


def _percentile(buckets: Sequence[_Bucket], events: int, percent: int) -> int:
    wanted, below = -(-events * percent // 100), 0
    for bucket in buckets:
        if below + bucket.events >= wanted:
            low, high = _limits(bucket)
            return low + (high - low) * (wanted - below) // bucket.events
        below += bucket.events
    return 0


def _limits(bucket: _Bucket) -> tuple[int, int]:
    if bucket.up_to_us == BEYOND:
        return BUCKETS[-1], max(BUCKETS[-1], bucket.total_us // bucket.events)
    number = BUCKETS.index(bucket.up_to_us)
    return BUCKETS[number - 1] if number else 0, bucket.up_to_us


async def checkpoints(db: Reader) -> list[Checkpoint]:
    """The checkpoints of all lanes of all stages, those of earlier lane layouts included (`superseded`)."""
    return await many(
        db,
        Checkpoint,
        f"SELECT {', '.join(Checkpoint.__struct_fields__)} FROM system_checkpoint ORDER BY writes, stage, lane",
    )


async def audit_log(
    db: Reader, *, target_id: str | None = None, before: int | None = None, before_index: int = 0, limit: int = 50
) -> list[AuditLine]:
    """Changes of the configuration, newest first, before a sequence of CONFIG or an event of its message; of one target
    if `target_id` is given."""
    wanted = ["(sequence, index) < (coalesce($1::bigint, 9223372036854775807), $3::integer)"]
    if target_id is not None:
        wanted.append("target_id = $4")
    return await many(
        db,
        AuditLine,
        f"SELECT {', '.join(AuditLine.__struct_fields__)} FROM audit_log WHERE {' AND '.join(wanted)} "
        "ORDER BY sequence DESC, index DESC LIMIT $2",
        before,
        limit,
        before_index,
        *([target_id] if target_id is not None else []),
    )
