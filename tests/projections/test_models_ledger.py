"""ledger_entry, ledger_balance, portfolio_snapshot and position: the entries of a subscriber add up to its
portfolio."""

from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, settings
from hypothesis import given as given_any
from msgspec import structs

from domain import portfolio as domain
from domain.events import (
    BreakerLimit,
    BreakerReset,
    BreakerTripped,
    EquityMarked,
    Event,
    MarkCaptured,
    MarketResolved,
    MarkSource,
    Payout,
    PositionChanged,
    Venue,
)
from domain.micros import MICRO, micros, times
from projections.engine.projection import Projection
from projections.engine.table import timestamp
from projections.models.ledger_entry import LedgerEntries
from projections.models.market import Markets
from projections.models.market_price_snapshot import MarketPriceSnapshots
from projections.models.portfolio_snapshot import PortfolioSnapshots
from projections.models.position import Positions
from projections.queries.ledger import LedgerLine, balances, ledger
from projections.queries.portfolios import portfolio, snapshots
from tests.domain.facts import BUY, SELL, at, bought, decided, deposited, filled, sold
from tests.domain.strategies import lives
from tests.projections.model_tables import Session, recorded, rolled_back, stored, tables

NEEDED: tuple[Projection, ...] = (
    LedgerEntries(),
    PortfolioSnapshots(),
    Positions(),
    MarketPriceSnapshots(),
    Markets(),
)
MINUTE = 60_000


async def booked(session: Session, *events: Event, first: int = 1) -> None:
    await stored(session, [recorded(event, "EXECUTIONS", first + n) for n, event in enumerate(events)], NEEDED)


async def marked(session: Session, price: str, ms: int, asset: str = "BTC") -> None:
    mark = MarkCaptured(
        mark_id=f"{asset}@{ms}",
        venue=Venue.HYPERLIQUID,
        asset=asset,
        market=asset,
        price_micros=micros(price),
        source=MarkSource.MIDPOINT,
        venue_time=at(ms),
        marked_at=at(ms),
    )
    await stored(session, [recorded(mark, "GROUPS", ms)], NEEDED)


def changed(share: str, average: str) -> PositionChanged:
    return PositionChanged(
        subscriber_id="sam",
        venue=Venue.HYPERLIQUID,
        asset="BTC",
        order_id="ord",
        share_micros=micros(share),
        cost_micros=times(micros(average), micros(share)),
        average_price_micros=micros(average),
        realized_micros=0,
        changed_at=at(1000),
    )


async def test_ledger_entries_add_up_to_the_portfolio(database: str) -> None:
    drawn: list[list[Event]] = []

    @settings(max_examples=100)
    @given_any(lives)
    def every(events: list[Event]) -> None:
        # An entry fits a bigint (9 trillion dollars); sums may not.
        assume(all(abs(getattr(event, "cash_delta_micros", 0)) < 2**63 for event in events))
        drawn.append(events)

    every()
    async with tables(database, NEEDED) as session:
        for events in drawn:
            expected = domain.Portfolio()
            for event in events:
                domain.evolve(expected, event)
            async with rolled_back(session):
                await booked(session, *events)
                cash = await session.fetchval(
                    "SELECT coalesce(sum(cash_delta_micros), 0) FROM ledger_entry WHERE subscriber_id = 'sam'"
                )
                assert int(cash) == expected.cash_micros, events
                copied: defaultdict[tuple[str, str], int] = defaultdict(int)
                found = await balances(session, "sam")
                for balance in found:
                    if balance.asset:
                        copied[balance.venue, balance.asset] += balance.share_micros
                held = {asset: position.share_micros for asset, position in expected.positions.items()}
                assert {asset: share for asset, share in copied.items() if share} == {
                    asset: share for asset, share in held.items() if share
                }
                account = await portfolio(session, "sam")
                assert account.cash_micros == sum(balance.cash_micros for balance in found) == expected.cash_micros
                assert account.deposits_micros == expected.deposits_micros
                assert account.fees_micros == expected.fees_micros


@pytest.mark.parametrize("limit", [1, 3, 7, 50])
async def test_pages_of_the_ledger_hold_every_entry_once_newest_first(database: str, limit: int) -> None:
    day = 24 * 60 * MINUTE
    fills = [
        structs.replace(bought("BTC", "1", "100", attempt=f"att-{n}"), filled_at=at(n // 3 * day // 2))
        for n in range(20)
    ]
    async with tables(database, NEEDED) as session:
        await booked(session, deposited(), *fills)
        await booked(session, structs.replace(deposited(id="other"), subscriber_id="eve"), first=100)
        seen: list[LedgerLine] = []
        while page := await ledger(
            session, "sam", after=(seen[-1].booked_at, seen[-1].sequence, seen[-1].index) if seen else None, limit=limit
        ):
            assert len(page) <= limit
            seen += page
        assert [line.sequence for line in seen] == list(range(21, 0, -1))
        assert {line.kind for line in seen} == {"DEPOSIT", "TRADE"}


async def test_an_account_is_valued_at_payouts_then_marks_then_own_fills(database: str) -> None:
    async with tables(database, NEEDED) as session:
        await booked(session, deposited("1000"), bought("BTC", "2", "100", fee="1"), changed("2", "100"))
        account = await portfolio(session, "sam")
        assert (account.cash_micros, account.equity_micros) == (micros("799"), micros("999"))
        assert (account.positions[0].mark_micros, account.positions[0].marked_at) == (micros("100"), None)
        await marked(session, "130", 2000)
        account = await portfolio(session, "sam")
        assert (account.equity_micros, account.profit_micros) == (micros("1059"), micros("59"))
        assert account.positions[0].unrealized_micros == micros("60")
        resolved = MarketResolved(
            resolution_id="res",
            venue=Venue.HYPERLIQUID,
            market="BTC",
            payouts=(Payout("BTC", MICRO),),
            resolved_at=at(0),
            detect_time=at(3000),
        )
        await stored(session, [recorded(resolved, "GROUPS", 9)], NEEDED)
        await marked(session, "140", 4000)
        account = await portfolio(session, "sam")
        assert account.equity_micros == micros("801"), "a payout is the last price"
        assert (await portfolio(session, "unknown")).equity_micros == 0


# --- snapshots ---------------------------------------------------------------------------------------------


def facts_at(ms: int, equity: str) -> list[tuple[Event, str]]:
    common: dict[str, Any] = {"subscriber_id": "sam", "equity_micros": micros(equity)}
    watched: dict[str, Any] = {**common, "marks_sequence": 1}
    limit = BreakerLimit.DRAWDOWN
    return [
        (structs.replace(decided(decided_at=at(ms)), equity_micros=micros(equity)), "DECISION"),
        (EquityMarked(**watched, marked_at=at(ms)), "MARK"),
        (
            BreakerTripped(
                **watched, limit=limit, floor_micros=0, reference_micros=0, config_sequence=1, tripped_at=at(ms)
            ),
            "BREAKER_TRIPPED",
        ),
        (BreakerReset(**common, limit=limit, actor="ops", config_sequence=1, reset_at=at(ms)), "BREAKER_RESET"),
    ]


@pytest.mark.parametrize("number", range(4))
async def test_the_newest_fact_of_a_minute_is_kept(database: str, number: int) -> None:
    async with tables(database, NEEDED) as session:
        (older, _), (event, source) = facts_at(1_000, "900")[number], facts_at(15_000, "777")[number]
        (next_minute, _) = facts_at(MINUTE, "600")[number]
        await booked(session, older, event)
        await booked(session, next_minute, first=10)
        rows = await session.fetch("SELECT minute, equity_micros, source, sequence FROM portfolio_snapshot ORDER BY 1")
        begin = timestamp(at(0)).replace(second=0, microsecond=0)
        assert [tuple(row) for row in rows] == [
            (begin, micros("777"), source, 2),
            (begin + timedelta(minutes=1), micros("600"), source, 10),
        ]


async def test_minutes_without_a_fact_are_valued_from_ledger_and_marks(database: str) -> None:
    fills = [
        structs.replace(bought("BTC", "2", "100", attempt="a"), filled_at=at(2 * MINUTE)),
        structs.replace(sold("BTC", "1", "120", attempt="b"), filled_at=at(6 * MINUTE)),
    ]
    async with tables(database, NEEDED) as session:
        await booked(session, structs.replace(deposited("1000"), deposited_at=at(MINUTE)), *fills)
        await marked(session, "110", 4 * MINUTE)
        await marked(session, "130", 8 * MINUTE)
        await booked(session, structs.replace(decided(decided_at=at(9 * MINUTE)), equity_micros=5), first=20)
        begin = timestamp(at(0))
        found = await snapshots(session, "sam", begin, begin + timedelta(minutes=10))
        values = [(one.equity_micros // MICRO, one.source) for one in found]
        books = [0, 1000, 1000, 1000, 1020, 1020, 1040, 1040, 1050]
        # at(0) is 40 s into its minute: what ends ten minutes later touches eleven.
        assert values == [*((worth, "BOOKS") for worth in books), (0, "DECISION"), (1050, "BOOKS")]
        for start in range(1, 10):
            later = await snapshots(session, "sam", begin + timedelta(minutes=start), begin + timedelta(minutes=10))
            assert later == found[start:], "a later start gives the same minutes"


async def test_two_influencers_on_one_asset_are_kept_apart(database: str) -> None:
    async with tables(database, NEEDED) as session:
        await booked(
            session,
            filled(BUY, MICRO, 100 * MICRO, influencer="ann", subscription="sam-ann", attempt="a"),
            filled(SELL, 3 * MICRO, 330 * MICRO, fee_micros=7, influencer="bob", subscription="sam-bob", attempt="b"),
        )
        found = {one.influencer_id: (one.share_micros, one.cash_micros, one.fee_micros, one.entries)
                 for one in await balances(session, "sam")}  # fmt: skip
        assert found == {"ann": (MICRO, -100 * MICRO, 0, 1), "bob": (-3 * MICRO, 330 * MICRO - 7, 7, 1)}


async def test_fees_are_lines_of_their_own_and_the_lines_add_up_to_the_ledger(database: str) -> None:
    async with tables(database, NEEDED) as session:
        await booked(session, deposited("1000"), bought("BTC", "2", "100", fee="1"), sold("BTC", "1", "120"))
        rows = await session.fetch(
            "SELECT kind, share_delta_micros, cash_delta_micros FROM ledger_line ORDER BY sequence, index, kind DESC"
        )
        assert [tuple(row) for row in rows] == [
            ("DEPOSIT", 0, micros("1000")),
            ("TRADE", micros("2"), micros("-200")),
            ("FEE", 0, micros("-1")),
            ("TRADE", micros("-1"), micros("120")),
        ]
        sums = "SELECT sum(cash_delta_micros), sum(share_delta_micros) FROM "
        assert await session.fetch(sums + "ledger_line") == await session.fetch(sums + "ledger_entry")
