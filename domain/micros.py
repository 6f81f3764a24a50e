"""Money, prices and sizes as whole micros (1e-6), parsed exactly from the decimals that venues send.

1 USD = 1_000_000 micros; 0.0602 BTC = 60_200 micros. Nothing here rounds silently: a decimal that needs more than six
places is refused, and every division states how it rounds.
"""

import re
from decimal import Decimal

MICRO = 1_000_000
BPS = 10_000

_DECIMAL = re.compile(r"(-?)([0-9]{1,24})(?:\.([0-9]{1,40}))?")


class NotExactError(ValueError):
    """A decimal that is not a plain number of at most six places; `text` is the input."""

    def __init__(self, text: object, why: str) -> None:
        super().__init__(f"{str(text)[:80]!r} {why}")
        self.text = text


def micros(text: str) -> int:
    """The exact number of micros in a venue's decimal string, e.g. '0.0602' -> 60_200.

    Raises NotExactError for anything but digits with an optional sign and point (no exponent, NaN or blanks),
    and for a value that needs more than six decimal places.
    """
    if not isinstance(text, str):
        raise NotExactError(text, f"is a {type(text).__name__}; a decimal string was expected")
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise NotExactError(text, "is not a plain decimal number")
    sign, whole, fraction = match.groups()
    kept = (fraction or "").rstrip("0")
    if len(kept) > 6:
        raise NotExactError(text, "needs more than six decimal places")
    value = int(whole) * MICRO + int(kept.ljust(6, "0"))
    return -value if sign else value


def nearest_micros(text: object) -> int:
    """Micros of a decimal that is a quotient, such as a mid, to the nearest: '0.0055155' -> 5_516.

    Raises NotExactError for what is not a plain decimal number.
    """
    if not isinstance(text, str) or (match := _DECIMAL.fullmatch(text)) is None:
        raise NotExactError(text, "is not a plain decimal number")
    sign, whole, fraction = match.groups()
    places = fraction or ""
    value = nearest(int(whole + places) * MICRO, 10 ** len(places))
    return -value if sign else value


def decimal_text(value: int) -> str:
    """The shortest plain decimal of `value` micros, e.g. 60_200 -> '0.0602'; the inverse of `micros`."""
    whole, fraction = divmod(abs(value), MICRO)
    text = f"{whole}.{fraction:06d}".rstrip("0").rstrip(".")
    return f"-{text}" if value < 0 else text


def dollars(text: str | int | Decimal) -> int:
    """Micros of a money amount from configuration: a decimal string, an integer or a Decimal. Raises NotExactError."""
    amount = Decimal(text)
    if amount.is_finite() and abs(amount.adjusted()) > 40:
        # Written out, '1e999999999' would fill the memory.
        raise NotExactError(text, "is not a plain decimal number")
    return micros(format(amount, "f"))


def times(price_micros: int, share_micros: int) -> int:
    """Notional in micros of a size at a price, rounded down in magnitude."""
    product = abs(price_micros * share_micros) // MICRO
    return product if (price_micros < 0) == (share_micros < 0) else -product


def fraction(value: int, part: int, whole: int) -> int:
    """value * part / whole, rounded towards zero; `whole` must not be zero."""
    product = value * part
    quotient = abs(product) // abs(whole)
    return quotient if (product < 0) == (whole < 0) else -quotient


def nearest(value: int, whole: int) -> int:
    """value / whole to the nearest integer, halves away from zero: only for averages."""
    quotient = (2 * abs(value) + abs(whole)) // (2 * abs(whole))
    return quotient if (value < 0) == (whole < 0) else -quotient
