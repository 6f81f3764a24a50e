"""Partial structs give the same rows as whole events, beside any other projection, and accept no invalid value."""

import msgspec
import pytest

from domain.events import CopyDecided, Event, OrderFilled, PositionChanged, Venue
from domain.reason_codes import Reason
from handlers.live.event_codec import codec
from projections.engine.event_decoder import EventDecoder, Unreadable
from projections.engine.partial_structs import partial_struct
from projections.engine.projection import Projection
from projections.models.copy_attempt import CopyAttempts
from projections.models.ledger_entry import LedgerEntries
from projections.models.position import Positions
from streams.envelope import Recorded
from streams.topology import EXECUTIONS
from tests.projections.fills import Fills
from tests.streams.examples import example

CODEC = codec()
EVENTS = [
    (CopyAttempts(), example(CopyDecided, reasons=(Reason.NO_QUOTE, Reason.SPREAD_TOO_WIDE))),
    (Fills(), example(OrderFilled)),
    (LedgerEntries(), example(OrderFilled, venue=Venue.HYPERLIQUID)),
    (Positions(), example(PositionChanged)),
]


def stored(event: Event) -> bytes:
    return CODEC.encode(event, id="id", source="s", time_ns=0, causation="REQUESTS:7")


def events(payload: bytes, *projections: Projection) -> list[tuple[Recorded | Unreadable, tuple[Projection, ...]]]:
    decoder = EventDecoder(CODEC, "EXECUTIONS", projections)
    return list(decoder.events([(41, b"a.b", payload)], {each.name: 0 for each in projections}))


@pytest.mark.parametrize(("projection", "event"), EVENTS, ids=[each.name for each, _ in EVENTS])
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "written by others"])
def test_partial_structs_give_the_rows_of_whole_events(projection: Projection, event: Event, ours: bool) -> None:
    payload = stored(event) if ours else b" " + stored(event)
    ((found, wanting),) = events(payload, projection)
    assert isinstance(found, Recorded)
    assert wanting == (projection,)
    assert not isinstance(found.data, type(event))
    (whole,) = CODEC.decode("EXECUTIONS", 41, "a.b", payload)
    assert list(projection.changes(found)) == list(projection.changes(whole))


class Folding(Projection):
    """Folds whole fills."""

    name = "folding"
    reads = (EXECUTIONS,)
    types = frozenset({"order.filled"})
    tables = ()


def test_folding_projections_get_the_whole_event_beside_the_partial_one() -> None:
    fills, folding = Fills(), Folding()
    (whole, first), (partial, second) = events(stored(example(OrderFilled)), fills, folding)
    assert (first, second) == ((folding,), (fills,))
    assert isinstance(whole, Recorded)
    assert isinstance(whole.data, OrderFilled)
    assert isinstance(partial, Recorded)
    assert not isinstance(partial.data, OrderFilled)


def test_an_unknown_value_is_unreadable_once_for_all_projections() -> None:
    fills, folding = Fills(), Folding()
    payload = stored(example(OrderFilled, venue=Venue.HYPERLIQUID)).replace(b'"hyperliquid"', b'"nowhere"')
    ((found, wanting),) = events(payload, fills, folding)
    assert isinstance(found, Unreadable)
    assert set(wanting) == {fills, folding}
    ((alone, _),) = events(payload, fills)
    assert isinstance(alone, Unreadable)


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="OrderFilled has no field prize_micros, only fill_id"):
        partial_struct(OrderFilled, ["fill_id", "prize_micros"])


def test_tuples_of_structs_stay_encoded() -> None:
    kinds = {
        field.name: field.type for field in msgspec.structs.fields(partial_struct(CopyDecided, ["checks", "asset"]))
    }
    assert kinds == {"asset": str, "checks": msgspec.Raw}
