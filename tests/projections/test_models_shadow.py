"""shadow_entry: an influencer's portfolio from its rows equals the fold of its signals, to the micro."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st
from msgspec import structs

from domain import influencer_portfolio as domain
from domain.events import AccountSeeded, Action, Event, MarkCaptured, MarkSource, SeededPosition, SignalRecorded, Venue
from domain.influencer_account import is_stale
from domain.influencer_portfolio import InfluencerPortfolio
from domain.mark_prices import Mark
from domain.micros import MICRO, micros
from domain.signals import Trade
from domain.testing import given
from projections.engine.projection import Projection
from projections.engine.table import Insert, timestamp
from projections.models.influencer_position import InfluencerPositions
from projections.models.market import Markets
from projections.models.market_price_snapshot import MarketPriceSnapshots
from projections.models.shadow_entry import SHADOW_ENTRY, ShadowEntries
from projections.queries.influencers import holdings
from projections.queries.shadows import NEWEST, ShadowPortfolio, shadow, shadow_snapshots
from streams.envelope import Recorded
from tests.domain.copy_scenarios import NO, YES, Happening, log, more, movement, moving, recording, removed, row, wallet
from tests.domain.facts import ACCOUNT, ANN, BUY, SELL, at, seeded, signal, trade
from tests.projections.model_tables import Session, recorded, rolled_back, stored, tables

NEEDED: tuple[Projection, ...] = (ShadowEntries(), InfluencerPositions(), MarketPriceSnapshots(), Markets())


def signals_of(*happened: Happening) -> list[Event]:
    """The events of SIGNALS that result; each venue has an account of its own."""
    events: list[Event] = []
    accounts: dict[Venue, Any] = {}
    for it in happened:
        venue: Venue = it.venue  # type: ignore[union-attr]
        state = accounts.get(venue, given(ACCOUNT))
        if isinstance(it, AccountSeeded) and is_stale(state.state, it):
            continue
        if isinstance(it, Event):
            events.append(it)
            accounts[venue] = more(state, it)
        else:
            outcome = state.when(recording, it) if isinstance(it, Trade) else state.when(moving, it)
            events += outcome.events
            accounts[venue] = outcome
    return events


def in_the_log(events: list[Event]) -> list[Recorded]:
    return [recorded(event, "SIGNALS", number) for number, event in enumerate(events, 1)]


def reported(size: str, price: str | None, *, asset: str = "BTC", ms: int = 0) -> AccountSeeded:
    """An account snapshot with one perpetual and its entry price."""
    position = SeededPosition(asset, micros(size), price_micros=None if price is None else micros(price))
    return structs.replace(seeded(ms=ms), seed_id=f"{asset}@{ms}", positions=(position,))


def facts_of(found: InfluencerPortfolio | ShadowPortfolio) -> dict[str, Any]:
    """The facts of one address, from either side."""
    if isinstance(found, InfluencerPortfolio):
        positions = {
            asset: (held.share_micros, held.cost_micros, held.realized_micros, held.mark_micros)
            for asset, held in found.positions.items()
        }
        realized = found.realized_micros + sum(held.realized_micros for held in found.positions.values())
    else:
        positions = {
            (held.venue, held.asset): (
                held.share_micros,
                held.cost_micros,
                held.realized_micros,
                held.own_price_micros,
            )
            for held in found.positions
        }
        realized = found.realized_micros
    return {
        "cash": found.cash_micros,
        "deposits": found.deposits_micros,
        "fees": found.fees_micros,
        "realized": realized,
        "positions": positions,
    }


async def agreed(session: Session, events: list[Event], *, until: int = NEWEST) -> None:
    """Assert that the rows equal the fold of the domain."""
    expected = domain.initial
    for number, event in enumerate(events, 1):
        if number <= until:
            expected = domain.evolve(expected, event)
    await stored(session, in_the_log(events), NEEDED)
    found = await shadow(session, "ann", until=until)
    assert facts_of(found[0] if found else InfluencerPortfolio()) == facts_of(expected)
    if found:
        assert found[0].equity_micros == domain.equity(expected, lambda asset: None)
    if until == NEWEST:
        sums = await session.fetchrow(
            "SELECT coalesce(sum(cash_delta_micros), 0)::bigint, coalesce(sum(fee_micros), 0)::bigint FROM shadow_entry"
        )
        assert tuple(sums or ()) == (expected.cash_micros, expected.fees_micros)


steps = st.lists(
    st.one_of(
        st.builds(
            lambda number, side, size, price, fee, start: trade(
                f"t{number}",
                side,
                str(size),
                str(price),
                ms=number,
                fee_micros=fee,
                start_micros=None if start is None else micros(str(start)),
            ),
            st.integers(1, 40),
            st.sampled_from([BUY, SELL]),
            st.integers(1, 9),
            st.integers(1, 300),
            st.none() | st.integers(-100, 10**6),
            st.none() | st.integers(-9, 9),
        ),
        st.builds(
            lambda size, price, ms, asset: reported(
                str(size), None if price is None else str(price), ms=ms, asset=asset
            ),
            st.integers(-9, 9),
            st.none() | st.integers(1, 300),
            st.integers(0, 40),
            st.sampled_from(["BTC", "BTC", "ETH"]),
        ),
        st.builds(
            lambda n, side, size: row(n, side, str(size)),
            st.integers(0, 3),
            st.sampled_from([BUY, SELL]),
            st.integers(1, 9),
        ),
        st.sampled_from([log(), removed(log()), log(block="0xb2"), log(1, SELL)]),
        st.builds(
            lambda action, size, cash, asset, n: movement(
                action, str(size), str(cash if action is Action.REDEEM else cash + 1), asset=asset, id=f"pm:M:{n}"
            ),
            st.sampled_from([Action.SPLIT, Action.MERGE, Action.REDEEM]),
            st.integers(1, 9),
            st.integers(0, 9),
            st.sampled_from([YES, NO]),
            st.integers(0, 9),
        ),
    ),
    max_size=14,
)


async def test_rows_and_fold_agree(database: str) -> None:
    async with tables(database, NEEDED) as session:

        @settings(max_examples=150)
        @given_any(steps, st.booleans())
        def every(happened: list[Happening], known: bool) -> None:
            drawn.append(signals_of(*([wallet((YES, "5"))] if known else []), *happened))

        drawn: list[list[Event]] = []
        every()
        for number, events in enumerate(drawn):
            try:
                async with rolled_back(session):
                    await agreed(session, events)
            except AssertionError as error:
                raise AssertionError(f"history {number}: {events}") from error


async def test_as_of_any_sequence(database: str) -> None:
    events = signals_of(
        reported("5", "100"),
        trade("t1", SELL, "8", "110", ms=5, fee_micros=7),
        reported("-3", "100", ms=10),
        trade("t2", BUY, "3", "90", ms=20),
        seeded(ms=30),
        trade("t3", BUY, "1", "90", ms=40),
        seeded(ms=50),
    )
    async with tables(database, NEEDED) as session:
        for until in range(len(events) + 1):
            async with rolled_back(session):
                await agreed(session, events, until=until)


async def test_a_position_missing_in_a_snapshot_is_closed_at_its_newest_price(database: str) -> None:
    async with tables(database, NEEDED) as session:
        events = signals_of(reported("5", "100"), trade("t1", price="150", ms=5), seeded(ms=10))
        await stored(session, in_the_log(events), NEEDED)
        (found,) = await shadow(session, "ann")
        assert found.positions == ()
        assert found.deposits_micros == micros("500") - micros("900")
        assert found.profit_micros == micros("250")
        assert await holdings(session, "ann") == []


async def test_a_late_trade_does_not_change_the_price(database: str) -> None:
    late = (trade("t2", price="120", ms=20), trade("t1", price="100", ms=10))
    async with tables(database, NEEDED) as session:
        async with rolled_back(session):
            await agreed(session, signals_of(seeded(), *late))
            (found,) = await shadow(session, "ann")
            assert found.positions[0].own_price_micros == micros("120")
        await agreed(session, signals_of(seeded(), *late, seeded(ms=30)))
        (found,) = await shadow(session, "ann")
        assert found.deposits_micros == -micros("240"), "out at its newest price"


async def test_newer_marks_value_open_positions(database: str) -> None:
    async with tables(database, NEEDED) as session:
        await stored(session, in_the_log(signals_of(seeded(), trade("t1", price="100", ms=20))), NEEDED)
        for ms, price, worth in ((19, "200", "100"), (20, "120", "120"), (21, "130", "130")):
            mark = MarkCaptured(
                mark_id=f"m{ms}",
                venue=Venue.HYPERLIQUID,
                asset="BTC",
                market="BTC",
                price_micros=micros(price),
                source=MarkSource.MIDPOINT,
                venue_time=at(ms),
                marked_at=at(ms),
            )
            await stored(session, [recorded(mark, "GROUPS", ms)], NEEDED)
            (found,) = await shadow(session, "ann")
            expected = domain.initial
            for event in signals_of(seeded(), trade("t1", price="100", ms=20)):
                expected = domain.evolve(expected, event)
            known = Mark(1, micros(price), at(ms))
            assert found.equity_micros == domain.equity(expected, {("hyperliquid", "BTC"): known}.get)
            assert found.positions[0].mark_micros == micros(worth)


async def test_holdings_are_those_of_the_newest_trade_or_snapshot(database: str) -> None:
    async with tables(database, NEEDED) as session:

        async def held(*happened: Happening) -> dict[str, tuple[int, str]]:
            async with rolled_back(session):
                await stored(session, in_the_log(signals_of(*happened)), NEEDED)
                return {one.asset: (one.share_micros, one.source) for one in await holdings(session, "ann")}

        two = micros("2")
        assert await held(trade("t1", BUY, "2", ms=1)) == {"BTC": (two, "trade")}
        assert await held(reported("2", None)) == {"BTC": (two, "report")}
        assert await held(reported("1", None), trade("t1", BUY, "1", ms=1)) == {"BTC": (two, "trade")}
        assert await held(trade("t1", BUY, "1", ms=1), reported("2", None, ms=5)) == {"BTC": (two, "report")}
        assert await held(reported("1", None), reported("2", None, asset="ETH", ms=5)) == {"ETH": (two, "report")}
        assert await held(reported("1", None), trade("t1", BUY, "1", ms=9), seeded(ms=8)) == {"BTC": (two, "trade")}
        assert await held(trade("t1", BUY, "1", ms=1), trade("t2", SELL, "1", ms=2)) == {}


async def test_minutes_of_an_influencer_portfolio(database: str) -> None:
    minute = 60_000
    events = signals_of(
        reported("5", "100"),
        trade("t1", SELL, "2", "110", ms=minute, fee_micros=MICRO),
        trade("t2", SELL, "3", "120", ms=3 * minute),
    )
    async with tables(database, NEEDED) as session:
        await stored(session, in_the_log(events), NEEDED)
        since = timestamp(at(0))
        found = await shadow_snapshots(session, "ann", since - timedelta(minutes=1), since + timedelta(minutes=5))
        assert [one.profit_micros // MICRO for one in found] == [0, 0, 49, 49, 79, 79, 79]
        later = await shadow_snapshots(session, "ann", since + timedelta(minutes=2), since + timedelta(minutes=5))
        assert later == found[3:], "a later start gives the same minutes"


def test_a_historic_signal_makes_no_row() -> None:
    events = signals_of(reported("5", "100", ms=10), trade("t1", ms=5))
    assert isinstance(events[1], SignalRecorded)
    assert list(ShadowEntries().changes(recorded(events[1], "SIGNALS", 2))) == []


@pytest.mark.parametrize(("side", "cash"), [(BUY, "-100.5"), (SELL, "99.5")])
def test_the_row_of_a_signal(side: Any, cash: str) -> None:
    event = structs.replace(signal(side=side), fee_micros=micros("0.5"))
    (change,) = ShadowEntries().changes(recorded(event, "SIGNALS", 3))
    assert isinstance(change, Insert)
    assert change.table is SHADOW_ENTRY
    assert change.row["cash_delta_micros"] == micros(cash)
    assert (change.row["fee_micros"], change.row["kind"], change.row["sequence"]) == (micros("0.5"), "TRADE", 3)
    assert (change.row["address"], change.row["section"]) == (ANN, "")
