"""Paper fills: level by level inside the band, with the venue's fee."""

from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import Level
from domain.micros import micros, times
from domain.paper import Taken, depth, inside, walk
from tests.domain.facts import ASKS, BIDS, BUY, SELL, levels

FEE = 450  # 4.5 bps


def taken(price: str, share: str, notional: str, fee: str) -> Taken:
    return Taken(micros(price), micros(share), micros(notional), micros(fee))


def test_an_order_takes_one_level_after_the_other() -> None:
    assert walk(ASKS, micros("12"), FEE) == (
        taken("100.05", "5", "500.25", "0.225112"),
        taken("100.10", "7", "700.7", "0.315315"),
    )


def test_an_order_that_fits_takes_a_part_of_the_best_level() -> None:
    assert walk(BIDS, micros("0.1"), FEE) == (taken("99.95", "0.1", "9.995", "0.004497"),)


def test_a_level_that_is_taken_exactly_ends_the_walk() -> None:
    assert [t.share_micros for t in walk(ASKS, micros("15"), FEE)] == [micros("5"), micros("10")]


def test_an_order_larger_than_the_book_fills_what_there_is() -> None:
    assert sum(t.share_micros for t in walk(ASKS, micros("1000"), FEE)) == micros("35")


def test_nothing_asked_or_nothing_there_fills_nothing() -> None:
    assert walk(ASKS, 0, FEE) == walk(ASKS, -5, FEE) == walk((), micros("1"), FEE) == ()


def test_the_fee_is_rounded_down() -> None:
    assert walk(levels("1 x 1"), 2_222, FEE)[0].fee_micros == 0  # 0.9999 micros
    assert walk(levels("1 x 1"), 2_223, FEE)[0].fee_micros == 1


def test_inside_keeps_the_levels_that_are_not_worse_than_the_limit() -> None:
    assert inside(ASKS, BUY, micros("100.10")) == ASKS[:2]
    assert inside(BIDS, SELL, micros("99.90")) == BIDS[:2]
    assert inside(ASKS, BUY, micros("100.04")) == ()
    assert inside(BIDS, SELL, micros("99.96")) == ()


def test_depth_is_what_the_levels_are_worth() -> None:
    assert depth(ASKS[:2]) == micros("1501.25")
    assert depth(()) == 0


books = st.lists(st.tuples(st.integers(1, 10**11), st.integers(1, 10**12)), max_size=8).map(
    lambda found: tuple(sorted(found))
)


@given_any(books, st.integers(0, 10**13), st.integers(0, 10_000))
def test_what_holds_of_every_walk(book: tuple[Level, ...], asked: int, fee: int) -> None:
    fills = walk(book, asked, fee)
    got = sum(fill.share_micros for fill in fills)
    assert got == min(asked, sum(size for _, size in book))
    assert [fill.price_micros for fill in fills] == [price for price, _ in book[: len(fills)]]
    for fill, (price, size) in zip(fills, book, strict=False):
        assert 0 < fill.share_micros <= size
        assert fill.notional_micros == times(price, fill.share_micros)
        assert fill.fee_micros == fill.notional_micros * fee // 1_000_000
    assert all(fill.share_micros == size for fill, (_, size) in zip(fills[:-1], book, strict=False))
