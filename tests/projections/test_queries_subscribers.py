"""A subscriber's copy metrics (rates, slippage, lags) equal ones computed here over random histories."""

import random
from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from domain.events import Decision, Event, OrderSubmitted, TradeSide
from domain.micros import MICRO, times
from projections.engine.projection import Projection
from projections.engine.table import timestamp
from projections.models.copy_attempt import CopyAttempts
from projections.models.ledger_entry import LedgerEntries
from projections.models.market import Markets
from projections.models.market_price_snapshot import MarketPriceSnapshots
from projections.models.position import Positions
from projections.models.signal_group import SignalGroups
from projections.queries.attempts import attempt as attempt_whole
from projections.queries.attempts import (
    attempts,
    attempts_of_group,
    attempts_of_subscriber,
    fills_of_attempt,
    orders_of_attempt,
    orders_of_subscriber,
)
from projections.queries.subscribers import Copying, subscriber_metrics
from tests.domain.facts import BUY, SELL, at, completed, decided, filled, group_closed
from tests.projections.model_tables import Session, recorded, stored, tables
from tests.streams.examples import example

NEEDED: tuple[Projection, ...] = (
    CopyAttempts(),
    LedgerEntries(),
    Positions(),
    SignalGroups(),
    MarketPriceSnapshots(),
    Markets(),
)
HOUR = 3_600_000


class History:
    """Random decisions and fills, kept for the computation without SQL."""

    def __init__(self, chance: random.Random, length: int) -> None:
        self.groups: list[Event] = []
        self.events: list[Event] = []
        self.of: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for number in range(length):
            self._copy(chance, number)

    def _copy(self, chance: random.Random, number: int) -> None:
        ms, who = number * HOUR, chance.choice(["ann", "bob"])
        price = chance.randint(1, 200) * MICRO + chance.randint(0, 999)
        side = chance.choice([BUY, SELL])
        group = structs.replace(group_closed(), group_id=f"g{number}", price_micros=price, closed_at=at(ms + 300))
        self.groups.append(group)
        seen, decided_ms = chance.randint(1, 500), chance.randint(600, 2_000)
        execute = chance.random() < 0.7
        of: dict[str, Any] = {"side": side, "seen": seen * 1000, "took": (decided_ms - seen) * 1000, "price": price}
        self.events.append(
            decided(
                side=side,
                attempt_id=f"a{number}",
                group_id=group.group_id,
                influencer_id=who,
                decision=Decision.EXECUTE if execute else Decision.SKIP,
                event_time=at(ms),
                detect_time=at(ms + seen),
                decided_at=at(ms + decided_ms),
            )
        )
        of |= {"executed": execute, "fills": []}
        if execute:
            self._fill(chance, number, ms + decided_ms, who, side, of)
        self.of[who].append(of)
        self.of[""].append(of)

    def _fill(self, chance: random.Random, number: int, ms: int, who: str, side: TradeSide, of: dict[str, Any]) -> None:
        wanted, taken = 3 * MICRO, 0
        order: dict[str, Any] = {"order_id": f"o{number}", "attempt_id": f"a{number}", "subscriber_id": "sam"}
        submitted = structs.replace(example(OrderSubmitted, share_micros=wanted, **order), submitted_at=at(ms + 5))
        self.events.append(submitted)
        for part in range(chance.choice([0, 1, 3])):
            share, notional, fee = MICRO, chance.randint(1, 200) * MICRO, chance.randint(0, 999)
            fill = filled(side, share, notional, fee_micros=fee, influencer=who, attempt=f"a{number}")
            self.events.append(
                structs.replace(fill, fill_id=f"f{number}.{part}", order_id=f"o{number}", filled_at=at(ms + 10 + part))
            )
            of["fills"].append((share, notional, fee))
            taken += share
        of["status"] = "unfilled" if not taken else "filled" if taken == wanted else "partial"
        self.events.append(completed(f"a{number}", order_id=f"o{number}", requested_micros=wanted, filled_micros=taken))


def percentile(values: list[int], percent: int) -> int | None:
    return sorted(values)[-(-len(values) * percent // 100) - 1] if values else None


def computed(influencer: str, decisions: list[dict[str, Any]]) -> Copying:
    orders = [one for one in decisions if one["executed"]]
    fills = [(one, *fill) for one in orders for fill in one["fills"]]
    counts = {name: sum(one["status"] == name for one in orders) for name in ("filled", "partial", "unfilled")}
    reference = [times(one["price"], share) for one, share, _, _ in fills]
    seen, took = [one["seen"] for one in decisions], [one["took"] for one in decisions]
    return Copying(
        influencer_id=influencer,
        decisions=len(decisions),
        executed=len(orders),
        orders=len(orders),
        **counts,
        requested_micros=3 * MICRO * len(orders),
        filled_micros=sum(share for _, share, _, _ in fills),
        fills=len(fills),
        notional_micros=sum(notional for _, _, notional, _ in fills),
        fee_micros=sum(fee for _, _, _, fee in fills),
        slippage_micros=sum(
            one["side"].sign * (notional - theirs)
            for (one, _, notional, _), theirs in zip(fills, reference, strict=True)
        ),
        reference_micros=sum(reference),
        detection_p50_us=percentile(seen, 50),
        detection_p95_us=percentile(seen, 95),
        detection_p99_us=percentile(seen, 99),
        decision_p50_us=percentile(took, 50),
        decision_p95_us=percentile(took, 95),
        decision_p99_us=percentile(took, 99),
    )


async def store_history(session: Session, history: History) -> None:
    await stored(session, [recorded(one, "GROUPS", n) for n, one in enumerate(history.groups, 1)], NEEDED)
    await stored(session, [recorded(one, "EXECUTIONS", n) for n, one in enumerate(history.events, 1)], NEEDED)


@pytest.mark.parametrize("seed", range(4))
async def test_copy_metrics_equal_computed_ones(database: str, seed: int) -> None:
    history = History(random.Random(seed), 60)
    async with tables(database, NEEDED) as session:
        await store_history(session, history)
        found = await subscriber_metrics(session, "sam")
        assert found.copying == computed("", history.of[""])
        assert list(found.copying_by_influencer) == [computed(who, history.of[who]) for who in ("ann", "bob")]
        half = await subscriber_metrics(session, "sam", timestamp(at(0)), timestamp(at(30 * HOUR)))
        assert half.copying == computed("", history.of[""][:30])
        assert half.by_influencer == found.by_influencer, "profit is since the beginning"
        finished = found.copying.filled + found.copying.partial + found.copying.unfilled
        assert found.copying.fill_rate_micros == (finished - found.copying.unfilled) * MICRO // finished
        assert found.copying.partial_rate_micros == found.copying.partial * MICRO // finished
        unknown = await subscriber_metrics(session, "unknown")
        assert (unknown.copying, unknown.profit_micros) == (computed("", []), 0)


async def test_profit_is_split_by_influencer_and_adds_up(database: str) -> None:
    async with tables(database, NEEDED) as session:
        fills = [
            filled(BUY, 2 * MICRO, 200 * MICRO, influencer="ann", attempt="a1"),
            filled(SELL, 2 * MICRO, 220 * MICRO, influencer="bob", attempt="a2", fee_micros=5),
            filled(SELL, MICRO, 130 * MICRO, influencer="ann", attempt="a3"),
        ]
        timed = [structs.replace(fill, filled_at=at(n)) for n, fill in enumerate(fills)]
        await stored(session, [recorded(one, "EXECUTIONS", n) for n, one in enumerate(timed)], NEEDED)
        found = await subscriber_metrics(session, "sam")
        # Valued at the newest fill, 130: ann -200 + 130 + 130, bob 220 - 2 x 130 - 0.000005.
        assert {one.influencer_id: one.profit_micros for one in found.by_influencer} == {
            "ann": 60 * MICRO,
            "bob": -40 * MICRO - 5,
        }
        assert found.profit_micros == 20 * MICRO - 5


async def test_lists_of_decisions_with_their_orders_and_fills(database: str) -> None:
    history = History(random.Random(3), 40)
    async with tables(database, NEEDED) as session:
        await store_history(session, history)
        seen: list[str] = []
        after = None
        while page := await attempts_of_subscriber(session, "sam", after=after, limit=7):
            seen += [one.attempt_id for one in page]
            after = (page[-1].decided_at, page[-1].sequence)
        assert seen == [f"a{n}" for n in range(39, -1, -1)]
        assert [one.attempt_id for one in await attempts(session, limit=100)] == seen
        skipped = await attempts(session, decision="SKIP", limit=100)
        assert [one.attempt_id for one in skipped] == [
            f"a{n}" for n in range(39, -1, -1) if not history.of[""][n]["executed"]
        ]
        assert [one.attempt_id for one in await attempts_of_group(session, "g5")] == ["a5"]
        assert await attempts_of_group(session, "g5", after=10**6) == []
        for number, one in enumerate(history.of[""]):
            fills = await fills_of_attempt(session, f"a{number}")
            assert [(fill.share_micros, fill.notional_micros, fill.fee_micros) for fill in fills] == one["fills"]
            orders = await orders_of_attempt(session, f"a{number}")
            assert [order.status.lower() for order in orders] == ([one["status"]] if one["executed"] else [])
        placed = await orders_of_subscriber(session, "sam", limit=3)
        older = await orders_of_subscriber(session, "sam", before=placed[-1].submitted_at, limit=100)
        assert len(older) + 3 == sum(one["executed"] for one in history.of[""])
        assert all(order.submitted_at < placed[-1].submitted_at - timedelta(minutes=1) for order in older)
        whole = await attempt_whole(session, "a7")
        assert whole is not None
        assert (whole.attempt_id, whole.config_sequence, whole.scope, whole.checks) == ("a7", 7, "SUBSCRIBER", ())
        assert await attempt_whole(session, "nothing") is None
