"""Paper fills (docs/design.md, paper fills): level by level inside the band, on the tick, with the venue's fee."""

from decimal import Decimal

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import Level, Terms, TradeSide
from domain.guardrails import Policy
from domain.micros import MICRO, micros, times
from domain.paper_fills import Fees, Taken, fees, inside, venue_price, walk
from tests.domain.facts import ASKS, BIDS, BUY, SELL, levels, terms

FEE = Fees(None, 450)  # 4.5 bps


def taken(price: str, share: str, notional: str, fee: str) -> Taken:
    return Taken(micros(price), micros(share), micros(notional), micros(fee))


def test_paper_an_order_takes_one_level_after_the_other() -> None:
    assert walk(ASKS, micros("12"), FEE) == (
        taken("100.05", "5", "500.25", "0.225112"),
        taken("100.10", "7", "700.7", "0.315315"),
    )


def test_paper_an_order_that_fits_takes_a_part_of_the_best_level() -> None:
    assert walk(BIDS, micros("0.1"), FEE) == (taken("99.95", "0.1", "9.995", "0.004497"),)


def test_paper_a_level_that_is_taken_exactly_ends_the_walk() -> None:
    assert [t.share_micros for t in walk(ASKS, micros("15"), FEE)] == [micros("5"), micros("10")]


def test_paper_an_order_larger_than_the_book_fills_what_there_is() -> None:
    assert sum(t.share_micros for t in walk(ASKS, micros("1000"), FEE)) == micros("35")


def test_paper_nothing_asked_or_nothing_there_fills_nothing() -> None:
    assert walk(ASKS, 0, FEE) == walk(ASKS, -5, FEE) == walk((), micros("1"), FEE) == ()


def test_paper_the_fee_is_rounded_down() -> None:
    assert walk(levels("1 x 1"), 2_222, FEE)[0].fee_micros == 0  # 0.9999 micros
    assert walk(levels("1 x 1"), 2_223, FEE)[0].fee_micros == 1


def test_paper_inside_keeps_the_levels_that_are_not_worse_than_the_limit() -> None:
    assert inside(ASKS, BUY, micros("100.10")) == ASKS[:2]
    assert inside(BIDS, SELL, micros("99.90")) == BIDS[:2]
    assert inside(ASKS, BUY, micros("100.04")) == ()
    assert inside(BIDS, SELL, micros("99.96")) == ()


def test_paper_a_level_that_holds_nothing_is_none() -> None:
    book = levels("100.05 x 0", "100.10 x 2", "100.20 x 0")
    assert inside(book, BUY, micros("101")) == inside(book, SELL, micros("99")) == book[1:2]


# --- fees --------------------------------------------------------------------------------------------------

CRYPTO, SPORTS, POLITICS, GEOPOLITICS = 70_000, 50_000, 40_000, 0


def fee(rate: int, shares: str, price: str) -> int:
    share, cost = micros(shares), micros(price)
    return Fees(rate, 450).of(cost, share, times(cost, share))


@pytest.mark.parametrize(
    ("rate", "usd"), [(CRYPTO, "1.75"), (SPORTS, "1.25"), (POLITICS, "1"), (GEOPOLITICS, "0")], ids=str
)
def test_paper_fee_of_polymarket_is_by_category(rate: int, usd: str) -> None:
    assert fee(rate, "100", "0.5") == micros(usd)


def test_paper_fee_of_polymarket_as_the_chain_has_charged_it() -> None:
    assert fee(SPORTS, "9451.729165", "0.48") == micros("117.957570"), "117.9575799..., rounded down"
    assert fee(CRYPTO, "25", "0.64") == micros("0.4032")


def test_paper_fee_of_polymarket_as_published_for_a_price_of_four_decimals() -> None:
    """911 shares at 0.0579 paid 2.48473; the price is an average that was rounded."""
    assert fee(SPORTS, "911", "0.05785") < micros("2.48473") < fee(SPORTS, "911", "0.05795")
    assert abs(fee(SPORTS, "911", "0.0579") - micros("2.48473")) < 100


@pytest.mark.parametrize("price", ["0", "1", "1.01"])
def test_paper_fee_of_polymarket_is_none_where_nothing_is_uncertain(price: str) -> None:
    assert fee(CRYPTO, "1000", price) == 0


def test_paper_fee_of_polymarket_is_a_whole_number_of_its_smallest_step() -> None:
    assert fee(CRYPTO, "0.01", "0.017") == micros("0.00001")  # 0.0000116...
    assert fee(CRYPTO, "0.01", "0.01") == 0  # 0.0000069...


def test_paper_fee_of_hyperliquid_is_a_part_of_notional() -> None:
    assert fees(None, Policy()) == fees(terms(fee_rate_micros=None), Policy()) == Fees(None, 450)
    assert fees(terms(fee_rate_micros=0), Policy()) == Fees(0, 450), "a market without fees is not one without a rate"


@given_any(st.integers(0, 10**12), st.integers(0, MICRO), st.sampled_from([CRYPTO, SPORTS, POLITICS, GEOPOLITICS]))
def test_paper_fee_of_polymarket_never_exceeds_the_formula_by_a_micro(share: int, price: int, rate: int) -> None:
    charged = Fees(rate, 450).of(price, share, times(price, share))
    exact = rate * share * price * (MICRO - price)
    assert charged % 10 == 0
    assert charged * MICRO**3 <= exact < (charged + 10) * MICRO**3


# --- ticks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "tick", "buy", "sell"),
    [
        ("0.5", "0.01", "0.5", "0.5"),
        ("0.509", "0.01", "0.50", "0.51"),
        ("0.509", "0.001", "0.509", "0.509"),
        ("0.5001", "0.005", "0.5", "0.505"),
        ("-0.005", "0.01", "-0.01", "0"),
        ("100.0998", "0.1", "100", "100.1"),
    ],
)
def test_paper_tick_a_buy_rounds_down_and_a_sell_up(limit: str, tick: str, buy: str, sell: str) -> None:
    ticks = Terms(1, micros(tick))
    assert venue_price(micros(limit), BUY, ticks) == micros(buy)
    assert venue_price(micros(limit), SELL, ticks) == micros(sell)


@given_any(st.integers(-(10**6), 10**12), st.sampled_from([BUY, SELL]), st.integers(1, 10**6))
def test_paper_tick_never_worsens_the_band(limit: int, side: TradeSide, tick: int) -> None:
    rounded = venue_price(limit, side, Terms(1, tick))
    assert rounded % tick == 0
    assert 0 <= side.sign * (limit - rounded) < tick


def five_digits(decimals: int) -> Terms:
    return Terms(1, 10 ** (6 - decimals), significant_digits=5)


@pytest.mark.parametrize(
    ("limit", "decimals", "buy", "sell"),
    [
        ("9.99995", 6, "9.9999", "10"),
        ("10.0004", 6, "10", "10.001"),  # a tick of 0.0001 at the book's 9.9996, of 0.001 here
        ("999.999", 3, "999.99", "1000"),
        ("1000.04", 6, "1000", "1000.1"),
        ("66405.5", 1, "66405", "66406"),
        ("123456.7", 0, "123456", "123457"),  # whole dollars may have more than five digits
        ("0.123456", 6, "0.12345", "0.12346"),
        ("0.012345", 4, "0.0123", "0.0124"),
        ("0.00004", 4, "0", "0.0001"),
    ],
)
def test_paper_price_has_the_digits_of_its_own_magnitude(limit: str, decimals: int, buy: str, sell: str) -> None:
    assert venue_price(micros(limit), BUY, five_digits(decimals)) == micros(buy)
    assert venue_price(micros(limit), SELL, five_digits(decimals)) == micros(sell)


def may_be_a_price(price: int, decimals: int) -> bool:
    """At most five significant digits and so many decimals, or whole dollars."""
    exact = (Decimal(price) / MICRO).normalize()
    _, digits, exponent = exact.as_tuple()
    return price % MICRO == 0 or (len(digits) <= 5 and -int(exponent) <= decimals)


powers_of_ten = st.builds(lambda power, beside: max(1, 10**power + beside), st.integers(0, 12), st.integers(-300, 300))


@given_any(powers_of_ten | st.integers(1, 10**12), st.sampled_from([BUY, SELL]), st.integers(0, 6))
def test_paper_price_is_the_nearest_that_the_venue_takes_and_not_worse(
    limit: int, side: TradeSide, decimals: int
) -> None:
    rounded = venue_price(limit, side, five_digits(decimals))
    assert may_be_a_price(rounded, decimals)
    assert side.sign * rounded <= side.sign * limit
    # Every price of five digits at this magnitude, and every whole dollar, is a multiple of the step.
    step = min(MICRO, 10 ** max(0, len(str(limit)) - 6))
    low, high = sorted((rounded, limit))
    between = [price for price in range(-(-low // step) * step, high + 1, step) if price != rounded]
    assert not [price for price in between if may_be_a_price(price, decimals)]


# --- every walk --------------------------------------------------------------------------------------------

books = st.lists(st.tuples(st.integers(1, 10**11), st.integers(1, 10**12)), max_size=8).map(
    lambda found: tuple(sorted(found))
)


@given_any(books, st.integers(0, 10**13), st.integers(0, 10_000))
def test_paper_what_holds_of_every_walk(book: tuple[Level, ...], asked: int, part: int) -> None:
    fills = walk(book, asked, Fees(None, part))
    got = sum(fill.share_micros for fill in fills)
    assert got == min(asked, sum(size for _, size in book))
    assert [fill.price_micros for fill in fills] == [price for price, _ in book[: len(fills)]]
    for fill, (price, size) in zip(fills, book, strict=False):
        assert 0 < fill.share_micros <= size
        assert fill.notional_micros == times(price, fill.share_micros)
        assert fill.fee_micros == fill.notional_micros * part // 1_000_000
    assert all(fill.share_micros == size for fill, (_, size) in zip(fills[:-1], book, strict=False))
