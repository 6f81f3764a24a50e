"""On-chain fills find their activity rows: one to one, in either order, a micro of rounding allowed."""

from domain.events import TradeSide
from handlers.ingest.polymarket.fill_matching import REMEMBERED, FillMatching

KEY = ("0xaa", "7", TradeSide.BUY)


def test_a_log_waits_for_its_row() -> None:
    joins = FillMatching()
    assert joins.log(KEY, 20_000_000, 1.0)
    assert joins.waiting
    joins.row(KEY, 20_000_000)
    assert not joins.waiting


def test_a_log_whose_row_was_there_before_does_not_wait() -> None:
    joins = FillMatching()
    joins.row(KEY, 20_000_001)
    assert not joins.log(KEY, 20_000_000, 1.0)
    assert not joins.waiting


def test_a_row_of_another_size_side_asset_or_transaction_is_another_fill() -> None:
    joins = FillMatching()
    joins.row(KEY, 20_000_002)
    joins.row(("0xab", "7", TradeSide.BUY), 20_000_000)
    joins.row(("0xaa", "8", TradeSide.BUY), 20_000_000)
    joins.row(("0xaa", "7", TradeSide.SELL), 20_000_000)
    assert joins.log(KEY, 20_000_000, 1.0)


def test_equal_fills_of_one_transaction_need_a_row_each() -> None:
    joins = FillMatching()
    for _ in range(3):
        joins.log(KEY, 45_000_000, 1.0)
    joins.row(KEY, 45_000_000)
    joins.row(KEY, 45_000_000)
    assert joins.waiting
    joins.row(KEY, 45_000_000)
    assert not joins.waiting


def test_a_log_taken_back_waits_no_more_and_its_successor_finds_the_row() -> None:
    joins = FillMatching()
    joins.log(KEY, 5, 1.0)
    joins.removed(KEY, 5)
    assert not joins.waiting
    joins.row(KEY, 5)
    assert not joins.log(KEY, 5, 2.0)
    joins.removed(KEY, 5)
    assert not joins.log(KEY, 5, 3.0), "the row outlives the log that was taken back"


def test_logs_are_given_up_by_their_own_time() -> None:
    joins = FillMatching()
    joins.log(KEY, 5, 1.0)
    joins.log(KEY, 6, 1.5)
    joins.log(KEY, 7, 9.0)
    assert joins.overdue(5.0) == [KEY, KEY]
    assert joins.waiting
    assert joins.overdue(5.0) == []
    joins.row(KEY, 7)
    assert not joins.waiting


def test_what_is_remembered_is_bounded() -> None:
    joins = FillMatching()
    for number in range(REMEMBERED + 1):
        joins.log((f"0x{number}", "7", TradeSide.BUY), 5, 1.0)
    assert len(joins.overdue(2.0)) == REMEMBERED
