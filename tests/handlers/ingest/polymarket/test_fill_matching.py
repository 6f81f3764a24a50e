"""On-chain fills match activity rows: one to one, in either order, a micro of rounding allowed."""

from domain.events import TradeSide
from handlers.ingest.polymarket.fill_matching import REMEMBERED, FillMatching

KEY = ("0xaa", "7", TradeSide.BUY)


def test_a_log_waits_for_its_row() -> None:
    fills = FillMatching()
    assert fills.log(KEY, 20_000_000, 1.0)
    assert fills.waiting
    fills.row(KEY, 20_000_000)
    assert not fills.waiting


def test_a_log_whose_row_came_first_does_not_wait() -> None:
    fills = FillMatching()
    fills.row(KEY, 20_000_001)
    assert not fills.log(KEY, 20_000_000, 1.0)
    assert not fills.waiting


def test_a_row_of_another_size_side_asset_or_transaction_is_another_fill() -> None:
    fills = FillMatching()
    fills.row(KEY, 20_000_002)
    fills.row(("0xab", "7", TradeSide.BUY), 20_000_000)
    fills.row(("0xaa", "8", TradeSide.BUY), 20_000_000)
    fills.row(("0xaa", "7", TradeSide.SELL), 20_000_000)
    assert fills.log(KEY, 20_000_000, 1.0)


def test_equal_fills_of_one_transaction_need_a_row_each() -> None:
    fills = FillMatching()
    for _ in range(3):
        fills.log(KEY, 45_000_000, 1.0)
    fills.row(KEY, 45_000_000)
    fills.row(KEY, 45_000_000)
    assert fills.waiting
    fills.row(KEY, 45_000_000)
    assert not fills.waiting


def test_a_removed_log_waits_no_longer_and_the_next_one_matches_the_row() -> None:
    fills = FillMatching()
    fills.log(KEY, 5, 1.0)
    fills.removed(KEY, 5)
    assert not fills.waiting
    fills.row(KEY, 5)
    assert not fills.log(KEY, 5, 2.0)
    fills.removed(KEY, 5)
    assert not fills.log(KEY, 5, 3.0), "the row stays when its log is removed"


def test_a_log_is_overdue_by_its_own_time() -> None:
    fills = FillMatching()
    fills.log(KEY, 5, 1.0)
    fills.log(KEY, 6, 1.5)
    fills.log(KEY, 7, 9.0)
    assert fills.overdue(5.0) == [KEY, KEY]
    assert fills.waiting
    assert fills.overdue(5.0) == []
    fills.row(KEY, 7)
    assert not fills.waiting


def test_what_is_remembered_is_bounded() -> None:
    fills = FillMatching()
    for number in range(REMEMBERED + 1):
        fills.log((f"0x{number}", "7", TradeSide.BUY), 5, 1.0)
    assert len(fills.overdue(2.0)) == REMEMBERED
