"""The fold of each projection: for one event, the expected changes of rows."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Struct

from domain.events import (
    CashDeposited,
    CopyDecided,
    Decision,
    ExecutionCompleted,
    GroupClosed,
    GroupMatched,
    OrderFilled,
    OrderSubmitted,
    PositionChanged,
    QuoteCaptured,
    QuoteFailed,
    SignalRecorded,
)
from domain.reason_codes import Reason
from handlers.live.event_codec import ALL, codec
from projections.engine.mapping import sequence_of
from projections.engine.projection import Projection
from projections.engine.table import Add, Change, Insert, Update, Upsert, timestamp
from projections.models import PROJECTIONS
from projections.models.copy_attempt import COPY_ATTEMPT, LATER_ORDER, LATER_RESULT, CopyAttempts
from projections.models.event_count import EVENT_COUNT, EventCounts
from projections.models.ledger_entry import BOOKING, LEDGER_BALANCE, LedgerEntries
from projections.models.position import POSITION, Positions
from projections.models.signal_group import FAN_OUT, QUOTE, SIGNAL_GROUP, SignalGroups
from projections.models.trade_event import TRADE_EVENT, TradeEvents
from streams.envelope import Recorded
from tests.projections.model_tables import recorded_commit
from tests.streams.examples import example

CODEC = codec()
AT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
"""The time in every example event."""


def recorded(event: Struct, *, stream: str = "EXECUTIONS", sequence: int = 41, cause: str | None = "REQUESTS:7") -> Any:
    payload = CODEC.encode(event, id="id", source="s", time_ns=0, causation=cause)
    return CODEC.decode(stream, sequence, "a.b", payload)[0]


def folded(projection: Projection, event: Recorded) -> Change:
    """The only change; folded twice, because a fold has no state."""
    (once,), (again,) = projection.changes(event), projection.changes(event)
    assert once == again
    return once


def test_trade_event() -> None:
    signal = example(
        SignalRecorded, source_event_id="r", signal_id="s", delta_micros=-5, metadata={"tid": "12", "hash": "0x1"}
    )
    change = folded(TradeEvents(), recorded(signal, stream="SIGNALS", cause="RAW:12"))
    assert change == Insert(
        TRADE_EVENT,
        {
            "source_event_id": "r",
            "raw_sequence": 12,
            "signal_id": "s",
            "signal_sequence": 41,
            "influencer_id": "the influencer_id",
            "venue": "hyperliquid",
            "address": "the address",
            "asset": "the asset",
            "market": "the market",
            "action": "OPEN",
            "side": "LONG",
            "trade_side": "BUY",
            "before_micros": 7,
            "after_micros": 7,
            "delta_micros": -5,
            "price_micros": 7,
            "notional_micros": 7,
            "fee_micros": 7,
            "leverage": 7,
            "order_type": "the order_type",
            "influencer_equity_micros": 7,
            "position_state": "KNOWN",
            "risk_bucket": "the risk_bucket",
            "taker": True,
            "venue_trade_id": "12",
            "venue_hash": "0x1",
            "event_time": AT,
            "detect_time": AT,
        },
    )


def test_copy_attempt() -> None:
    event = example(CopyDecided, attempt_id="a", quote_id=None, decision=Decision.SKIP, reasons=(Reason.NO_QUOTE,))
    change = folded(CopyAttempts(), recorded(event))
    assert isinstance(change, Insert)
    assert change.table is COPY_ATTEMPT
    assert change.row.keys() == COPY_ATTEMPT.columns.keys()
    assert {key: change.row[key] for key in ("attempt_id", "sequence", "request_sequence", "quote_id", "decision")} == {
        "attempt_id": "a",
        "sequence": 41,
        "request_sequence": 7,
        "quote_id": None,
        "decision": "SKIP",
    }
    assert change.row["reasons"] == ("NO_QUOTE",)
    assert change.row["checks"] == '[{"name":"the name","input":7,"limit":7,"passed":true}]'
    assert change.row["decided_at"] == AT


def test_an_order_of_the_commit_of_its_decision_is_in_its_row() -> None:
    of = {"attempt_id": "a", "order_id": "o"}
    events = [
        example(CashDeposited),
        example(CopyDecided, attempt_id="a"),
        example(OrderSubmitted, share_micros=9, **of),
        example(OrderFilled, **of),
        example(ExecutionCompleted, filled_micros=8, reasons=(Reason.PARTIAL_FILL,), **of),
        example(CopyDecided, attempt_id="b", decision=Decision.SKIP),
    ]
    commit = recorded_commit(events, "EXECUTIONS", 41, cause="REQUESTS:7.3")
    (ordered,), (skipped,) = (CopyAttempts().changes(commit[place]) for place in (1, 5))
    assert isinstance(ordered, Insert)
    assert isinstance(skipped, Insert)
    place = ("sequence", "index", "request_sequence", "request_index")
    assert [[change.row[name] for name in place] for change in (ordered, skipped)] == [[41, 1, 7, 3], [41, 5, 7, 3]]
    order = ("order_id", "order_share_micros", "filled_micros", "vwap_micros", "order_reasons", "completed_at")
    assert [ordered.row[name] for name in order] == ["o", 9, 8, 7, '["PARTIAL_FILL"]', AT]
    assert [skipped.row[name] for name in order] == [None] * 6
    assert [list(CopyAttempts().changes(commit[place])) for place in (2, 4)] == [[], []]


def test_an_order_of_another_commit_has_a_row_of_its_own() -> None:
    submitted = folded(CopyAttempts(), recorded(example(OrderSubmitted, order_id="o")))
    assert isinstance(submitted, Insert)
    assert submitted.table is LATER_ORDER
    assert (submitted.row["order_id"], submitted.row["sequence"]) == ("o", 41)
    completed = folded(CopyAttempts(), recorded(example(ExecutionCompleted, order_id="o", filled_micros=3)))
    assert isinstance(completed, Insert)
    assert completed.table is LATER_RESULT
    assert completed.row == {
        "order_id": "o",
        "sequence": 41,
        "requested_micros": 7,
        "filled_micros": 3,
        "notional_micros": 7,
        "fee_micros": 7,
        "average_price_micros": 7,
        "reasons": f'["{next(iter(Reason)).value}"]',
        "completed_at": AT,
    }


def test_position() -> None:
    event = example(PositionChanged, subscriber_id="ann", asset="BTC", share_micros=-3)
    assert folded(Positions(), recorded(event)) == Upsert(
        POSITION,
        {
            "subscriber_id": "ann",
            "venue": "hyperliquid",
            "asset": "BTC",
            "share_micros": -3,
            "cost_micros": 7,
            "average_price_micros": 7,
            "realized_micros": 7,
            "sequence": 41,
            "changed_at": AT,
        },
    )


@pytest.mark.parametrize(("amount", "kind"), [(5, "DEPOSIT"), (-5, "WITHDRAWAL"), (0, "DEPOSIT")])
def test_ledger_entry_of_cash(amount: int, kind: str) -> None:
    event = example(CashDeposited, deposit_id="d", subscriber_id="ann", cash_delta_micros=amount)
    entry, balance = LedgerEntries().changes(recorded(event))
    assert balance == Add(
        LEDGER_BALANCE,
        ("ann", "", "", ""),
        {"entries": 1, "share_micros": 0, "cash_micros": amount, "fee_micros": 0},
    )
    assert entry == Insert(
        BOOKING,
        dict.fromkeys(BOOKING.columns)
        | {
            "sequence": 41,
            "index": 0,
            "kind": kind,
            "subscriber_id": "ann",
            "source_event_id": "d",
            "share_delta_micros": 0,
            "cash_delta_micros": amount,
            "price_micros": 0,
            "notional_micros": 0,
            "fee_micros": 0,
            "booked_at": AT,
        },
    )


def test_ledger_entry_of_a_trade() -> None:
    event = example(OrderFilled, fill_id="f", subscriber_id="ann", share_delta_micros=-2, cash_delta_micros=9)
    change, balance = LedgerEntries().changes(recorded(event))
    assert isinstance(change, Insert)
    assert balance == Add(
        LEDGER_BALANCE,
        ("ann", "the influencer_id", "hyperliquid", "the asset"),
        {"entries": 1, "share_micros": -2, "cash_micros": 9, "fee_micros": 7},
    )
    assert change.row.keys() == BOOKING.columns.keys()
    assert {
        key: change.row[key] for key in ("order_id", "kind", "source_event_id", "share_delta_micros")
    } | {"cash": change.row["cash_delta_micros"]} == {
        "order_id": "the order_id",
        "kind": "TRADE",
        "source_event_id": "f",
        "share_delta_micros": -2,
        "cash": 9,
    }  # fmt: skip


def test_signal_group() -> None:
    event = example(GroupClosed, group_id="g", signal_ids=("a", "b"))
    change = folded(SignalGroups(), recorded(event, stream="GROUPS"))
    assert isinstance(change, Insert)
    assert change.table is SIGNAL_GROUP
    assert change.row.keys() == SIGNAL_GROUP.columns.keys()
    assert (change.row["group_id"], change.row["signal_ids"], change.row["closed_sequence"]) == ("g", ("a", "b"), 41)


def test_quotes_captured_and_failed() -> None:
    group = example(GroupClosed, group_id="g")
    row = {"quote_id": "q", "group_id": "g", "outcome_sequence": 41, "wanted_sequence": 9, "outcome_at": AT}
    captured = recorded(example(QuoteCaptured, quote_id="q", group=group), stream="GROUPS", cause="GROUPS:9")
    assert folded(SignalGroups(), captured) == Insert(QUOTE, row | {"outcome": "CAPTURED", "detail": ""})
    event = example(QuoteFailed, quote_id="q", group=group, reason=Reason.NO_QUOTE, detail="429")
    failed = recorded(event, stream="GROUPS", cause=None)
    expected = row | {"outcome": "NO_QUOTE", "detail": "429", "wanted_sequence": 0}
    assert folded(SignalGroups(), failed) == Insert(QUOTE, expected)


def test_fan_out() -> None:
    event = example(GroupMatched, group_id="g", matched=3, filtered={"SIDE_NOT_WANTED": 2})
    row = {"group_id": "g", "matched_sequence": 41, "matched": 3, "filtered": '{"SIDE_NOT_WANTED":2}'}
    assert folded(SignalGroups(), recorded(event, stream="REQUESTS")) == Upsert(FAN_OUT, row)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_event_is_counted(name: str) -> None:
    change = folded(EventCounts(), recorded(example(ALL[name]), stream="RAW"))
    assert change == Add(EVENT_COUNT, ("RAW", name), {"events": 1})


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_a_projection_processes_each_of_its_types_and_fills_every_column(projection: Projection) -> None:
    assert projection.types <= ALL.keys()
    for name in projection.types:
        for change in projection.changes(recorded(example(ALL[name]))):
            assert change.table in projection.tables
            columns = change.table.columns
            match change:
                case Insert() | Upsert():
                    nullable = {column for column, kind in columns.items() if kind.endswith(" NULL")}
                    assert columns.keys() - nullable <= change.row.keys() <= columns.keys()
                case Update():
                    assert change.columns.keys() <= columns.keys() - set(change.table.key)


def test_names_of_projections_and_tables_are_unique() -> None:
    names = [projection.name for projection in PROJECTIONS]
    tables = [table.name for projection in PROJECTIONS for table in projection.tables]
    assert len(set(names)) == len(names)
    assert len(set(tables)) == len(tables)


def test_sequences_and_timestamps() -> None:
    assert [sequence_of(address) for address in ("RAW:12", None, "")] == [12, 0, 0]
    assert timestamp(1_700_000_000_123_456_999) == AT.replace(microsecond=123_456)
