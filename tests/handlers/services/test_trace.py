"""Tracing over a log and a trace index: which events belong to an id, whatever it is the id of."""

from typing import Any

import pytest
from msgspec import structs

from domain.events import Event, GroupMatched, OrderSubmitted, RawReceived
from domain.requests import own_part, shared_part
from handlers.live.event_codec import codec
from handlers.services.trace import Trace, Tracer, first_time
from streams.append import Record, append
from streams.connection import Connection
from streams.dead_letters import dead_letter
from tests.domain.facts import at, bought, captured, completed, decided, deposited, group_closed, requested, signal
from tests.streams.examples import example

LEDGER = [{"entry_id": "led_1", "sequence": 3}]


class FakeIndex:
    """The index of the log that `store_pipeline` writes."""

    async def find_attempts(self, wanted: str) -> tuple[str, list[str]] | None:
        return ("decision", ["att-1"]) if wanted == "att-1" else None

    async def find_group(self, wanted: str) -> tuple[str, int] | None:
        return ("signal group", 1) if wanted == "grp-1" else None

    async def find_trades(self, wanted: str) -> tuple[str, list[tuple[str, int, int]]] | None:
        trades = {"s1": ("s1", 1, 1), "s2": ("s2", 2, 2)}
        return ("signal", [trades[wanted]]) if wanted in trades else None

    async def find_cash_entry(self, wanted: str) -> int | None:
        return 4 if wanted == "dep-1" else None

    async def groups_of_signals(self, signal_ids: list[str]) -> list[int]:
        return [1] if "s1" in signal_ids else []

    async def group_of_attempt(self, attempt_id: str) -> int | None:
        return 1

    async def attempts_of_group(self, group_id: str, limit: int) -> list[str]:
        return ["att-1"][:limit]

    async def quote_of_group(self, group_id: str) -> tuple[int, int] | None:
        return 2, 2

    async def fan_out_of_group(self, group_id: str) -> int | None:
        return 2

    async def decision(self, attempt_id: str) -> int:
        return 1

    async def orders(self, attempt_id: str) -> list[tuple[int, int | None]]:
        return [(2, 2)]

    async def ledger(self, attempt_id: str) -> list[dict[str, Any]]:
        return LEDGER


def raw(raw_id: str) -> RawReceived:
    return example(RawReceived, raw_id=raw_id, detect_time=at(40))


async def store(log: Connection, subject: str, *events: Event, cause: str | None = None) -> None:
    """One commit of these events, a signal under its own id."""
    named = [(getattr(event, "signal_id", subject), event) for event in events]
    payload = codec().encode_commit(named, source="tests", time_ns=at(0), correlation="c", causation=cause)
    await append(log, [Record(subject, payload)])


async def store_pipeline(log: Connection) -> None:
    """A trade that is copied; a second one without a group; another subscriber's fill right behind the order."""
    fill = structs.replace(bought("BTC", "0.5", "100"), order_id="ord-1", attempt_id="att-1")
    await store(log, "raw.1.x", raw("r1"))
    await store(log, "raw.1.x", raw("r2"))
    await store(log, "signals.1.x", signal("s1"), cause="RAW:1.0")
    await store(log, "signals.1.x", signal("s2"), cause="RAW:2.0")
    await store(log, "groups.1.x", group_closed())
    await store(log, "quotes.1.x", captured())
    await store(log, "requests.1.x", shared_part(requested()), own_part(requested()))
    await store(log, "requests.matched.x", example(GroupMatched, group_id="grp-1"))
    await store(log, "executions.1.x", deposited(), decided(), cause="REQUESTS:1.1")
    order = example(OrderSubmitted, order_id="ord-1", attempt_id="att-1")
    await store(log, "executions.1.x", order, fill, completed("att-1", order_id="ord-1"), cause="EXECUTIONS:1.1")
    await store(log, "executions.1.x", bought("BTC", "1", "100", attempt="another"))
    await store(log, "executions.1.x", deposited(), cause="CONFIG:1.0")


def places(trace: Trace | None) -> list[str]:
    assert trace is not None
    return [hop.at for hop in (*trace.shared, *(hop for attempt in trace.attempts for hop in attempt.hops))]


PIPELINE = ["RAW:1.0", "SIGNALS:1.0", "GROUPS:1.0", "GROUPS:2.0", "GROUPS:2.0", "REQUESTS:2.0"]
ATTEMPT = ["REQUESTS:1.1", "EXECUTIONS:1.1", "EXECUTIONS:2.0", "EXECUTIONS:2.1", "EXECUTIONS:2.2"]


@pytest.mark.parametrize(
    ("wanted", "found_as", "expected"),
    [
        ("att-1", "decision", [*PIPELINE, *ATTEMPT]),
        ("grp-1", "signal group", [*PIPELINE, *ATTEMPT]),
        ("grp-1.matched", "signal group", [*PIPELINE, *ATTEMPT]),
        ("s1", "signal", [*PIPELINE, *ATTEMPT]),
        ("s2", "signal", ["RAW:2.0", "SIGNALS:2.0"]),
        ("dep-1", "ledger entry", ["EXECUTIONS:4.0"]),
        ("EXECUTIONS:2.1", "place EXECUTIONS:2.1", [*PIPELINE, *ATTEMPT]),
        ("EXECUTIONS:1", "place EXECUTIONS:1", ["EXECUTIONS:1.0"]),
        ("EXECUTIONS:4", "place EXECUTIONS:4", ["EXECUTIONS:4.0"]),
    ],
)
async def test_an_id_finds_the_events_around_it(
    log: Connection, wanted: str, found_as: str, expected: list[str]
) -> None:
    await store_pipeline(log)
    trace = await Tracer(log, FakeIndex()).trace(wanted)
    assert places(trace) == expected
    assert trace is not None
    assert trace.found_as == found_as
    assert [attempt.ledger for attempt in trace.attempts] == ([LEDGER] if len(expected) > 2 else [])


async def test_latencies_are_counted_from_the_detection_of_the_first_raw_event(log: Connection) -> None:
    await store_pipeline(log)
    trace = await Tracer(log, FakeIndex()).trace("att-1")
    assert trace is not None
    assert first_time(trace) == at(40)


async def test_a_dead_letter_is_found_by_its_id_and_by_its_origin(log: Connection) -> None:
    await dead_letter(
        log,
        stage="normalize",
        stream="RAW",
        sequence=9,
        subject="raw.1.x",
        payload=b"{",
        error="no JSON",
        now=at(0),
        dead_id="normalize:RAW:9",
    )
    for wanted in ("normalize:RAW:9", "RAW:9"):
        trace = await Tracer(log, FakeIndex()).trace(wanted)
        assert trace is not None
        assert (trace.found_as, [each.data.error for each in trace.dead]) == ("dead letter", ["no JSON"])


async def test_an_unknown_id_finds_nothing(log: Connection) -> None:
    await store_pipeline(log)
    assert await Tracer(log, FakeIndex()).trace("att-unknown") is None
