"""The venue's clock: bounds from the dates of its answers, and a problem when they exclude that the clocks agree."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from gateways.venue_clock import LARGEST_NS, SECOND, VenueClock

AT = 1_796_000_000 * SECOND
MS = 1_000_000


def date(ns: int) -> str:
    """The `Date` of an answer that the venue gives at a time of its clock: whole seconds."""
    return format_datetime(datetime.fromtimestamp(ns // SECOND, UTC), usegmt=True)


def measured(offset_ns: int, *, answers: int = 10, took_ms: int = 50) -> VenueClock:
    """What is known of a venue whose clock is this far ahead, after answers at different parts of a second."""
    clock = VenueClock("hyperliquid")
    for number in range(answers):
        sent = AT + number * 1_130 * MS
        clock.answered(date(sent + took_ms * MS // 2 + offset_ns), sent, sent + took_ms * MS)
    return clock


@pytest.mark.parametrize("offset_ms", [-900, -100, 0, 100, 900])
def test_clocks_that_differ_by_less_than_a_second_are_no_problem(offset_ms: int) -> None:
    assert measured(offset_ms * MS).problem is None


@pytest.mark.parametrize("offset_ms", [-300_000, -2_000, 2_000, 300_000])
def test_clocks_that_differ_by_more_are_named(offset_ms: int) -> None:
    clock = measured(offset_ms * MS)
    assert abs(clock.at_least_ns - offset_ms * MS) < 300 * MS
    assert clock.at_least_ns * offset_ms > 0
    problem = clock.problem
    assert problem is not None
    assert ("behind" if offset_ms > 0 else "ahead of") + " hyperliquid's" in problem


def test_a_slow_answer_proves_nothing() -> None:
    assert measured(2_000 * MS, answers=3, took_ms=9_000).problem is None


def test_a_clock_that_was_set_is_measured_anew() -> None:
    clock = measured(300_000 * MS)
    assert clock.problem is not None
    later = AT + 3_600 * SECOND
    clock.answered(date(later), later, later + 20 * MS)
    assert clock.problem is None


@pytest.mark.parametrize("header", [None, "", "yesterday"])
def test_an_answer_without_a_date_changes_nothing(header: str | None) -> None:
    clock = VenueClock("polymarket")
    clock.answered(header, AT, AT + 1)
    assert clock.at_least_ns == 0
    assert LARGEST_NS == SECOND
