"""Decimals of Polymarket: what a float's noise hides is read, and nothing else is rounded."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.polymarket.json_fields import exact_micros, shortest, without_noise
from gateways.venue_errors import WireError


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        ("21.279999999999998", 21_280_000),
        ("21.280000000000001", 21_280_000),
        ("-0.30000000000000004", -300_000),
        ("0.000000999999999", 1),
        ("0.000001001", 1),
        ("5.000000001", 5_000_000),
        ("1234567.8900000001", 1_234_567_890_000),
        ("0", 0),
    ],
)
def test_noise_of_floats_is_not_part_of_a_size(written: str, micros: int) -> None:
    assert exact_micros(Decimal(written), "size") == micros


@pytest.mark.parametrize(
    "written", ["1.0000001", "21.2799999", "5.0000000010001", "0.0000000001", "-0.0000000001", "0.0000005", "1e-30"]
)
def test_what_is_no_noise_is_refused(written: str) -> None:
    with pytest.raises(WireError, match="more than six decimal places"):
        exact_micros(Decimal(written), "size")
    assert without_noise(Decimal(written)) == Decimal(written)


def test_a_value_out_of_all_bounds_has_no_noise() -> None:
    huge = Decimal("1" * 60 + ".0000000000001")
    assert shortest(without_noise(huge)) == shortest(huge)


@given(st.integers(1, 100_000 * 10**6), st.integers(2, 7))
def test_a_sum_of_floats_is_read_as_the_sum_of_its_decimals(micros: int, parts: int) -> None:
    """Sizes of up to 100,000 shares: there a float is exact to 1e-11, and sums of a few stay within 1e-9."""
    each = [micros // parts] * (parts - 1)
    computed = sum(part / 10**6 for part in [*each, micros - sum(each)])
    assert exact_micros(Decimal(repr(computed)), "size") == micros
