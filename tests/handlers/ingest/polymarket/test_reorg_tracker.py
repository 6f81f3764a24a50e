"""Which stored log a log of another block is, after reorganisations."""

import json

from gateways.polymarket.log_parsing import ChainFill, Log, log_id, parse_log
from handlers.ingest.polymarket.reorg_tracker import ReorgTracker
from tests.handlers.ingest.polymarket.by_hand import log_of


def read(block: int, *, shares: int = 20_000_000, index: int = 1) -> tuple[str, ChainFill, Log]:
    """A log of transaction 1: its id, its fill, and the message."""
    wire = log_of(1, block=block, logIndex=hex(index))
    wire["data"] = wire["data"].replace(f"{20_000_000:064x}", f"{shares:064x}")
    payload = json.dumps(wire).encode()
    return log_id(payload), parse_log(payload), Log(payload, None)  # type: ignore[arg-type]


def tracking(*logs: tuple[str, ChainFill, Log]) -> ReorgTracker:
    tracker = ReorgTracker()
    for each in logs:
        tracker.add(*each)
    return tracker


def test_the_same_fill_in_another_block_is_the_stored_one_however_often_it_arrives_and_moves() -> None:
    first, second, third = read(1_000), read(1_001), read(1_002)
    tracker = tracking(first)
    for moved in (second, second, third):
        assert tracker.move(*moved[:2]) == first[0]
        assert tracker.displaced(moved[1]) == []
    found = tracker.stored_of(*third[:2])
    assert found is not None
    assert (found[0], found[1].fill.block_hash) == (first[0], third[1].block_hash)


def test_another_fill_of_the_transaction_is_new_and_shows_that_the_first_is_gone() -> None:
    first, other = read(1_000), read(1_001, shares=10_000_000)
    tracker = tracking(first)
    assert tracker.move(*other[:2]) is None
    assert [each.fill for each in tracker.displaced(other[1])] == [first[1]]


def test_equal_fills_of_a_transaction_move_one_to_one() -> None:
    one, two = read(1_000, index=1), read(1_000, index=2)
    tracker = tracking(one, two)
    assert tracker.move(*read(1_001, index=1)[:2]) == one[0]
    assert tracker.move(*read(1_001, index=2)[:2]) == two[0]
    assert tracker.move(*read(1_001, index=3)[:2]) is None, "there are two of them"


def test_a_log_that_was_removed_is_new_when_it_comes_back() -> None:
    first, second = read(1_000), read(1_001)
    tracker = tracking(first)
    assert tracker.move(*second[:2]) == first[0]
    tracker.remove(first[0], second[1])
    assert tracker.stored_of(*second[:2]) is None
    assert tracker.move(*second[:2]) is None
