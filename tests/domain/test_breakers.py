"""The breakers (docs/design.md, breakers): losses trip; days, weeks and operators reset; deposits are no profit."""

import calendar
import datetime
import itertools

import msgspec
import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec import structs

from domain.breakers import DAY, Breakers, day_of, evolve, floors, initial, next_day, watch, week_of
from domain.events import BreakerLimit, BreakerReset, BreakerTripped, EquityMarked, Event
from domain.guardrails import Policy
from domain.micros import micros
from domain.testing import Aggregate, Given, Result, given, like
from tests.domain.facts import deposited

DAILY, WEEKLY, DRAWDOWN = BreakerLimit.DAILY_LOSS, BreakerLimit.WEEKLY_LOSS, BreakerLimit.DRAWDOWN
BREAKERS: Aggregate[Breakers] = Aggregate(lambda: initial, evolve)
SECOND = 1_000_000_000
OFF = Policy(daily_loss_micros=0, weekly_loss_micros=0, drawdown_micros=0)
ON = structs.replace(OFF, daily_loss_micros=30_000, weekly_loss_micros=80_000, drawdown_micros=120_000)
ONLY = {
    DAILY: structs.replace(OFF, daily_loss_micros=30_000),
    WEEKLY: structs.replace(OFF, weekly_loss_micros=80_000),
    DRAWDOWN: structs.replace(OFF, drawdown_micros=120_000),
}
FLOOR = {DAILY: "9700", WEEKLY: "9200", DRAWDOWN: "8800"}


def utc(text: str) -> int:
    """'2026-11-20 09:30' -> ns."""
    date, time = text.split()
    year, month, day = map(int, date.split("-"))
    hour, minute = map(int, time.split(":"))
    return calendar.timegm((year, month, day, hour, minute, 0)) * SECOND


FRIDAY = "2026-11-20 09:30"


def watching(
    state: Breakers,
    equity: str,
    at: str = FRIDAY,
    policy: Policy = ON,
    *,
    by: str | None = None,
    config: int = 7,
    marks: int = 5,
) -> tuple[Event, ...]:
    return watch(
        state,
        "sam",
        micros(equity),
        policy,
        now=utc(at),
        marks_sequence=marks,
        config_sequence=config,
        reset_by=by,
    )


def since(equity: str = "10000", at: str = FRIDAY, policy: Policy = ON) -> Result[Breakers]:
    """A portfolio first watched with this equity."""
    return given(BREAKERS).when(watching, equity, at, policy)


def tripped(limit: BreakerLimit) -> like:
    return like(BreakerTripped, limit=limit)


def reset(limit: BreakerLimit, **fields: object) -> like:
    return like(BreakerReset, limit=limit, **fields)


MARKED = like(EquityMarked)


def marked(equity: str) -> EquityMarked:
    return EquityMarked(subscriber_id="sam", equity_micros=micros(equity), marks_sequence=5, marked_at=utc(FRIDAY))


# --- references -----------------------------------------------------------------------------------------------


def test_losses_count_from_the_first_recorded_equity() -> None:
    first = since()
    first.then(
        EquityMarked(subscriber_id="sam", equity_micros=micros("10000"), marks_sequence=5, marked_at=utc(FRIDAY))
    ).again().then_nothing()
    assert (first.state.day_micros, first.state.week_micros, first.state.peak_micros) == 3 * (micros("10000"),)


def test_nothing_is_recorded_while_nothing_happens() -> None:
    since().when(watching, "9990", "2026-11-20 23:59").then_nothing()


def test_a_new_peak_is_recorded_when_it_is_a_quarter_percent_higher() -> None:
    since().when(watching, "10025").then_nothing()
    outcome = since().when(watching, "10025.000001")
    outcome.then(like(EquityMarked, equity_micros=micros("10025.000001"))).again().then_nothing()
    assert outcome.state.peak_micros == micros("10025.000001")
    assert outcome.state.day_micros == micros("10000"), "the day's reference stays"


def test_a_new_day_is_recorded_and_a_new_week() -> None:
    outcome = since().when(watching, "9900", "2026-11-21 00:00")
    outcome.then(MARKED)
    assert (outcome.state.day_micros, outcome.state.week_micros) == (micros("9900"), micros("10000"))
    outcome = outcome.when(watching, "9800", "2026-11-23 00:00")
    outcome.then(MARKED)
    assert (outcome.state.day_micros, outcome.state.week_micros) == (micros("9800"), micros("9800"))
    assert outcome.state.peak_micros == micros("10000")


# --- days and weeks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "days", "weeks"),
    [
        ("2026-11-20 23:59", "2026-11-21 00:00", 1, 0),
        ("2026-11-22 23:59", "2026-11-23 00:00", 1, 1),  # Sunday to Monday
        ("2026-12-31 23:59", "2027-01-01 00:00", 1, 0),  # the ISO week runs on: 2026-W53
        ("2027-01-03 23:59", "2027-01-04 00:00", 1, 1),
        ("2028-02-29 00:00", "2028-02-29 23:59", 0, 0),
        ("1970-01-04 23:59", "1970-01-05 00:00", 1, 1),
    ],
)
def test_days_end_at_midnight_utc_and_weeks_on_sundays(before: str, after: str, days: int, weeks: int) -> None:
    assert day_of(utc(after)) - day_of(utc(before)) == days
    assert week_of(utc(after)) - week_of(utc(before)) == weeks


@given_any(st.integers(0, 60_000), st.integers(0, DAY - 1))
def test_weeks_are_those_of_the_calendar(day: int, within: int) -> None:
    now = day * DAY + within
    date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
    monday = datetime.date(1969, 12, 29) + datetime.timedelta(weeks=week_of(now))
    assert monday.isocalendar()[:2] == date.isocalendar()[:2]
    assert next_day(now) == (day + 1) * DAY


# --- tripping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [DAILY, WEEKLY, DRAWDOWN])
def test_every_limit_trips_once_when_equity_falls_through_its_floor(limit: BreakerLimit) -> None:
    policy, floor = ONLY[limit], FLOOR[limit]
    since(policy=policy).when(watching, floor, policy=policy).then_nothing()
    below = str(float(floor) - 0.01)
    outcome = since(policy=policy).when(watching, below, policy=policy, marks=88, config=99)
    outcome.then(
        BreakerTripped(
            subscriber_id="sam",
            limit=limit,
            equity_micros=micros(below),
            floor_micros=micros(floor),
            reference_micros=micros("10000"),
            marks_sequence=88,
            config_sequence=99,
            tripped_at=utc(FRIDAY),
        )
    ).again().then_nothing()
    assert outcome.state.tripped == {limit}
    outcome.when(watching, "1", policy=policy).then_nothing()
    outcome.when(watching, "10000", policy=policy).then_nothing()


def test_a_great_loss_trips_them_all() -> None:
    since().when(watching, "8000").then(tripped(DAILY), tripped(WEEKLY), tripped(DRAWDOWN))


def test_a_limit_of_zero_is_off() -> None:
    assert floors(since().state, OFF) == ()
    since(policy=OFF).when(watching, "1", policy=OFF).then_nothing()
    since().when(watching, "1", policy=ONLY[WEEKLY]).then(tripped(WEEKLY))


def test_without_equity_there_is_nothing_to_lose() -> None:
    since("0").when(watching, "-5").then_nothing()


def test_losses_of_several_days_add_up_in_the_week() -> None:
    state = since(at="2026-11-16 12:00")
    for day, equity in (("17", "9750"), ("18", "9500"), ("19", "9250")):
        state = state.when(watching, equity, f"2026-11-{day} 00:00")
        state.then(MARKED)
    state.when(watching, "9199.99", "2026-11-19 12:00").then(tripped(WEEKLY))


def test_the_drawdown_is_from_the_peak() -> None:
    policy = ONLY[DRAWDOWN]
    state = since(policy=policy).when(watching, "20000", policy=policy)
    state.when(watching, "17600", policy=policy).then_nothing()
    state.when(watching, "17599", policy=policy).then(like(BreakerTripped, reference_micros=micros("20000")))


# --- resetting ---------------------------------------------------------------------------------------------


def test_a_day_resets_its_own_breaker() -> None:
    outcome = since().when(watching, "9600").when(watching, "9500", "2026-11-21 00:00")
    outcome.then(
        MARKED,
        BreakerReset(
            subscriber_id="sam",
            limit=DAILY,
            equity_micros=micros("9500"),
            actor="",
            config_sequence=7,
            reset_at=utc("2026-11-21 00:00"),
        ),
    ).again().then_nothing()
    outcome.when(watching, "9215", "2026-11-21 01:00").then_nothing()
    outcome.when(watching, "9214.99", "2026-11-21 01:00").then(like(BreakerTripped, limit=DAILY))


def test_a_week_resets_its_own_breaker_and_the_days() -> None:
    outcome = since().when(watching, "9100").when(watching, "9100", "2026-11-22 12:00")
    outcome.then(MARKED, reset(DAILY))
    assert outcome.state.tripped == {WEEKLY}
    outcome.when(watching, "9000", "2026-11-23 00:00").then(MARKED, reset(WEEKLY))
    jump = since().when(watching, "9100").when(watching, "9100", "2026-11-24 00:00")
    jump.then(MARKED, reset(DAILY), reset(WEEKLY))


def test_a_clock_that_goes_back_begins_no_day_and_no_week() -> None:
    """A lane that moves to a machine whose clock is behind keeps counting from the references of the newest day."""
    monday = since(at="2026-11-23 00:01")
    behind = "2026-11-22 23:59"
    monday.when(watching, "9800", behind).then_nothing()
    monday.when(watching, "9699", behind).then(tripped(DAILY))
    fallen = monday.when(watching, "9100")
    fallen.when(watching, "9100", behind).then_nothing()
    again = fallen.when(watching, "9100", behind).when(watching, "9100", "2026-11-23 00:05")
    again.then_nothing()
    assert again.state.tripped == {DAILY, WEEKLY}
    marked = EquityMarked(subscriber_id="sam", equity_micros=micros("9500"), marks_sequence=5, marked_at=utc(behind))
    after = evolve(monday.state, marked)
    assert (after.day_micros, after.week_micros) == (micros("10000"), micros("10000"))


def test_no_time_resets_the_drawdown() -> None:
    outcome = since().when(watching, "8700").when(watching, "8700", "2027-06-01 00:00")
    outcome.then(MARKED, reset(DAILY), reset(WEEKLY))
    assert outcome.state.tripped == {DRAWDOWN}


def test_an_operator_resets_everything_and_losses_are_counted_from_now() -> None:
    outcome = since().when(watching, "8700", config=7).when(watching, "8500", by="olga", config=9)
    outcome.then(*(reset(limit, actor="olga", config_sequence=9) for limit in sorted((DAILY, WEEKLY, DRAWDOWN))))
    state = outcome.state
    assert state.tripped == frozenset()
    assert (state.day_micros, state.week_micros, state.peak_micros) == 3 * (micros("8500"),)
    outcome.when(watching, "8245").then_nothing()
    outcome.when(watching, "8244.99").then(tripped(DAILY))


def test_a_reset_when_nothing_is_tripped_changes_nothing() -> None:
    since().when(watching, "9990", by="olga").then_nothing()


def test_what_an_operator_resets_does_not_move_what_was_not_tripped() -> None:
    outcome = since().when(watching, "9600").when(watching, "9600", by="olga")
    outcome.then(reset(DAILY))
    assert (outcome.state.day_micros, outcome.state.week_micros) == (micros("9600"), micros("10000"))


def test_what_is_reset_does_not_trip_at_the_same_time() -> None:
    outcome = since(policy=ONLY[DRAWDOWN]).when(watching, "8000", policy=ONLY[DRAWDOWN])
    outcome.when(watching, "8000", policy=ONLY[DRAWDOWN], by="olga").then(reset(DRAWDOWN)).again().then_nothing()


def test_a_trip_records_the_config_sequence() -> None:
    assert since().when(watching, "9000", config=42).state.config_sequence == 42


# --- deposits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "floor", "below"), [("5000", "14550", "14549"), ("-5000", "4850", "4849")])
def test_a_deposit_moves_what_losses_are_counted_from(change: str, floor: str, below: str) -> None:
    state = Given(BREAKERS, since().state, [deposited(change)])
    assert state.state.peak_micros == micros("10000") + micros(change)
    state.when(watching, floor).then_nothing()
    state.when(watching, below).then(tripped(DAILY))


@pytest.mark.parametrize("change", ["-5000", "-8999", "1", "90000"])
def test_a_deposit_is_neither_profit_nor_loss(change: str) -> None:
    """10 % below the peak before it, 10 % below the peak after it: no drawdown of 12 %."""
    state = Given(BREAKERS, since().state, [marked("9000"), deposited(change)])
    after = micros("9000") + micros(change)
    assert state.state.peak_micros == after * 10 // 9
    state.when(
        watching, str(after // 1_000_000), policy=Policy(daily_loss_micros=0, weekly_loss_micros=0)
    ).then_nothing()


def test_when_everything_was_withdrawn_returns_begin_anew() -> None:
    state = Given(BREAKERS, since().state, [marked("9000"), deposited("-9000"), deposited("400")])
    assert state.state.peak_micros == micros("400")
    state.when(watching, "400").then_nothing()


def test_a_deposit_before_the_first_recorded_equity_moves_nothing() -> None:
    state = given(BREAKERS, deposited("5000"))
    assert state.state == initial
    state.when(watching, "5000").then(MARKED)


# --- laws --------------------------------------------------------------------------------------------------

observations = st.lists(
    st.tuples(
        st.integers(0, 4 * 24 * 60).map(lambda minutes: minutes * 60 * SECOND),
        st.integers(-100, 20_000_000_000),
        st.sampled_from([None, None, None, "olga"]),
    ),
    max_size=14,
)


def histories(happened: list[tuple[int, int, str | None]]) -> tuple[list[Event], Breakers]:
    events: list[Event] = []
    state, now = initial, utc(FRIDAY)
    for later, equity, by in happened:
        now += later
        found = watch(state, "sam", equity, ON, now=now, marks_sequence=1, config_sequence=2, reset_by=by)
        events += found
        for event in found:
            state = evolve(state, event)
        again = watch(state, "sam", equity, ON, now=now, marks_sequence=1, config_sequence=2)
        assert again == (), "the same equity adds nothing"
    return events, state


@given_any(observations)
def test_a_limit_trips_and_resets_in_turns(happened: list[tuple[int, int, str | None]]) -> None:
    events, state = histories(happened)
    for limit in BreakerLimit:
        turns = [
            type(event) for event in events if isinstance(event, BreakerTripped | BreakerReset) and event.limit is limit
        ]
        assert turns == list(itertools.islice(itertools.cycle([BreakerTripped, BreakerReset]), len(turns)))
        assert (limit in state.tripped) == (len(turns) % 2 == 1)
    for event in events:
        if isinstance(event, BreakerTripped):
            assert event.equity_micros < event.floor_micros <= event.reference_micros


@given_any(observations)
def test_while_open_no_floor_lies_above_equity(happened: list[tuple[int, int, str | None]]) -> None:
    _, state = histories(happened)
    if happened:
        equity = happened[-1][1]
        assert all(equity >= floor for limit, _, floor in floors(state, ON) if limit not in state.tripped)


@given_any(observations)
def test_a_snapshot_is_the_same_breaker(happened: list[tuple[int, int, str | None]]) -> None:
    _, state = histories(happened)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Breakers) == state
