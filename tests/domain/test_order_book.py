"""A book with prefix sums (docs/design.md, paper fills): equal to walking it level by level."""

from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import Level
from domain.micros import MICRO, micros
from domain.order_book import Book
from domain.paper_fills import Fees, walk
from tests.domain.facts import ASKS, levels
from tests.domain.reference.order_book import affordable, beyond, depth, needed, worth

FREE = Fees(None, 0)
ALL, BEST = Book(ASKS, FREE), Book(ASKS[:1], FREE)
NOTHING = Book(levels("100.05 x 0"), FREE)


def test_depth_is_what_the_levels_are_worth() -> None:
    assert Book(ASKS[:2], FREE).depth_micros == micros("1501.25")
    assert NOTHING.depth_micros == 0


def test_worth_is_what_an_order_takes_and_past_the_end_at_the_last_price() -> None:
    assert ALL.worth(micros("6")) == micros("600.35")
    assert BEST.worth(micros("6")) == NOTHING.worth(micros("6")) == micros("600.3")
    assert ALL.worth(0) == NOTHING.worth(0) == 0


def test_affordable_is_what_a_notional_takes_and_past_the_end_at_the_last_price() -> None:
    assert ALL.affordable(micros("600.35")) == micros("6")
    assert ALL.affordable(micros("600.349999")) == micros("5.999999")
    assert BEST.affordable(micros("600.3")) == NOTHING.affordable(micros("600.3")) == micros("6")
    assert ALL.affordable(0) == NOTHING.affordable(0) == 0


def test_what_is_taken_before_comes_from_the_best_levels() -> None:
    assert ALL.worth(micros("4"), after=micros("3")) == micros("400.3")  # 2 at 100.05, 2 at 100.10
    assert ALL.affordable(micros("400.3"), after=micros("3")) == micros("4")
    assert ALL.worth(micros("1"), after=micros("35")) == micros("100.2"), "past the end at the last price"


def test_cost_is_what_the_levels_give_with_fees() -> None:
    book = Book(ASKS[:2], Fees(None, 450))
    assert book.cost(micros("12")) == micros("1200.95") + micros("0.225112") + micros("0.315315")
    assert book.cost(micros("99")) == book.cost(micros("15")), "no more than there is"
    assert book.cost(0) == 0


def test_the_levels_that_an_order_reaches() -> None:
    asks = levels("100.05 x 0.3", "100.06 x 0.1", "100.07 x 0.2")
    book = Book(asks, FREE)
    assert book.reached(micros("0.3")) == asks[:1]
    assert book.reached(micros("0.300001")) == asks[:2]
    assert book.reached(micros("9")) == asks
    assert book.reached(0) == ()


prices, sizes = st.integers(1, 10**11), st.integers(1, 12) | st.integers(1, 10**12)
books = st.lists(st.tuples(prices, sizes), min_size=1, max_size=8).map(lambda found: tuple(sorted(found)))
amounts = st.integers(0, 30) | st.integers(0, 10**13)
rates = st.sampled_from([None, 0, 50_000])


@given_any(books, amounts, amounts, amounts, st.integers(0, 8), rates)
def test_prefix_sums_equal_the_walk(
    levels: tuple[Level, ...], share: int, notional: int, after: int, edge: int, rate: int | None
) -> None:
    book, fees = Book(levels, Fees(rate, 450)), Fees(rate, 450)
    for taken in (after, sum(size for _, size in levels[:edge])):
        left = beyond(levels, taken) or levels[-1:]
        assert book.worth(share, taken) == worth(left, share)
        for budget in (notional, worth(left, share)):
            assert book.affordable(budget, taken) == affordable(left, budget)
    for asked in (share, sum(size for _, size in levels[:edge])):
        assert book.cost(asked) == sum(one.notional_micros + one.fee_micros for one in walk(levels, asked, fees))
        assert book.reached(asked) == needed(levels, asked)
    assert book.depth_micros == depth(levels)


@given_any(books, st.integers(0, 10**12))
def test_what_a_notional_affords_is_worth_no_more_and_hardly_less(levels: tuple[Level, ...], notional: int) -> None:
    book = Book(levels, FREE)
    shares = book.affordable(notional)
    assert book.worth(shares) <= notional
    assert book.worth(shares + 1 + len(levels)) + len(levels) + 1 >= notional - levels[-1][0] // MICRO
