"""An example log for read models: complete event flows from raw event to position, with unique ids and valid causes."""

from collections.abc import Iterable, Iterator

from domain.events import (
    CashDeposited,
    CopyDecided,
    Decision,
    Event,
    ExecutionCompleted,
    GroupClosed,
    GroupMatched,
    OrderFilled,
    OrderSubmitted,
    PositionChanged,
    QuoteCaptured,
    QuoteFailed,
    RawReceived,
    SignalRecorded,
)
from handlers.live.event_codec import codec
from streams import subjects
from streams.append import MAX_BATCH, Record, append
from streams.connection import Connection
from tests.streams.examples import example

TIME = 1_795_000_000_000_000_000
CODEC = codec()

Appended = tuple[str, str, Event]
"""(stream, subject, event)."""


def flows(first: int, count: int) -> Iterator[Appended]:
    """The events of `count` flows numbered from `first`: raw event, signal, group, quote, match, decision, order,
    fills."""
    for n in range(first, first + count):
        subscriber, coin = f"sub-{n % 7}", f"COIN{n % 3}"
        subject = subjects.executions(subscriber)
        group = example(
            GroupClosed, group_id=f"g{n}", influencer_id="whale", asset=coin, signal_ids=(f"s{n}",), delta_micros=n
        )
        yield "RAW", subjects.raw("whale", "hyperliquid", "trades", "0xab"), example(RawReceived, raw_id=f"r{n}")
        yield (
            "SIGNALS",
            subjects.signals("whale", "hyperliquid", coin),
            example(SignalRecorded, signal_id=f"s{n}", source_event_id=f"r{n}", asset=coin, delta_micros=n),
        )
        yield "GROUPS", subjects.groups("whale", "hyperliquid", coin), group
        quote: Event = example(QuoteCaptured, quote_id=f"q{n}", group=group)
        if n % 5 == 0:
            quote = example(QuoteFailed, quote_id=f"q{n}", group=group)
        yield "GROUPS", subjects.quotes("whale", "hyperliquid", coin), quote
        yield "REQUESTS", subjects.matched("whale"), example(GroupMatched, group_id=f"g{n}", matched=n)
        if n % 10 == 1:
            yield "EXECUTIONS", subject, example(CashDeposited, deposit_id=f"d{n}", subscriber_id=subscriber)
        decision = Decision.SKIP if n % 4 == 0 else Decision.EXECUTE
        yield (
            "EXECUTIONS",
            subject,
            example(CopyDecided, attempt_id=f"a{n}", subscriber_id=subscriber, decision=decision),
        )
        if decision is Decision.EXECUTE:
            order = {"order_id": f"o{n}", "attempt_id": f"a{n}", "subscriber_id": subscriber, "asset": coin}
            yield "EXECUTIONS", subject, example(OrderSubmitted, **order)
            for number in range(n % 3):
                yield "EXECUTIONS", subject, example(OrderFilled, fill_id=f"f{n}.{number}", **order)
            yield "EXECUTIONS", subject, example(ExecutionCompleted, filled_micros=n % 3, requested_micros=2, **order)
            yield (
                "EXECUTIONS",
                subject,
                example(PositionChanged, order_id=f"o{n}", subscriber_id=subscriber, asset=coin, share_micros=n),
            )


async def append_events(connection: Connection, events: Iterable[Appended]) -> None:
    """Append events to their streams, in order within each."""
    by_stream: dict[str, list[Record]] = {}
    for number, (stream, subject, event) in enumerate(events):
        payload = CODEC.encode(
            event, id=f"{stream}.{number}", source="tests", time_ns=TIME, correlation="c", causation="RAW:12"
        )
        by_stream.setdefault(stream, []).append(Record(subject, payload))
    for records in by_stream.values():
        for start in range(0, len(records), MAX_BATCH):
            await append(connection, records[start : start + MAX_BATCH])
