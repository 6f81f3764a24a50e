"""Micros: exact, or refused."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.micros import NotExactError, decimal_text, dollars, fraction, micros, nearest, nearest_micros, times


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("1", 1_000_000),
        ("0.0602", 60_200),
        ("-0.0602", -60_200),
        ("66405.0", 66_405_000_000),
        ("0.000001", 1),
        ("007.5", 7_500_000),
        ("1.5000000000", 1_500_000),  # zeros need no place
        ("-11676987.0", -11_676_987_000_000),
        ("123456789012345678901234.000001", 123456789012345678901234000001),
    ],
)
def test_a_decimal_is_parsed_exactly(text: str, value: int) -> None:
    assert micros(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("1e5", "1E-6", "NaN", "Infinity", "-inf", "", " ", " 1", "1 ", "1\n", "+1", "1.", ".5", "-", "--1", "1,000"),
        *("1_000", "0x10", "1.2.3", "½", "١٢", "１", "1" * 25, "0." + "0" * 41),
    ],
)
def test_what_is_not_a_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(NotExactError, match="is not a plain decimal number") as refused:
        micros(text)
    assert refused.value.text == text


@pytest.mark.parametrize("text", ["0.0000001", "1.1234567", "-5.00000010"])
def test_a_seventh_decimal_is_refused_not_rounded(text: str) -> None:
    with pytest.raises(NotExactError, match="needs more than six decimal places"):
        micros(text)


@pytest.mark.parametrize("value", [1, 1.5, None, b"1", Decimal("1"), True])
def test_what_is_not_a_string_is_refused(value: object) -> None:
    with pytest.raises(NotExactError, match=f"is a {type(value).__name__}; a decimal string was expected"):
        micros(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.0055155", 5_516), ("0.0055154", 5_515), ("100", 100_000_000), ("-0.0000005", -1), ("0.00000049", 0), ("0", 0)],
)
def test_a_quotient_is_read_to_the_nearest_micro(text: str, value: int) -> None:
    assert nearest_micros(text) == value


@pytest.mark.parametrize("text", ["", "1e3", "NaN", " 1", "1.", None, 5])
def test_a_quotient_that_is_no_decimal_is_refused(text: object) -> None:
    with pytest.raises(NotExactError):
        nearest_micros(text)


def test_a_long_text_is_shortened_in_the_message() -> None:
    with pytest.raises(NotExactError) as refused:
        micros("x" * 10_000)
    assert len(str(refused.value)) < 150


@given_any(st.integers(-(10**29), 10**29))
def test_text_and_micros_are_inverse(value: int) -> None:
    assert micros(decimal_text(value)) == value
    assert Fraction(decimal_text(value)) == Fraction(value, 1_000_000)


def test_the_text_is_the_shortest() -> None:
    assert [decimal_text(value) for value in (0, 1, -1, 60_200, 1_000_000, -2_500_000, 10**12)] == [
        "0",
        "0.000001",
        "-0.000001",
        "0.0602",
        "1",
        "-2.5",
        "1000000",
    ]


# --- money from configuration ------------------------------------------------------------------------------


def test_configuration_may_write_money_as_it_likes() -> None:
    assert dollars("10000.50") == dollars(Decimal("10000.5")) == dollars("1.00005e4") == 10_000_500_000
    assert dollars(7) == 7_000_000


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "1e-7", "1e25", "1e-99999999999999", "1e99999999999999"])
def test_money_that_is_not_exact_is_refused_without_writing_it_out(text: str) -> None:
    with pytest.raises(NotExactError):
        dollars(text)


# --- arithmetic --------------------------------------------------------------------------------------------

whole = st.integers(-(10**18), 10**18)
nonzero = whole.filter(bool)


@given_any(whole, whole)
def test_a_notional_is_rounded_towards_zero(price: int, share: int) -> None:
    exact = Fraction(price * share, 1_000_000)
    assert times(price, share) == int(exact)
    assert times(-price, share) == times(price, -share) == -times(price, share)


@given_any(whole, whole, nonzero)
def test_a_fraction_is_rounded_towards_zero(value: int, part: int, of: int) -> None:
    assert fraction(value, part, of) == int(Fraction(value * part, of))


@given_any(whole, nonzero)
def test_an_average_is_the_nearest_halves_away_from_zero(value: int, of: int) -> None:
    exact = Fraction(value, of)
    got = nearest(value, of)
    assert abs(got - exact) <= Fraction(1, 2)
    if abs(got - exact) == Fraction(1, 2):
        assert abs(got) > abs(exact)


def test_halves_go_away_from_zero() -> None:
    assert [nearest(value, 2) for value in (1, -1, 3, -3, 4)] == [1, -1, 2, -2, 2]
