"""The evidence score: each definition against a value computed by hand."""

import pytest
from msgspec.structs import replace

from domain.evidence_score import Confidence, Evidence, Floors, Missing, floors_of, measured, percentiles, ranked
from domain.micros import MICRO
from domain.trader_flags import Flag
from domain.trader_record import (
    DAY,
    SECOND,
    EquityPoint,
    Record,
    Trip,
    consistency,
    copyability,
    drawdown,
    drawdown_of_trips,
    t_value,
)

NOW = 100 * DAY


def trip(
    net: int, day: int, *, capital: int = 100, asset: str = "BTC", hold: int = 3_600, averaged: bool = False
) -> Trip:
    """A trip with `net` and `capital` in dollars that ended on `day`."""
    ended = day * DAY + 4_000 * SECOND
    return Trip(
        asset=asset, opened=ended - hold * SECOND, ended=ended, net_micros=net * MICRO, capital_micros=capital * MICRO,
        averaged_down=averaged,
    )  # fmt: skip


def enough(**other: object) -> Record:
    """40 trips on the last 40 days, every third a loss, in two markets: nothing is missing and no flag is raised."""
    trips = [trip(-1 if n % 3 == 0 else 2, 60 + n, asset="BTC" if n % 2 else "ETH") for n in range(40)]
    return replace(Record(trader="ann", trips=trips, equity_micros=5_000 * MICRO, first_seen=0), **other)


def test_the_return_of_a_trip_is_its_net_profit_on_its_capital() -> None:
    assert trip(-3, 1, capital=200).return_micros == -15_000


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        # mean 2, deviation 1, three days: 2 / (1 / sqrt 3) = 3.4641016, error 0.5773502
        ([(1, 1), (2, 2), (3, 3)], (3_464_101, 577_350)),
        ([(1, -1), (2, -2), (3, -3)], (-3_464_101, 577_350)),
        # days of (1, 3) and (5): mean 3, residuals of the days -2 and 2: variance 2 / 1 * 8 / 9 = 16 / 9
        ([(1, 1), (1, 3), (2, 5)], (2_250_000, 1_333_333)),
        ([(1, 1), (1, 3)], None),
        ([(1, 2), (2, 2)], None),
        ([], None),
    ],
)
def test_the_t_value_takes_a_day_as_one_observation(
    returns: list[tuple[int, int]], expected: tuple[int, int] | None
) -> None:
    assert t_value([(day, value * MICRO) for day, value in returns]) == expected


def test_drawdown_is_that_of_equity_without_deposits() -> None:
    """100 -> 120 -> 90 is a fall of a quarter; 100 deposited then hides nothing, and 190 -> 171 falls 10 % further."""
    points = [EquityPoint(100), EquityPoint(120), EquityPoint(90), EquityPoint(190, 100), EquityPoint(171)]
    assert drawdown(points) == 325_000
    assert drawdown(points[:3]) == 250_000
    assert drawdown([EquityPoint(100), EquityPoint(0), EquityPoint(50, 50)]) == MICRO
    assert drawdown([]) == 0


def test_drawdown_of_trips_compounds_their_returns_in_the_order_of_their_ends() -> None:
    """0.5 lost, then 0.2 lost: 1 - 0.5 * 0.8."""
    assert drawdown_of_trips([trip(-20, 3), trip(10, 1), trip(-50, 2)]) == 600_000


def test_consistency_is_the_lower_t_value_of_the_halves() -> None:
    first, second = [(1, 1), (2, 2), (3, 3)], [(8, 3), (9, 2), (10, -2)]
    trips = [trip(net, day) for day, net in first + second]
    lower = t_value([(day, net * 10_000) for day, net in second])
    assert lower is not None
    assert consistency(trips) == lower[0] == 654_653
    assert consistency(trips[:4]) == 0
    assert consistency([]) == 0


@pytest.mark.parametrize(
    ("copies", "own", "expected"),
    [(60, 80, 750_000), (-8, 80, -100_000), (5, -80, None), (5, 0, None), (None, 80, None)],
)
def test_copyability_is_what_copies_earned_of_what_the_trader_earned(
    copies: int | None, own: int | None, expected: int | None
) -> None:
    assert copyability(enough(copies_micros=copies, shadow_micros=own)) == expected


def test_percentiles_share_the_place_of_equal_values() -> None:
    assert percentiles([30, 10, 20, 20, 50]) == [750_000, 0, 375_000, 375_000, MICRO]
    assert percentiles([7]) == [MICRO]
    assert percentiles([]) == []


def test_a_full_record_is_eligible_and_raises_no_flag() -> None:
    found = measured(enough(), NOW, Floors())
    assert (found.trips, found.losing_trips, found.active_days, found.net_micros) == (40, 14, 40, 38 * MICRO)
    assert (found.missing, found.flags) == ((), ())
    # mean 0.95 %; squared residuals 14 * 1.95^2 + 26 * 1.05^2 = 81.9; error sqrt(40 / 39 * 81.9) / 40 % = 0.22913 %
    assert (found.mean_micros, found.t_micros) == (9_500, 4_146_139)
    assert found.low_micros is not None
    assert found.high_micros is not None
    assert (found.low_micros, found.high_micros) == (5_732, 13_268)
    assert found.p_billionths == 16_906


@pytest.mark.parametrize(
    ("record", "missing"),
    [
        (enough(trips=enough().trips[-29:]), {Missing.TRIPS, Missing.ACTIVE_DAYS}),
        (enough(trips=[trip(2 if n > 8 else -1, 60 + n) for n in range(40)]), {Missing.LOSING_TRIPS}),
        (enough(trips=[trip(-1 if n % 3 else 2, 71 + n % 29) for n in range(40)]), {Missing.ACTIVE_DAYS}),
        (enough(trips=[trip(-1 if n % 3 else 2, 45 + n) for n in range(40)]), {Missing.RECENT_TRIP}),
        (enough(equity_micros=999 * MICRO), {Missing.EQUITY}),
        (enough(equity_micros=None), {Missing.EQUITY}),
        (enough(gaps=1), {Missing.NO_GAP}),
    ],
)
def test_each_floor_names_what_is_missing(record: Record, missing: set[Missing]) -> None:
    assert set(measured(record, NOW, Floors()).missing) == missing


@pytest.mark.parametrize(
    ("record", "flag"),
    [
        (enough(trips=[*enough().trips, trip(-11, 99)]), Flag.TAIL),
        (
            enough(trips=[replace(one, averaged_down=n > 18) for n, one in enumerate(enough().trips)]),
            Flag.AVERAGING_DOWN,
        ),
        (enough(trips=[*enough().trips, trip(39, 99)]), Flag.CONCENTRATED),
        (enough(trips=[replace(one, asset="BTC") for one in enough().trips]), Flag.ONE_MARKET),
        (enough(trips=[replace(one, opened=one.ended - 59 * SECOND) for one in enough().trips]), Flag.HFT),
        (enough(unrealized_micros=-19 * MICRO - 1), Flag.HIDDEN_LOSS),
        (enough(first_seen=NOW - 59 * DAY), Flag.NEW_WALLET),
        (enough(equity=[EquityPoint(100), EquityPoint(500, 400)]), Flag.SIZE_JUMP),
        (enough(self_traded_micros=200_001), Flag.WASH_SUSPICION),
    ],
)
def test_each_flag_is_raised_alone(record: Record, flag: Flag) -> None:
    assert measured(record, NOW, Floors()).flags == (flag,)


@pytest.mark.parametrize(
    "record",
    [
        enough(trips=[*enough().trips, trip(-10, 99)]),
        enough(trips=[replace(one, averaged_down=n > 19) for n, one in enumerate(enough().trips)]),
        enough(trips=[*enough().trips, trip(38, 99)]),
        enough(trips=[replace(one, opened=one.ended - 60 * SECOND) for one in enough().trips]),
        enough(unrealized_micros=-19 * MICRO),
        enough(first_seen=NOW - 60 * DAY),
        enough(equity=[EquityPoint(100), EquityPoint(499, 399)]),
        enough(self_traded_micros=200_000),
    ],
)
def test_no_flag_is_raised_at_its_limit(record: Record) -> None:
    assert measured(record, NOW, Floors()).flags == ()


def test_a_short_window_asks_for_two_thirds_of_its_days() -> None:
    assert [floors_of(days).active_days for days in (7, 30, 90, None)] == [4, 20, 30, 30]


def evidence(name: str, t: int, *, drawdown: int = 0, copies: int | None = None, p: int = 500_000_000) -> Evidence:
    own = measured(enough(trader=name), NOW, Floors())
    return replace(
        own, t_micros=t, consistency_micros=t, drawdown_micros=drawdown, copyability_micros=copies, p_billionths=p
    )


def test_the_score_weighs_percentiles_and_unknown_copyability_leaves_its_weight_to_the_others() -> None:
    """ann: (50 * 0.5 + 20 * 1 + 15 * 0.5) / 85; bob: 15 of 100 for copies; cat: (50 + 20 * 0.5 + 15) / 85."""
    rows = ranked(
        [evidence("ann", 2, drawdown=1), evidence("bob", 1, drawdown=3, copies=5), evidence("cat", 3, drawdown=2)]
    )
    assert [(row.rank, row.evidence.trader, row.score_micros) for row in rows] == [
        (1, "cat", 75 * MICRO // 85),
        (2, "ann", 5_250_000 * 10 // 85),
        (3, "bob", 150_000),
    ]
    assert rows[0].parts == {"t": MICRO, "drawdown": 500_000, "consistency": MICRO}


def test_traders_with_too_little_evidence_follow_without_a_rank() -> None:
    few = measured(enough(trader="zoe", gaps=1), NOW, Floors())
    rows = ranked([few, evidence("ann", 1)])
    assert [(row.rank, row.score_micros, row.evidence.trader) for row in rows] == [
        (1, MICRO, "ann"),
        (None, None, "zoe"),
    ]
    assert ranked([]) == []


def test_confidence_is_adjusted_for_the_number_of_traders() -> None:
    """Of four: 0.02 <= 0.025 and 0.05 <= 0.05 pass Benjamini-Hochberg; of a hundred, 0.02 does not."""
    four = [
        evidence(name, 1, p=p) for name, p in zip("abcd", (20_000_000, 50_000_000, 300_000_000, 10**9), strict=True)
    ]
    assert [row.confidence for row in ranked(four)] == [
        Confidence.STRONG,
        Confidence.STRONG,
        Confidence.NONE,
        Confidence.NONE,
    ]
    hundred = [evidence("a", 1, p=20_000_000), *(evidence(f"b{n}", 1) for n in range(99))]
    assert ranked(hundred)[0].confidence is Confidence.SOME
