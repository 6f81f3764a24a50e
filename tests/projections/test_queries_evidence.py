"""The leaderboard by evidence: which trips the read models give it, and what is missing of a record."""

import pytest

from domain.events import Status
from domain.evidence_score import Confidence, Missing
from domain.micros import MICRO
from domain.trader_flags import Flag
from projections.engine.table import timestamp
from projections.models.influencer_position import InfluencerPositions
from projections.queries.evidence import EvidenceRow, evidence_board
from tests.domain.facts import at, influencer
from tests.projections.model_tables import Session, recorded, stored, tables
from tests.projections.test_queries_leaderboard import DAY, NEEDED, Step, signals

MODELS = (*NEEDED, InfluencerPositions())


async def board(
    session: Session, steps: list[Step], since: int = 0, *, status: Status = Status.ACTIVE
) -> list[EvidenceRow]:
    names = sorted({step.who for step in steps})
    configured = [recorded(influencer(who, status=status), "CONFIG", n, at=at(0)) for n, who in enumerate(names, 1)]
    await stored(session, configured + [recorded(one, "SIGNALS", n) for n, one in enumerate(signals(steps), 1)], MODELS)
    return await evidence_board(session, at(5 * DAY), timestamp(at(since * DAY)).date())


async def test_a_round_trip_is_measured_on_its_largest_notional(database: str) -> None:
    """Bought 1 at 100, another at 80 (2 held: 160 at that price), sold at 110 with fees of 1 + 1 + 3: 35 on 160."""
    steps = [
        Step("ann", "BTC", 0, 1, 100, 1, 0),
        Step("ann", "BTC", 1, 2, 80, 1, 1),
        Step("ann", "BTC", 2, 0, 110, 3, 2),
    ]
    async with tables(database, MODELS) as session:
        (row,) = await board(session, steps)
    found = row.evidence
    assert (found.trips, found.losing_trips, found.active_days) == (1, 0, 1)
    assert (found.net_micros, found.mean_micros) == (35 * MICRO, 218_750)
    assert Flag.AVERAGING_DOWN in found.flags
    assert Missing.TRIPS in found.missing
    assert Missing.EQUITY in found.missing
    assert (row.rank, row.score_micros, row.confidence) == (None, None, Confidence.NONE)
    assert row.addresses == influencer("ann").addresses


@pytest.mark.parametrize(("second", "averages_down"), [(120, True), (90, False)])
async def test_a_short_averages_down_when_it_sells_higher(database: str, second: int, averages_down: bool) -> None:
    steps = [
        Step("ann", "BTC", 0, -1, 100, 0, 0),
        Step("ann", "BTC", -1, -2, second, 0, 1),
        Step("ann", "BTC", -2, 0, 80, 0, 2),
    ]
    async with tables(database, MODELS) as session:
        (row,) = await board(session, steps)
    assert (Flag.AVERAGING_DOWN in row.evidence.flags) is averages_down


async def test_a_trip_under_way_at_the_first_known_trade_is_left_out(database: str) -> None:
    steps = [
        Step("ann", "BTC", 2, 0, 100, 0, 0),
        Step("ann", "BTC", 0, 1, 100, 0, 1),
        Step("ann", "BTC", 1, 0, 90, 0, 1),
    ]
    async with tables(database, MODELS) as session:
        (row,) = await board(session, steps)
    assert (row.evidence.trips, row.evidence.net_micros, row.evidence.mean_micros) == (1, -10 * MICRO, -100_000)


async def test_only_active_influencers_are_on_the_board(database: str) -> None:
    steps = [Step("ann", "BTC", 0, 1, 100, 0, 0), Step("ann", "BTC", 1, 0, 90, 0, 1)]
    async with tables(database, MODELS) as session:
        assert await board(session, steps, status=Status.PAUSED) == []
