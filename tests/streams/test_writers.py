"""Messages that no writer of their stream can have stored: the server made them of its own answers."""

import asyncio

import pytest

from domain.events import RawReceived
from handlers.live.event_codec import codec
from streams.append import Record, append
from streams.connection import Connection
from streams.errors import UnprocessableError
from streams.reader import Stored, get, read_all
from streams.topology import EXECUTIONS, RAW, SIGNALS, STREAMS
from streams.writers import has_foreign, refuse_foreign
from tests.streams.examples import example
from vibe.verify.findings import Findings, Unproducible

SUBJECT = "raw.1.hyperliquid.fills.0xa"
PAYLOAD = codec().encode(example(RawReceived), id="raw-1", source="vibe/ingest", time_ns=0)


async def test_a_message_that_the_server_redirected_into_another_stream_is_refused_and_named(log: Connection) -> None:
    """A reader of RAW lets the server answer to a subject of EXECUTIONS: its content is a real event."""
    await append(log, [Record(SUBJECT, PAYLOAD)])
    config = {"name": "reader-x", "ack_policy": "none", "mem_storage": True}
    await log.api("CONSUMER.CREATE.RAW.reader-x", {"stream_name": "RAW", "config": config})
    await log.publish("$JS.API.CONSUMER.MSG.NEXT.RAW.reader-x", b"1", reply="executions.1.sam")
    async with asyncio.timeout(5):
        while (redirected := await get(log, EXECUTIONS.name, 1)) is None:
            await asyncio.sleep(0.01)
    assert redirected == Stored(1, SUBJECT, PAYLOAD), "the server keeps the subject that the message had"

    findings = Findings()
    assert findings.events_of(codec(), EXECUTIONS.name, redirected) == []
    why = f"foreign: {SUBJECT} is a subject of RAW, and no writer stores it in EXECUTIONS"
    assert findings.unproducible == [Unproducible("EXECUTIONS:1", "message", why)]


async def test_an_answer_of_the_server_is_no_commit(log: Connection) -> None:
    await log.publish("$JS.API.STREAM.INFO.RAW", reply="signals.1.hyperliquid.ann.BTC")
    async with asyncio.timeout(5):
        while (answer := await get(log, SIGNALS.name, 1)) is None:
            await asyncio.sleep(0.01)
    with pytest.raises(UnprocessableError, match="not a commit of stored events"):
        codec().decode(SIGNALS.name, 1, answer.subject, answer.payload)
    assert [stored async for batch in read_all(log, SIGNALS.name) for stored in batch] == [answer]


@pytest.mark.parametrize(
    ("stream", "subject", "source", "why"),
    [
        ("EXECUTIONS", "executions.1.sam", "vibe/ingest", "foreign: vibe/ingest writes RAW"),
        ("CONFIG", "config.subscriber.sam", "vibe/plan", "foreign: vibe/plan writes EXECUTIONS"),
        ("REQUESTS", "orders.1.sam", "vibe/match", "foreign: vibe/match writes requests.>, and not orders.1.sam"),
        ("REQUESTS", "requests.0.ann", "vibe/execute", "foreign: vibe/execute writes orders.>"),
        ("REQUESTS", "requests.checkpoint.match.00-15", "vibe/execute", "foreign: vibe/execute writes orders.>"),
        ("CONFIG", "requests.0.ann", "vibe/config", "foreign: requests.0.ann is a subject of REQUESTS"),
    ],
)
def test_another_stream_s_subject_and_another_stage_are_refused(
    stream: str, subject: str, source: str, why: str
) -> None:
    with pytest.raises(UnprocessableError, match=why):
        refuse_foreign(stream, subject, source)


def test_every_subject_of_a_stream_and_dead_letters_of_every_stage_belong() -> None:
    for stream in STREAMS:
        for pattern in stream.subjects:
            refuse_foreign(stream.name, pattern.replace(">", "x"), "vibe/unknown")
    refuse_foreign("DEAD", "dead.plan.REQUESTS", "vibe/plan")
    refuse_foreign("REQUESTS", "requests.0.ann", "vibe/match")
    refuse_foreign("REQUESTS", "orders.1.sam", "vibe/execute")
    refuse_foreign("REQUESTS", "requests.checkpoint.execute.00-15", "vibe/execute")
    refuse_foreign("EXECUTIONS", "executions.checkpoint.plan.00-15", "vibe/plan")


def test_a_block_with_one_foreign_subject_has_foreign() -> None:
    assert has_foreign(RAW.name, [b"raw.1.a.b.c", b"signals.1.a.b.c"])
    assert not has_foreign(RAW.name, [b"raw.1.a.b.c"] * 2)
