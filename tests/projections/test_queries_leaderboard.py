"""The score of the leaderboard equals one that is computed here without SQL, in fractions."""

import random
from collections import defaultdict
from decimal import Decimal, getcontext
from fractions import Fraction
from typing import NamedTuple

import pytest
from msgspec import structs

from domain.events import SignalRecorded, Status
from domain.micros import MICRO
from projections.engine.projection import Projection
from projections.engine.table import timestamp
from projections.models.influencer import Influencers
from projections.models.influencer_metrics import InfluencerMetrics
from projections.models.shadow_entry import ShadowEntries
from projections.queries.leaderboard import Trader, leaderboard, ranked
from tests.domain.facts import BUY, SELL, at, influencer, signal
from tests.projections.model_tables import recorded, stored, tables

NEEDED: tuple[Projection, ...] = (ShadowEntries(), InfluencerMetrics(), Influencers())
DAY = 24 * 3_600_000


class Step(NamedTuple):
    """A trade in whole dollars and shares: from one position to another."""

    who: str
    asset: str
    before: int
    after: int
    price: int
    fee: int
    day: int

    @property
    def volume(self) -> int:
        return abs(self.after - self.before) * self.price


def random_trades(chance: random.Random, influencers: list[str], length: int) -> list[Step]:
    """Positions that wander through zero; some trades begin at another position than the one before ended at."""
    held: defaultdict[tuple[str, str], int] = defaultdict(int)
    steps = []
    for number in range(length):
        who, asset = chance.choice(influencers), chance.choice(["BTC", "ETH"])
        before = held[who, asset] if chance.random() < 0.9 else chance.randint(-3, 3)
        after = chance.choice([other for other in (*range(-4, 5), 0, 0) if other != before])
        fee = 0 if before * after < 0 else chance.randint(-2, 5)
        steps.append(Step(who, asset, before, after, chance.randint(1, 200), fee, number * 4 // length))
        held[who, asset] = after
    return steps


def signals(steps: list[Step]) -> list[SignalRecorded]:
    made = []
    for number, step in enumerate(steps):
        side = BUY if step.after > step.before else SELL
        one = signal(
            f"s{number}", side, str(abs(step.after - step.before)), str(step.price), before=str(step.before),
            ms=step.day * DAY + number,
        )  # fmt: skip
        made.append(
            structs.replace(
                one, influencer_id=step.who, address=step.who, asset=step.asset, fee_micros=step.fee * MICRO
            )
        )
    return made


def profits(steps: list[Step]) -> dict[str, list[int]]:
    """The profit (dollars) of every round trip that ended, by influencer, in the order of their ends."""
    ended: defaultdict[str, list[int]] = defaultdict(list)
    held: defaultdict[tuple[str, str], int] = defaultdict(int)
    so_far: defaultdict[tuple[str, str], int] = defaultdict(int)
    ends: list[tuple[tuple[int, int], str, int]] = []
    """(which trade and which half of it was the last of the trip, whose, profit)."""
    last: dict[tuple[str, str], tuple[int, int]] = {}
    for number, step in enumerate(steps):
        key = (step.who, step.asset)
        if held[key] and (step.before == 0 or (step.before > 0) != (held[key] > 0)):
            ends.append((last[key], step.who, so_far[key] + held[key] * step.price))
            so_far[key], held[key] = 0, 0
        so_far[key] -= (step.before - held[key]) * step.price  # a difference comes in at the trade's price
        held[key] = step.before
        if step.before * step.after < 0:
            ends.append(((number, 0), step.who, so_far[key] + step.before * step.price))
            so_far[key], held[key] = 0, 0
        so_far[key] -= (step.after - held[key]) * step.price + step.fee
        held[key] = step.after
        last[key] = (number, int(step.before * step.after < 0))
        if step.after == 0:
            ends.append(((number, 0), step.who, so_far[key]))
            so_far[key] = 0
    for _, who, profit in sorted(ends):
        ended[who].append(profit)
    return ended


def drawdown(trips: list[int]) -> int:
    peak = total = deepest = 0
    for profit in trips:
        total += profit
        peak = max(peak, total)
        deepest = max(deepest, peak - total)
    return deepest


def ratio(trips: list[int]) -> Decimal:
    getcontext().prec = 60
    if len(trips) < 2:
        return Decimal(0)
    mean = Fraction(sum(trips), len(trips))
    variance = Fraction(sum((profit - mean) ** 2 for profit in trips)) / (len(trips) - 1)
    if not variance:
        return Decimal(0)
    return (Decimal(mean.numerator) / mean.denominator) / (Decimal(variance.numerator) / variance.denominator).sqrt()


def scores(steps: list[Step], min_trips: int) -> dict[str, float]:
    """The score of each influencer, 0..1."""
    traders = {who: trips for who, trips in profits(steps).items() if len(trips) >= min_trips}
    volume = {who: sum(step.volume for step in steps if step.who == who) for who in traders}
    measures: list[tuple[float, dict[str, float]]] = [
        (0.30, {who: sum(profit > 0 for profit in trips) / len(trips) for who, trips in traders.items()}),
        (0.20, {who: float(volume[who]) for who in traders}),
        (0.25, {who: -drawdown(trips) / volume[who] for who, trips in traders.items()}),
        (0.15, {who: float(ratio(trips)) for who, trips in traders.items()}),
        (0.10, {who: float(max(trips)) for who, trips in traders.items()}),
    ]
    found = dict.fromkeys(traders, 0.0)
    for weight, of in measures:
        low, high = min(of.values(), default=0.0), max(of.values(), default=0.0)
        for who, value in of.items():
            found[who] += weight * ((value - low) / (high - low) if high > low else 1.0)
    return found


@pytest.mark.parametrize("seed", range(6))
async def test_scores_equal_computed_ones(database: str, seed: int) -> None:
    chance = random.Random(seed)
    influencers = [f"p{number}" for number in range(chance.randint(1, 6))]
    steps = random_trades(chance, influencers, 150)
    min_trips = chance.choice([1, 2, 5])
    async with tables(database, NEEDED) as session:
        configured = [recorded(influencer(who), "CONFIG", n, at=at(0)) for n, who in enumerate(influencers, 1)]
        made = [recorded(one, "SIGNALS", n) for n, one in enumerate(signals(steps), 1)]
        await stored(session, configured + made, NEEDED)
        found = await leaderboard(session, min_trips=min_trips)
        trips = profits(steps)
        expected = scores(steps, min_trips)
        assert {one.trader.influencer_id for one in found} == expected.keys()
        for one in found:
            trader, own = one.trader, trips[one.trader.influencer_id]
            assert (trader.trips, trader.won) == (len(own), sum(profit > 0 for profit in own))
            assert (trader.profit_micros, trader.best_micros) == (sum(own) * MICRO, max(own) * MICRO)
            assert trader.drawdown_micros == drawdown(own) * MICRO
            assert abs(trader.risk_ratio_micros - ratio(own) * MICRO) <= 1
            assert abs(one.score_micros - expected[trader.influencer_id] * MICRO) < 20
            assert sum(one.parts.values()) <= 5 * MICRO
        assert [one.rank for one in found] == list(range(1, len(found) + 1))
        assert [one.score_micros for one in found] == sorted((one.score_micros for one in found), reverse=True)


async def test_only_active_influencers_and_trades_of_the_span_count(database: str) -> None:
    steps = [Step(who, "BTC", *pair, 100, 0, day) for who in ("ann", "bob", "cat") for day in (0, 1)
             for pair in ((0, 1), (1, 0))]  # fmt: skip
    async with tables(database, NEEDED) as session:
        influencers = [influencer("ann"), influencer("bob", status=Status.PAUSED)]
        await stored(session, [recorded(one, "CONFIG", n, at=at(0)) for n, one in enumerate(influencers)], NEEDED)
        await stored(session, [recorded(one, "SIGNALS", n) for n, one in enumerate(signals(steps))], NEEDED)
        (found,) = await leaderboard(session)
        assert (found.trader.influencer_id, found.trader.trips, found.age_days) == ("ann", 2, 1)
        day = timestamp(at(DAY)).date()
        (found,) = await leaderboard(session, day)
        assert (found.trader.trips, found.trader.volume_micros) == (1, 200 * MICRO)
        assert found.trader.first_day == timestamp(at(0)).date()
        assert await leaderboard(session, min_trips=3) == []


def test_equal_traders_have_the_best_score_and_are_sorted_by_id() -> None:
    trader = Trader(
        influencer_id="b", label="", venue="v", status="active", trips=1, won=0, win_rate_micros=0, volume_micros=0,
        profit_micros=0, drawdown_micros=0, drawdown_share_micros=0, risk_ratio_micros=0, best_micros=0, first_day=None,
    )  # fmt: skip
    found = ranked([trader, structs.replace(trader, influencer_id="a")], None)
    assert [(one.trader.influencer_id, one.score_micros, one.age_days) for one in found] == [
        ("a", MICRO, None),
        ("b", MICRO, None),
    ]
    assert ranked([], None) == []
