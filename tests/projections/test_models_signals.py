"""activity_event, trade_event, influencer_metrics, market, market_price_snapshot: what venues report."""

from datetime import date, timedelta

from msgspec import Raw, structs

from domain.events import (
    Action,
    Decision,
    Event,
    FillObserved,
    GapDetected,
    GapKind,
    MarkCaptured,
    MarketDescribed,
    MarketResolved,
    MarkSource,
    Outcome,
    Payout,
    PositionState,
    QuoteFailed,
    RawReceived,
    Venue,
)
from domain.micros import MICRO, micros
from domain.reason_codes import Reason
from projections.engine.projection import Projection
from projections.engine.table import timestamp
from projections.models.activity_event import ActivityEvents
from projections.models.guardrail import Guardrails
from projections.models.influencer import Influencers
from projections.models.influencer_metrics import InfluencerMetrics
from projections.models.market import Markets
from projections.models.market_price_snapshot import MarketPriceSnapshots
from projections.models.shadow_entry import ShadowEntries
from projections.models.signal_group import SignalGroups
from projections.models.subscription import Subscriptions
from projections.models.trade_event import TradeEvents
from projections.queries.influencers import activities, group, groups, trades
from projections.queries.markets import market, markets, marks
from projections.queries.round_trips import influencer_metrics
from tests.domain.facts import BUY, SELL, at, bought, decided, group_closed, influencer, signal
from tests.projections.model_tables import Session, recorded, stored, tables
from tests.streams.examples import example

NEEDED: tuple[Projection, ...] = (
    TradeEvents(),
    ActivityEvents(),
    ShadowEntries(),
    SignalGroups(),
    InfluencerMetrics(),
    Influencers(),
    Subscriptions(),
    Guardrails(),
    Markets(),
    MarketPriceSnapshots(),
)
DAY = 24 * 3_600_000


async def append(session: Session, *events: Event, stream: str = "SIGNALS", first: int = 1) -> None:
    await stored(session, [recorded(event, stream, first + n) for n, event in enumerate(events)], NEEDED)


def gap(id: str = "g1", ms: int = 0) -> GapDetected:
    return GapDetected(
        gap_id=id,
        kind=GapKind.START_POSITION,
        influencer_id="ann",
        venue=Venue.HYPERLIQUID,
        address="0xa",
        asset="BTC",
        expected_micros=MICRO,
        found_micros=3 * MICRO,
        source_event_id="r1",
        event_time=at(ms),
        detect_time=at(ms + 40),
    )


async def test_activity_events_are_all_but_trades(database: str) -> None:
    split = structs.replace(signal("s2", ms=2), action=Action.SPLIT, notional_micros=5, source_event_id="r2")
    redeem = structs.replace(signal("s3", SELL, ms=3), action=Action.REDEEM, notional_micros=6, source_event_id="r3")
    observed = structs.replace(
        example(FillObserved, source_event_id="r4", influencer_id="ann"), event_time=at(4), detect_time=at(44)
    )
    raw = RawReceived(
        raw_id="pm:REWARD:0xa:0xhash",
        venue=Venue.POLYMARKET,
        channel="activity",
        influencer_id="ann",
        address="0xa",
        payload=Raw(b"{}"),
        detect_time=at(45),
        venue_time=at(5),
    )
    others = [
        structs.replace(raw, raw_id="pm:TRADE:0xa:0xhash"),
        structs.replace(raw, raw_id="pm:CONVERSION:0xa:0xhash"),
        structs.replace(raw, channel="positions"),
    ]
    async with tables(database, NEEDED) as session:
        await append(session, gap(ms=1), signal("s1", ms=1), split, redeem, observed)
        await append(session, raw, *others, stream="RAW")
        found = await activities(session, "ann")
        assert [(one.kind, one.source_event_id, one.cash_micros) for one in found] == [
            ("REWARD", "pm:REWARD:0xa:0xhash", 0),
            ("OBSERVED", "r4", 0),
            ("REDEEM", "r3", 6),
            ("SPLIT", "r2", -5),
            ("GAP", "r1", 0),
        ]
        assert (found[4].before_micros, found[4].after_micros, found[4].detail) == (MICRO, 3 * MICRO, "START_POSITION")
        assert [one.kind for one in await activities(session, "ann", before=timestamp(at(3)), limit=1)] == ["SPLIT"]
        assert [one.signal_id for one in await trades(session, "ann")] == ["s3", "s2", "s1"]


async def test_pages_of_trades(database: str) -> None:
    async with tables(database, NEEDED) as session:
        made = [structs.replace(signal(f"s{n}", ms=n // 3 * DAY), fee_micros=None if n % 2 else n) for n in range(10)]
        await append(session, *made)
        await append(session, structs.replace(signal("other"), influencer_id="bob"), first=50)
        seen: list[tuple[str, int | None]] = []
        after = None
        while page := await trades(session, "ann", after=after, limit=4):
            seen += [(one.signal_id, one.fee_micros) for one in page]
            after = (page[-1].event_time, page[-1].signal_sequence)
        assert seen == [(f"s{n}", None if n % 2 else n) for n in range(9, -1, -1)]


async def test_groups_with_quote_and_fan_out(database: str) -> None:
    async with tables(database, NEEDED) as session:
        first = group_closed(ms=1)
        second = structs.replace(group_closed(ms=DAY), group_id="grp-2")
        failed = QuoteFailed(quote_id="q", group=first, reason=Reason.NO_QUOTE, detail="429", failed_at=at(9))
        await append(session, first, failed, second, stream="GROUPS")
        found = await groups(session, "ann")
        assert [(one.group_id, one.quote, one.matched) for one in found] == [
            ("grp-2", None, None),
            ("grp-1", "NO_QUOTE", None),
        ]
        assert await group(session, "grp-1") == found[1]
        assert await group(session, "grp-3") is None
        assert await groups(session, "ann", before=found[0].event_time) == found[1:]


async def test_an_influencer_by_day_and_its_round_trips(database: str) -> None:
    """Long 1 at 100, out at 130 (won 29 after a fee of 1); short 2 at 130, turned at 140 (lost 20); long since."""
    won = [
        signal("s1", BUY, "1", "100", ms=0),
        structs.replace(signal("s2", SELL, "1", "130", before="1", ms=DAY), fee_micros=MICRO),
    ]
    lost = [
        signal("s3", SELL, "2", "130", ms=DAY + 1),
        signal("s4", BUY, "3", "140", before="-2", ms=2 * DAY),
    ]
    historic = structs.replace(signal("s0", ms=1), position_state=PositionState.HISTORIC)
    skip = structs.replace(decided(decided_at=at(0)), decision=Decision.SKIP)
    async with tables(database, NEEDED) as session:
        await stored(session, [recorded(influencer("ann"), "CONFIG", 1)], NEEDED)
        await append(session, *won, *lost, historic, gap("g", ms=3))
        await append(session, group_closed(), stream="GROUPS")
        fill = bought("BTC", "1", "50", fee="0.5")
        await append(session, decided(), skip, skip, fill, stream="EXECUTIONS")
        found = await influencer_metrics(session, "ann")
        assert found is not None
        assert (found.signals, found.historic_signals, found.gaps, found.groups) == (4, 1, 1, 1)
        assert (found.executed, found.skipped, found.copied_fills) == (1, 2, 1)
        assert (found.volume_micros, found.copied_volume_micros) == (micros("910"), micros("50"))
        assert (found.fee_micros, found.copied_fee_micros) == (MICRO, micros("0.5"))
        assert (found.trips, found.won, found.win_rate_micros) == (2, 1, MICRO // 2)
        assert (found.profit_micros, found.best_micros) == (micros("9"), micros("29"))
        assert (found.worst_micros, found.drawdown_micros) == (micros("-20"), micros("20"))
        assert (found.active_days, found.signals_per_day_micros) == (3, 4 * MICRO // 3)
        day: date = timestamp(at(0)).date()
        assert (found.first_day, found.last_day) == (day, day + timedelta(days=2))
        later = await influencer_metrics(session, "ann", day + timedelta(days=1), day + timedelta(days=2))
        assert later is not None
        assert (later.signals, later.trips, later.profit_micros) == (2, 1, micros("-1")), (
            "shares held before the span count from 130"
        )
        assert await influencer_metrics(session, "bob") is None


def described(**changes: object) -> MarketDescribed:
    usual = MarketDescribed(
        description_id="d",
        venue=Venue.POLYMARKET,
        market="race",
        question="Who?",
        slug="who",
        outcomes=(Outcome("yes", "Yes"), Outcome("no", "No")),
        tick_micros=10_000,
        min_share_micros=5 * MICRO,
        fee_rate_micros=0,
        closes_at=None,
        accepting=True,
        described_at=at(0),
    )
    return structs.replace(usual, **changes)


async def test_a_market_with_prices_and_payouts(database: str) -> None:
    resolved = MarketResolved(
        resolution_id="res",
        venue=Venue.POLYMARKET,
        market="race",
        payouts=(Payout("yes", MICRO), Payout("no", 0)),
        resolved_at=at(10),
        detect_time=at(20),
    )
    captured = [
        MarkCaptured(
            mark_id=f"m{ms}",
            venue=Venue.POLYMARKET,
            asset="yes",
            market="race",
            price_micros=price,
            source=MarkSource.MIDPOINT,
            venue_time=at(ms),
            marked_at=at(ms),
        )
        for ms, price in ((0, 400_000), (DAY, 600_000), (DAY + 1, 700_000))
    ]
    async with tables(database, NEEDED) as session:
        await append(session, described(), described(market="aaa", outcomes=()), *captured, stream="GROUPS")
        found = await market(session, "polymarket", "race")
        assert found is not None
        assert [(one.label, one.price_micros, one.payout_micros) for one in found.outcomes] == [
            ("Yes", 700_000, None),
            ("No", None, None),
        ]
        assert found.resolved_at is None
        assert [one.market for one in await markets(session)] == ["aaa", "race"]
        assert [one.market for one in await markets(session, after="aaa")] == ["race"]
        # Described anew after it was resolved: the payouts stay.
        await append(session, resolved, described(closes_at=at(30)), stream="GROUPS", first=20)
        found = await market(session, "polymarket", "race")
        assert found is not None
        assert [one.payout_micros for one in found.outcomes] == [MICRO, 0]
        assert (found.resolved_at, found.closes_at) == (timestamp(at(10)), timestamp(at(30)))
        rows = await session.fetch("SELECT market, resolved_at FROM market ORDER BY market")
        assert [tuple(row) for row in rows] == [("aaa", None), ("race", timestamp(at(10)))]
        begin = timestamp(at(0))
        series = await marks(session, "polymarket", "yes", begin + timedelta(days=1), begin + timedelta(days=2))
        assert [one.price_micros for one in series] == [600_000, 700_000]
        assert await marks(session, "hyperliquid", "yes", begin, begin + timedelta(days=2)) == []
        assert await market(session, "polymarket", "nothing") is None
