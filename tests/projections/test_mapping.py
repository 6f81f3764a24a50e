"""Mapped rows are the same whether made one by one or a block at a time, and invalid declarations raise."""

import random
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from domain.events import CashDeposited, CopyDecided, ExecutionCompleted, OrderFilled, OrderSubmitted
from handlers.live.event_codec import ALL, codec
from projections.engine.event_decoder import EventDecoder, Unreadable
from projections.engine.mapping import CAUSE, INDEX, SEQUENCE, From, add, insert, sequence_of, sequences_of, upsert
from projections.engine.projection import ANY, Projection, shape
from projections.engine.row_batch import RowBatch
from projections.engine.table import Add, Change, Table, timestamp
from projections.models import PROJECTIONS
from projections.models.copy_attempt import COPY_ATTEMPT, CopyAttempts
from projections.models.event_count import EventCounts
from projections.models.ledger_entry import LEDGER_BALANCE, LedgerEntries
from projections.models.portfolio_snapshot import PortfolioSnapshots
from projections.models.position import Positions
from streams.bulk_replay import Block
from streams.envelope import Recorded
from streams.topology import EXECUTIONS
from tests.projections.fills import FILL, Fills
from tests.streams.examples import example

CODEC = codec()
MAPPED = [each for each in PROJECTIONS if each.maps]


def stored(event: Struct, number: int, cause: str | None = "REQUESTS:7") -> bytes:
    return CODEC.encode(event, id=f"id-{number}", source="s", time_ns=number * 7 * 10**9, causation=cause)


def block(payloads: list[bytes]) -> Block:
    return Block(list(range(1, len(payloads) + 1)), [b"a.b"] * len(payloads), payloads)


def history(names: list[str], chance: random.Random, count: int = 60) -> list[bytes]:
    """Events of these types whose numbers, times and texts vary."""
    made = []
    for number in range(count):
        name = chance.choice(names)
        event = example(ALL[name])
        varied = {
            field: chance.randrange(1, 9) * 10**15 + chance.randrange(10**9)
            if isinstance(value, int)
            else f"{value} {chance.randrange(4)} ü"
            for field, value in ((field, getattr(event, field)) for field in event.__struct_fields__)
            if type(value) in (int, str)
        }
        cause = chance.choice([None, f"REQUESTS:{number}"])
        made.append(stored(msgspec.structs.replace(event, **varied), number, cause))
    return made


def waiting(rows: RowBatch) -> dict[str, Any]:
    return {name: getattr(rows, name) for name in ("_appended", "_new", "_whole", "_parts", "_sums", "appended")}


@pytest.mark.parametrize("projection", MAPPED, ids=lambda projection: projection.name)
def test_rows_of_a_block_equal_rows_made_one_by_one(projection: Projection) -> None:
    chance = random.Random(projection.name)
    types = [name for name in projection.maps if name != ANY] or ["order.filled", "breaker.reset"]
    others = {"execution.requested", "influencer.configured"} - projection.types
    payloads = history([*types, *others], chance)
    decoder = EventDecoder(CODEC, "EXECUTIONS", [projection])
    alone, together = RowBatch(), RowBatch()
    for event, (wanting,) in decoder.events(zip(*block(payloads), strict=True), {projection.name: 0}):
        assert isinstance(event, Recorded)
        alone.merge(wanting.changes(event))
    made, left = decoder.mapped(block(payloads))
    for each in made:
        together.take(each.mapped, each.rows)
    assert left.sequences == []
    # Sorted, because a block is mapped type by type.
    for rows in (alone, together):
        for appended in rows._appended.values():
            appended.sort(key=repr)
    assert waiting(together) == waiting(alone)
    assert any(waiting(alone).values())


def test_folding_projections_get_the_rest_of_a_block() -> None:
    fills, orders = Fills(), Orders()
    payloads = history(["order.filled", "order.submitted", "position.changed"], random.Random(1))
    decoder = EventDecoder(CODEC, "EXECUTIONS", [fills, orders, Positions(), EventCounts()])
    made, left = decoder.mapped(block(payloads))
    assert {each.mapped.table.name for each in made} == {"fill", "position", "event_count"}
    submitted = [payload for payload in payloads if b"order.submitted" in payload]
    assert left.payloads == submitted
    positions = dict.fromkeys(("fill", "orders", "position", "event_count"), 0)
    decoded = list(decoder.events(zip(*left, strict=True), positions, folded=True))
    assert [wanting for _, wanting in decoded] == [(orders,)] * len(submitted)


def test_a_block_with_an_invalid_event_is_not_mapped() -> None:
    payloads = history(["order.filled"], random.Random(2), 5)
    decoder = EventDecoder(CODEC, "EXECUTIONS", [Fills()])
    for bad in (payloads[2].replace(b'"BUY"', b'"UP"'), stored(example(OrderFilled, filled_at=10**30), 3)):
        with pytest.raises((msgspec.MsgspecError, OverflowError)):
            decoder.mapped(block([*payloads, bad]))


def test_payloads_with_other_white_space_are_mapped_in_order() -> None:
    ours, theirs = stored(example(OrderFilled), 1), b" " + stored(example(OrderFilled), 2)
    decoder = EventDecoder(CODEC, "EXECUTIONS", [Fills()])
    made, left = decoder.mapped(block([ours, theirs]))
    assert [(each.projection, len(each.rows)) for each in made] == [("fill", 2)]
    assert left.payloads == []


def test_every_event_of_a_commit_is_mapped() -> None:
    events = [(f"fill-{number}", example(OrderFilled, fill_id=f"fill-{number}")) for number in range(3)]
    payload = CODEC.encode_commit(events, source="s", time_ns=1, causation="REQUESTS:7.1")
    made, _ = EventDecoder(CODEC, "EXECUTIONS", [Fills()]).mapped(block([payload]))
    ((_, mapped, rows),) = made
    column = list(mapped.table.columns).index("fill_id")
    assert [row[column] for row in rows] == ["fill-0", "fill-1", "fill-2"]


def test_an_event_that_only_its_maps_can_decode_is_mapped() -> None:
    attempts, whole = CopyAttempts(), Decisions()
    bad = stored(example(CopyDecided, levels=((1, 2),)), 1).replace(b'"levels":[[1,2]]', b'"levels":"none"')
    decoder = EventDecoder(CODEC, "EXECUTIONS", [attempts, whole])
    positions = {"copy_attempt": 0, "decisions": 0}
    made, left = decoder.mapped(block([bad]))
    ((lost, wanting),) = decoder.events(zip(*left, strict=True), positions, folded=True)
    assert [each.projection for each in made] == ["copy_attempt"]
    assert isinstance(lost, Unreadable)
    assert wanting == (whole,)
    (mapped, alone), (unreadable, others) = decoder.events(zip(*block([bad]), strict=True), positions)
    assert isinstance(mapped, Recorded)
    assert alone == (attempts,)
    assert isinstance(unreadable, Unreadable)
    assert others == (whole,)


def test_an_event_is_processed_by_the_projections_whose_fields_can_be_decoded() -> None:
    attempts, snapshots, counts = CopyAttempts(), PortfolioSnapshots(), EventCounts()
    bad = stored(example(CopyDecided), 1).replace(b'"asset":"the asset"', b'"asset":7')
    decoder = EventDecoder(CODEC, "EXECUTIONS", [attempts, snapshots, counts])
    with pytest.raises(msgspec.ValidationError):
        decoder.mapped(block([bad]))
    positions = dict.fromkeys(("copy_attempt", "portfolio_snapshot", "event_count"), 0)
    found = list(decoder.events(zip(*block([bad]), strict=True), positions))
    assert [(isinstance(event, Unreadable), wanting) for event, wanting in found] == [
        (False, (snapshots,)),
        (False, (counts,)),
        (True, (attempts,)),
    ]


class Orders(Projection):
    """Folds whole orders."""

    name = "orders"
    reads = (EXECUTIONS,)
    types = frozenset({"order.submitted"})
    tables = ()


class Decisions(Projection):
    """Folds whole decisions."""

    name = "decisions"
    reads = (EXECUTIONS,)
    types = frozenset({"copy.decided"})
    tables = ()


THING = Table("thing", ("fill_id",), {"fill_id": "text", "number": "bigint", "note": "text NULL"}, append_only=True)
SUMS = Table("sums", ("venue",), {"venue": "text", "fee_micros": "bigint", "fills": "bigint", "late": "bigint"})
LAST = Table("last", ("order_id",), {"order_id": "text", "filled_at": "timestamptz", "cause": "bigint"})


def of(mapped: Any, **fields: Any) -> Change:
    payload = stored(example(OrderFilled, **fields), 1, "REQUESTS:12")
    (event,) = CODEC.decode("EXECUTIONS", 41, "a.b", payload)
    change: Change = mapped.change(event)
    return change


def test_rows_of_a_block_of_commits_equal_rows_made_one_by_one() -> None:
    """Decisions with and without an order in their commit, two in one commit, and orders of earlier decisions."""
    chance = random.Random(4)
    payloads = []
    for number in range(0, 120, 2):
        events: list[Struct] = [example(CashDeposited, deposit_id=f"d{number}")]
        for attempt in (f"a{number}", f"a{number + 1}"):
            of = {"attempt_id": attempt, "order_id": f"o-{attempt}"}
            kinds: list[type[Struct]] = [CopyDecided, OrderSubmitted, OrderFilled, ExecutionCompleted]
            chosen = [kind for kind in kinds if chance.random() < 0.7]
            fields: list[dict[str, Any]] = [
                of if kind is not CopyDecided else {"attempt_id": attempt} for kind in chosen
            ]
            events += [
                example(kind, **own, decided_at=number * 10**9) if kind is CopyDecided else example(kind, **own)
                for kind, own in zip(chosen, fields, strict=True)
            ]
        chance.shuffle(events)
        ids = [(f"{number}.{place}", event) for place, event in enumerate(events)]
        payloads.append(CODEC.encode_commit(ids, source="s", time_ns=number, causation=f"REQUESTS:{number}.5"))
    attempts = CopyAttempts()
    decoder = EventDecoder(CODEC, "EXECUTIONS", [attempts, LedgerEntries(), EventCounts()])
    alone, together = RowBatch(), RowBatch()
    positions = dict.fromkeys(("copy_attempt", "ledger_entry", "event_count"), 0)
    for event, wanting in decoder.events(zip(*block(payloads), strict=True), positions):
        assert isinstance(event, Recorded)
        for each in wanting:
            alone.merge(each.changes(event))
    for made in decoder.mapped(block(payloads))[0]:
        together.take(made.mapped, made.rows)
    for rows in (alone, together):
        for appended in rows._appended.values():
            appended.sort(key=repr)
    assert waiting(together) == waiting(alone)
    assert {name for name, rows in alone._appended.items() if rows} == {
        "copy_attempt", "later_order", "later_result", "booking",
    }  # fmt: skip
    ordered = [row for row in alone._appended["copy_attempt"] if row[list(COPY_ATTEMPT.columns).index("order_id")]]
    assert 0 < len(ordered) < len(alone._appended["copy_attempt"])


def test_sources_of_columns() -> None:
    assert of(insert(THING, OrderFilled, number=SEQUENCE)).row == {  # type: ignore[union-attr]
        "fill_id": "the fill_id",
        "number": 41,
        "note": None,
    }
    constants = insert(THING, OrderFilled, fill_id=From("order_id", str.upper), number=3, note="constant")
    assert of(constants).row == {"fill_id": "THE ORDER_ID", "number": 3, "note": "constant"}  # type: ignore[union-attr]
    assert of(upsert(LAST, OrderFilled, cause=CAUSE), filled_at=5_000).row == {  # type: ignore[union-attr]
        "order_id": "the order_id",
        "filled_at": timestamp(5_000),
        "cause": 12,
    }
    assert of(add(SUMS, OrderFilled, fills=1)) == Add(SUMS, ("hyperliquid",), {"fee_micros": 7, "fills": 1, "late": 0})


def test_invalid_declarations_raise() -> None:
    with pytest.raises(ValueError, match=r"thing\.number: OrderFilled has no such field; declare the source"):
        insert(THING, OrderFilled)
    with pytest.raises(ValueError, match="thing has no column nombre"):
        insert(THING, OrderFilled, nombre=SEQUENCE)
    with pytest.raises(ValueError, match="OrderFilled has no field nothing"):
        insert(THING, OrderFilled, number=From("nothing"))
    with pytest.raises(ValueError, match="rows of append-only tables are inserted"):
        upsert(THING, OrderFilled, number=SEQUENCE)
    with pytest.raises(ValueError, match="rows of append-only tables are inserted"):
        insert(LEDGER_BALANCE, OrderFilled, entries=1)


def test_of_several_types_that_upsert_a_row_the_last_event_wins() -> None:
    class Both(Projection):
        name = "both"
        reads = (EXECUTIONS,)
        types = frozenset({"order.filled", "order.submitted"})
        tables = (LAST,)
        maps: ClassVar = {
            "order.filled": (upsert(LAST, OrderFilled, cause=SEQUENCE),),
            "order.submitted": (upsert(LAST, OrderSubmitted, filled_at=From("submitted_at"), cause=SEQUENCE),),
        }

    submitted, filled = ([example(kind, order_id=order) for order in "ab"] for kind in (OrderSubmitted, OrderFilled))
    order = [filled[0], submitted[0], submitted[1], filled[1]]
    made, _ = EventDecoder(CODEC, "EXECUTIONS", [Both()]).mapped(block([stored(e, n) for n, e in enumerate(order)]))
    rows = RowBatch()
    for each in made:
        rows.take(each.mapped, each.rows)
    assert {key: row[2] for key, row in rows._whole["last"].items()} == {("a",): 2, ("b",): 4}


def test_fold_is_not_called_for_mapped_types() -> None:
    class Observer(Fills):
        def fold(self, event: Recorded) -> Iterator[Change]:
            raise AssertionError(event)

    (event,) = CODEC.decode("EXECUTIONS", 1, "a.b", stored(example(OrderFilled), 1))
    assert list(Observer().changes(event)) == list(Fills().changes(event))


def test_a_changed_map_changes_the_shape() -> None:
    class Other(Fills):
        maps: ClassVar = {"order.filled": (insert(FILL, OrderFilled, sequence=CAUSE, index=INDEX),)}

    assert shape(Other()) != shape(Fills())


@given(st.lists(st.one_of(st.none(), st.from_regex(r"\A([1-3A:]{0,4}:)?[0-9]{1,2}(\.[0-9]{1,2})?\Z"), st.just(""))))
def test_sequences_of_many_addresses_equal_those_of_each(addresses: list[str | None]) -> None:
    assert list(sequences_of(addresses)) == list(map(sequence_of, addresses))
