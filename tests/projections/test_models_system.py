"""system_metrics, system_latency and system_checkpoint: counts per minute, percentiles from buckets, positions of
lanes."""

import random
from datetime import timedelta

import pytest
from msgspec import structs

from domain.events import CopyRequested, Decision, Event, OrderSubmitted, PositionState, RawReceived
from projections.engine.projection import Projection
from projections.engine.table import timestamp
from projections.models.system_checkpoint import SystemCheckpoints
from projections.models.system_metrics import BEYOND, BUCKETS, SystemMetrics, bucket
from projections.queries.system import checkpoints, latencies, minutes
from streams.dead_letters import DeadLettered
from streams.processing.checkpoint import Checkpoint
from tests.domain.facts import at, decided, signal
from tests.projections.model_tables import Session, recorded, stored, tables
from tests.streams.examples import example

NEEDED: tuple[Projection, ...] = (SystemMetrics(), SystemCheckpoints())
MINUTE = 60_000


async def store_recorded(session: Session, *events: tuple[Event, str, int]) -> None:
    """(event, stream, when it was recorded in ms)."""
    await stored(session, [recorded(e, stream, n, at=at(ms)) for n, (e, stream, ms) in enumerate(events)], NEEDED)


async def test_counts_per_minute(database: str) -> None:
    skip = structs.replace(decided(), decision=Decision.SKIP)
    async with tables(database, NEEDED) as session:
        await store_recorded(
            session,
            (example(RawReceived), "RAW", 0),
            (signal(), "SIGNALS", 1),
            (signal("s2"), "SIGNALS", 2),
            (example(CopyRequested), "REQUESTS", 3),
            (decided(), "EXECUTIONS", MINUTE),
            (skip, "EXECUTIONS", MINUTE),
            (example(OrderSubmitted), "EXECUTIONS", MINUTE),
        )
        dead_letter = example(DeadLettered)
        await stored(session, [recorded(dead_letter, "DEAD", 1, at=at(MINUTE))], NEEDED)
        begin = timestamp(at(0)).replace(second=0)
        first, second = await minutes(session, begin, begin + timedelta(minutes=2))
        assert (first.minute, first.raw_events, first.signals, first.requests, first.executed) == (begin, 1, 2, 1, 0)
        assert (second.executed, second.skipped, second.orders, second.dead_letters) == (1, 1, 1, 1)
        assert await minutes(session, begin + timedelta(minutes=1), begin + timedelta(minutes=2)) == [second]


async def test_percentiles_lie_in_the_bucket_of_the_exact_value(database: str) -> None:
    chance = random.Random(5)
    took = [int(chance.lognormvariate(9, 3)) for _ in range(500)] + [0, 99, 100, 101, 2 * 10**9]
    made = [
        structs.replace(signal(f"s{n}"), detect_time=at(0) + one * 1000, event_time=at(0)) for n, one in enumerate(took)
    ]
    historic = structs.replace(signal("old", ms=-(10**6)), position_state=PositionState.HISTORIC)
    async with tables(database, NEEDED) as session:
        await store_recorded(session, *((event, "SIGNALS", n * 500) for n, event in enumerate([*made, historic])))
        begin = timestamp(at(0)).replace(second=0)
        (found,) = await latencies(session, begin, begin + timedelta(minutes=10), (1, 50, 95, 99, 100))
        assert (found.hop, found.events) == ("detect", len(took))
        assert found.mean_us == sum(took) // len(took)
        took.sort()
        for percent in (1, 50, 95, 99):
            exact = took[-(-len(took) * percent // 100) - 1]
            high = bucket(exact)
            low = BUCKETS[BUCKETS.index(high) - 1] if BUCKETS.index(high) else 0
            assert low <= found.percentiles[str(percent)] <= high, percent
        assert found.percentiles["100"] == 2 * 10**9
        assert await latencies(session, begin + timedelta(minutes=10), begin + timedelta(minutes=11)) == []


@pytest.mark.parametrize(
    ("took", "upper"), [(0, 100), (100, 100), (101, 200), (10**9, 10**9), (10**9 + 1, BEYOND), (499, 500)]
)
def test_buckets(took: int, upper: int) -> None:
    assert bucket(took) == upper


async def test_latencies_per_hop_are_never_negative(database: str) -> None:
    early = structs.replace(signal(), detect_time=at(0), event_time=at(5))
    async with tables(database, NEEDED) as session:
        raw = structs.replace(example(RawReceived), detect_time=at(0))
        await store_recorded(
            session,
            (early, "SIGNALS", 0),
            (structs.replace(decided(), detect_time=at(0), decided_at=at(900)), "EXECUTIONS", 0),
            (raw, "RAW", 3),
        )
        begin = timestamp(at(0)).replace(second=0)
        found = {one.hop: one.mean_us for one in await latencies(session, begin, begin + timedelta(minutes=1))}
        assert found == {"detect": 0, "decide": 900_000, "record": 3_000}


async def test_the_newest_checkpoint_of_each_lane(database: str) -> None:
    async with tables(database, NEEDED) as session:
        old = Checkpoint(stage="plan", lane="00-15", stream="REQUESTS", position=5)
        new = structs.replace(old, position=9, config_sequence=3)
        taken = structs.replace(old, lane="00-31", superseded=True)
        other = structs.replace(old, stage="execute", stream="EXECUTIONS")
        events = [recorded(one, "EXECUTIONS", n, at=at(n)) for n, one in enumerate((old, taken, new, other))]
        await stored(session, events, NEEDED)
        found = await checkpoints(session)
        assert [(one.stage, one.lane, one.position, one.superseded) for one in found] == [
            ("execute", "00-15", 5, False),
            ("plan", "00-15", 9, False),
            ("plan", "00-31", 5, True),
        ]
        assert found[1].reached_at == timestamp(at(2))
        assert (found[1].sequence, found[1].config_sequence, found[1].reads) == (2, 3, "REQUESTS")
