"""The evidence score: is a trader's record skill, and would a copy of it have earned it?

It rests on returns: the net profit of a round trip divided by the capital at risk at its peak. The parts are ranked
among the traders with enough evidence and weighted: 50 % t-value of the mean return, 20 % drawdown (less is better),
15 % consistency, 15 % copyability. Where copyability is unknown, the other parts share its weight.

A t-value takes the trips that ended on one UTC day as one observation, because they share a market. A trader whose
losses were never seen cannot be ranked, hence the floor on losing trips: it keeps out small regular wins with a rare
ruinous loss, which a bound on the win rate does not.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from math import erfc, sqrt

from msgspec import Struct

from domain.micros import MICRO, fraction
from domain.trader_flags import FLAGS, Flag
from domain.trader_record import DAY, Record, consistency, copyability, drawdown, drawdown_of_trips, t_value

WEIGHTS = {"t": 50, "drawdown": 20, "consistency": 15, "copyability": 15}
"""Percent of the score."""
_LESS_IS_BETTER = frozenset({"drawdown"})
_BILLION = 1_000_000_000
_Z_90_MICROS = 1_644_854
"""The two-sided 90 % quantile of the normal distribution."""


class Missing(StrEnum):
    """What a record needs before it is ranked."""

    TRIPS = "trips"
    LOSING_TRIPS = "losing_trips"
    ACTIVE_DAYS = "active_days"
    RECENT_TRIP = "recent_trip"
    EQUITY = "equity"
    NO_GAP = "no_gap"


class Confidence(StrEnum):
    """`strong` passes Benjamini-Hochberg at 10 % over the ranked traders, `some` has p < 0.05 taken alone."""

    STRONG = "strong"
    SOME = "some"
    NONE = "none"


class Floors(Struct, frozen=True, kw_only=True):
    """The least evidence that is ranked."""

    trips: int = 30
    losing_trips: int = 10
    active_days: int = 30
    idle_days: int = 14
    equity_micros: int = 1_000 * MICRO


def floors_of(window_days: int | None) -> Floors:
    """The floors of a board over so many days (None: all): a short window asks for two thirds of its days."""
    return Floors() if window_days is None else Floors(active_days=min(30, max(1, window_days * 2 // 3)))


class Evidence(Struct, frozen=True, kw_only=True):
    """One trader's measures. Fractions, returns and t-values in micros; None where they are undefined.

    `low_micros` and `high_micros` bound the mean return with 90 % confidence; `p_billionths` is the chance of a t-value
    this high without skill. `drawdown_with_unrealized` is false where no equity is known: the drawdown then is that of
    completed trips.
    """

    trader: str
    trips: int
    losing_trips: int
    active_days: int
    net_micros: int
    mean_micros: int
    low_micros: int | None
    high_micros: int | None
    t_micros: int | None
    p_billionths: int | None
    drawdown_micros: int
    drawdown_with_unrealized: bool
    consistency_micros: int
    copyability_micros: int | None
    flags: tuple[Flag, ...]
    missing: tuple[Missing, ...]


class Ranked(Struct, frozen=True, kw_only=True):
    """A row of the board. `rank`, `score_micros` and `parts` (percentiles, micros) are None or empty without enough
    evidence."""

    rank: int | None
    score_micros: int | None
    parts: dict[str, int]
    confidence: Confidence
    evidence: Evidence


def measured(record: Record, now: int, floors: Floors) -> Evidence:
    """The measures, flags and missing evidence of one record at the time `now` (ns)."""
    trips = record.trips
    returns = [(trip.ended // DAY, trip.return_micros) for trip in trips]
    mean = fraction(sum(value for _, value in returns), 1, len(returns)) if returns else 0
    value = t_value(returns)
    width = fraction(_Z_90_MICROS, value[1], MICRO) if value else 0
    losing = sum(trip.net_micros < 0 for trip in trips)
    days = len({day for day, _ in returns})
    last = max((trip.ended for trip in trips), default=0)
    equity = record.equity_micros
    lacking = {
        Missing.TRIPS: len(trips) < floors.trips,
        Missing.LOSING_TRIPS: losing < floors.losing_trips,
        Missing.ACTIVE_DAYS: days < floors.active_days,
        Missing.RECENT_TRIP: now - last > floors.idle_days * DAY,
        Missing.EQUITY: equity is None or equity < floors.equity_micros,
        Missing.NO_GAP: record.gaps > 0,
    }
    return Evidence(
        trader=record.trader,
        trips=len(trips),
        losing_trips=losing,
        active_days=days,
        net_micros=sum(trip.net_micros for trip in trips),
        mean_micros=mean,
        low_micros=mean - width if value else None,
        high_micros=mean + width if value else None,
        t_micros=value[0] if value else None,
        p_billionths=round(_BILLION * erfc(value[0] / MICRO / sqrt(2)) / 2) if value else None,
        drawdown_micros=drawdown(record.equity) if record.equity else drawdown_of_trips(trips),
        drawdown_with_unrealized=bool(record.equity),
        consistency_micros=consistency(trips),
        copyability_micros=copyability(record),
        flags=tuple(flag for flag, raised in FLAGS.items() if raised(record, now)),
        missing=tuple(what for what, lacks in lacking.items() if lacks),
    )


def percentiles(values: Sequence[int]) -> list[int]:
    """The place of each value among all: 0 for the lowest, 1_000_000 for the highest.

    Equal values share their mean place; a single value has 1_000_000.
    """
    if len(values) < 2:
        return [MICRO] * len(values)
    ordered = sorted(values)
    places: dict[int, int] = {}
    for place, value in enumerate(ordered):
        places.setdefault(value, place)
    counts = Counter(values)
    return [(2 * places[value] + counts[value] - 1) * MICRO // (2 * (len(values) - 1)) for value in values]


def ranked(found: Sequence[Evidence]) -> list[Ranked]:
    """By score (descending), then by trader; those with too little evidence follow, most trips first."""
    eligible = [one for one in found if not one.missing and one.t_micros is not None]
    columns: dict[str, Callable[[Evidence], int | None]] = {
        "t": lambda one: one.t_micros,
        "drawdown": lambda one: one.drawdown_micros,
        "consistency": lambda one: one.consistency_micros,
        "copyability": lambda one: one.copyability_micros,
    }
    parts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name, column in columns.items():
        known = [(one.trader, value) for one in eligible if (value := column(one)) is not None]
        values = [-value if name in _LESS_IS_BETTER else value for _, value in known]
        for (trader, _), place in zip(known, percentiles(values), strict=True):
            parts[trader][name] = place
    confidences = _confidences(eligible)
    scored = sorted((-_score(parts[one.trader]), one.trader, one) for one in eligible)
    rows = [
        Ranked(rank=rank, score_micros=-score, parts=parts[name], confidence=confidences[name], evidence=one)
        for rank, (score, name, one) in enumerate(scored, 1)
    ]
    chosen = {one.trader for one in eligible}
    rest = sorted((one for one in found if one.trader not in chosen), key=lambda one: (-one.trips, one.trader))
    return rows + [
        Ranked(rank=None, score_micros=None, parts={}, confidence=Confidence.NONE, evidence=one) for one in rest
    ]


def _score(parts: Mapping[str, int]) -> int:
    return sum(WEIGHTS[name] * place for name, place in parts.items()) // sum(WEIGHTS[name] for name in parts)


def _confidences(eligible: Sequence[Evidence]) -> dict[str, Confidence]:
    ordered = sorted((one.p_billionths or 0, one.trader) for one in eligible)
    passing = [place for place, (p, _) in enumerate(ordered, 1) if 10 * p * len(ordered) <= place * _BILLION]
    last = max(passing, default=0)
    return {
        trader: Confidence.STRONG if place <= last else Confidence.SOME if 20 * p < _BILLION else Confidence.NONE
        for place, (p, trader) in enumerate(ordered, 1)
    }
