"""Single fields of Polymarket's JSON, read exactly.

The venue writes the same number as `20`, `20.0` or `"20"`, and null as null, "" or by leaving the field out. Numbers
are read from their text and never pass through a float.
"""

import re
from decimal import Decimal

import msgspec
from msgspec import Raw

from domain.micros import MICRO, nearest
from gateways.venue_errors import WireError

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

_NUMBER = re.compile(r"-?(?:[0-9]{1,80}(?:\.[0-9]{1,60})?|\.[0-9]{1,60})(?:[eE][+-]?[0-9]{1,2})?")
_STRING = msgspec.json.Decoder(str)
_WALLET = re.compile(r"0x[0-9a-f]{40}")
_HEX = re.compile(r"0x[0-9a-f]{1,64}")
_TOKEN = re.compile(r"[0-9]{1,78}")
_LARGEST_MICROS = 10**18
"""A trillion dollars or shares: larger values are no amounts, and would not fit the 64 bits of a stored integer."""
_NOISE = 10**9
"""The venue computes some amounts with floats: closer than 1 / _NOISE to a value of six places, that value is meant."""
_EARLIEST_SECOND, LATEST_SECOND = 1, 9_000_000_000
"""The year 2255: larger values are in another unit, and would not fit a stored integer of nanoseconds."""


def text(raw: Raw, what: str) -> str:
    """The field as text; "" when it is absent or null. Raises WireError for an object, a list or a boolean."""
    written = bytes(raw)
    if written in (b"", b"null"):
        return ""
    try:
        if written.startswith(b'"'):
            return _STRING.decode(written)
        plain = written.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"{what} {written[:80]!r} is not text: {error}") from error
    if _NUMBER.fullmatch(plain) is None:
        raise WireError(f"{what} {plain[:80]!r} is neither text nor a number")
    return plain


def number(raw: Raw, what: str) -> Decimal | None:
    """The field's exact value; None when it is absent, null or "". Raises WireError for anything but a number."""
    plain = text(raw, what)
    if not plain:
        return None
    if _NUMBER.fullmatch(plain) is None:
        raise WireError(f"{what} {plain[:80]!r} is not a number")
    return Decimal(plain)


def needed(raw: Raw, what: str) -> Decimal:
    """Like `number`, but the field must be there."""
    value = number(raw, what)
    if value is None:
        raise WireError(f"{what} is missing")
    return value


def shortest(value: Decimal) -> str:
    """The one way to write a number: 20, 20.0 and 2e1 are '20'."""
    plain = format(value, "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain == "-0" else plain


def without_noise(value: Decimal) -> Decimal:
    """The value of six places that a float's noise hides: 21.28 for 21.279999999999998; any other value unchanged."""
    whole, part = value.as_integer_ratio()
    micros = nearest(whole * MICRO, part)
    # In integers: 0 < |value - micros / MICRO| <= 1 / _NOISE. What is that close to 0 is small, not noise.
    noise = abs(whole * MICRO - micros * part) * _NOISE
    if 0 < noise <= part * MICRO and 0 < abs(micros) <= _LARGEST_MICROS:
        return Decimal(micros).scaleb(-6)
    return value


def exact_micros(value: Decimal, what: str) -> int:
    """Micros of a size or an amount, without a float's noise.

    Raises WireError when it needs more than six decimals or is out of all bounds.
    """
    whole, part = without_noise(value).as_integer_ratio()
    micros, rest = divmod(whole * MICRO, part)
    if rest:
        raise WireError(f"{what} {shortest(value)[:80]} needs more than six decimal places")
    return bounded(micros, what)


def nearest_micros(value: Decimal, what: str) -> int:
    """Micros of an average or a valuation, which are quotients, to the nearest. Raises WireError out of all bounds."""
    whole, part = value.as_integer_ratio()
    return bounded(nearest(whole * MICRO, part), what)


def bounded(micros: int, what: str) -> int:
    """`micros` itself. Raises WireError when no real amount can be that large."""
    if abs(micros) > _LARGEST_MICROS:
        raise WireError(
            f"{what} of {micros:.3e} micros is out of all bounds; at most {_LARGEST_MICROS:.0e} is expected"
        )
    return micros


def wallet(plain: str, what: str = "wallet") -> str:
    """An address in lower case: some of the venue's feeds write checksummed ones. Raises WireError."""
    lower = plain.lower()
    if _WALLET.fullmatch(lower) is None:
        raise WireError(f"{what} {plain[:80]!r} is not an address: 0x and 40 hexadecimal digits are expected")
    return lower


def hexadecimal(plain: str, what: str) -> str:
    """A hash or a condition id in lower case. Raises WireError."""
    lower = plain.lower()
    if _HEX.fullmatch(lower) is None:
        raise WireError(f"{what} {plain[:80]!r} is not hexadecimal: 0x and up to 64 digits are expected")
    return lower


def token(plain: str, what: str = "asset") -> str:
    """A token id, a decimal of up to 256 bits. Raises WireError."""
    if _TOKEN.fullmatch(plain) is None:
        raise WireError(f"{what} {plain[:80]!r} is not a token id: decimal digits are expected")
    return plain


def seconds(value: Decimal, what: str) -> int:
    """Nanoseconds of a time in whole seconds. Raises WireError for fractions and for other units."""
    return _time(value, SECOND, what, "seconds")


def milliseconds(value: Decimal, what: str) -> int:
    """Nanoseconds of a time in whole milliseconds. Raises WireError for fractions and for other units."""
    return _time(value, MILLISECOND, what, "milliseconds")


def _time(value: Decimal, unit: int, what: str, name: str) -> int:
    whole, part = value.as_integer_ratio()
    if part != 1 or not _EARLIEST_SECOND * SECOND <= whole * unit < LATEST_SECOND * SECOND:
        raise WireError(f"{what} {shortest(value)[:80]} is not a time in whole {name} since 1970")
    return whole * unit
