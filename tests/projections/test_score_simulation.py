"""Both scores over ten made-up populations: 5 % of the traders have a true edge. Who fills the top 40?

The population: 400 traders win small sums and rarely lose a large one, 400 win rarely, 1,100 trade without an edge, and
100 have one. Fees are 9 basis points a trip.
"""

import random
from collections import Counter
from collections.abc import Callable
from math import isqrt
from statistics import median

from domain.evidence_score import Evidence, Floors, measured, ranked
from domain.micros import MICRO
from domain.trader_record import DAY, Record, Trip
from projections.queries import leaderboard

KINDS = ["edge"] * 100 + ["plain"] * 1100 + ["martingale"] * 400 + ["lottery"] * 400
DAYS = 90
SEEDS = range(10)


def outcome(chance: random.Random, kind: str) -> float:
    if kind == "edge":
        return chance.gauss(0.0025, 0.012)
    if kind == "martingale":
        return 0.004 if chance.random() < 0.95 else -0.076
    if kind == "lottery":
        return -0.01 if chance.random() < 0.93 else 0.133
    return chance.gauss(0, 0.015)


def record(chance: random.Random, name: str, kind: str) -> Record:
    leverage = chance.choice([0.5, 1, 2, 4])
    capital = int(10 ** chance.uniform(3, 6.5)) * MICRO
    trips = []
    for _ in range(int(10 ** chance.uniform(0.7, 2.6))):
        ended = chance.randrange(DAYS * DAY)
        net = int((outcome(chance, kind) * leverage - 0.0009) * capital)
        trips.append(Trip(asset="BTC", opened=ended, ended=ended, net_micros=net, capital_micros=capital))
    trips.sort(key=lambda one: one.ended)
    return Record(trader=name, trips=trips, equity_micros=capital)


def trader(one: Record, found: Evidence) -> leaderboard.Trader:
    """What the default score is computed from."""
    nets = [trip.net_micros for trip in one.trips]
    number, won = len(nets), sum(net > 0 for net in nets)
    mean = sum(nets) // number
    deviation = isqrt(sum((net - mean) ** 2 for net in nets) // max(1, number - 1))
    ratio = mean * MICRO // deviation if deviation else 0
    volume = 2 * sum(trip.capital_micros for trip in one.trips)
    total = peak = deepest = 0
    for net in nets:
        total += net
        peak = max(peak, total)
        deepest = max(deepest, peak - total)
    return leaderboard.Trader(
        influencer_id=one.trader, label="", venue="hyperliquid", status="active", trips=number, won=won,
        win_rate_micros=won * MICRO // number, volume_micros=volume, profit_micros=total, drawdown_micros=deepest,
        drawdown_share_micros=deepest * MICRO // volume, risk_ratio_micros=ratio,
        best_micros=max(nets), first_day=None,
    )  # fmt: skip


def top(seed: int) -> tuple[Counter[str], Counter[str]]:
    """The kinds of the first 40 by evidence, and by default."""
    chance = random.Random(seed)
    kind = {f"t{number:04d}": kind for number, kind in enumerate(KINDS)}
    records = [record(chance, name, of) for name, of in kind.items()]
    measures = [measured(one, DAYS * DAY, Floors()) for one in records]
    evidence = [row.evidence.trader for row in ranked(measures)[:40] if row.rank]
    plain = leaderboard.ranked([trader(*pair) for pair in zip(records, measures, strict=True)], None)[:40]
    return Counter(kind[name] for name in evidence), Counter(kind[row.trader.influencer_id] for row in plain)


def test_the_evidence_board_finds_the_traders_with_an_edge(record_property: Callable[[str, object], None]) -> None:
    boards = [top(seed) for seed in SEEDS]
    for seed, (evidence, plain) in zip(SEEDS, boards, strict=True):
        record_property(f"seed {seed}", f"evidence {dict(evidence)}, default {dict(plain)}")
    assert median(evidence["edge"] for evidence, _ in boards) >= 24
    assert median(plain["edge"] for _, plain in boards) <= 4
