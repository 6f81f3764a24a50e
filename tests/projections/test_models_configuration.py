"""influencer, subscriber, subscription, guardrail, control and audit_log: the current configuration, and who changed
it."""

from typing import Any

import pytest
from msgspec import Struct, structs

from domain.events import (
    ControlChanged,
    ControlState,
    ControlTarget,
    GuardrailConfigured,
    ImportActivated,
    PolicyMaterialized,
    PortfolioScope,
    Status,
)
from projections.engine.projection import Projection
from projections.engine.table import timestamp
from projections.models.audit_log import AuditLog
from projections.models.guardrail import Guardrails
from projections.models.influencer import Influencers
from projections.models.influencer_metrics import InfluencerMetrics
from projections.models.ledger_entry import LedgerEntries
from projections.models.subscriber import Subscribers
from projections.models.subscription import Subscriptions
from projections.queries.influencers import influencers
from projections.queries.subscribers import subscriber, subscribers, subscriptions
from projections.queries.system import audit_log
from tests.domain.facts import at, bought, influencer
from tests.domain.facts import subscriber as subscribed
from tests.domain.facts import subscription as subscription_of
from tests.projections.model_tables import CODEC, Session, recorded, stored, tables

NEEDED: tuple[Projection, ...] = (
    Influencers(),
    Subscribers(),
    Subscriptions(),
    Guardrails(),
    AuditLog(),
    InfluencerMetrics(),
    LedgerEntries(),
)


async def configured(session: Session, *events: Struct, first: int = 1) -> None:
    """Store configuration events, each recorded a second after the one before."""
    await stored(
        session,
        [recorded(event, "CONFIG", number, at=at(1000 * number)) for number, event in enumerate(events, first)],
        NEEDED,
    )


def switched(target: ControlTarget, id: str, state: ControlState) -> ControlChanged:
    return ControlChanged(target=target, id=id, state=state, actor="ops", note="why")


async def test_the_newest_configuration_is_shown(database: str) -> None:
    async with tables(database, NEEDED) as session:
        await configured(
            session,
            influencer("ann"),
            influencer("bob", status=Status.PAUSED),
            subscribed("sam"),
            subscription_of("sam-ann"),
            subscription_of("sam-bob", influencer="bob"),
        )
        await configured(
            session,
            structs.replace(influencer("ann"), label="Ann the second"),
            subscription_of("sam-ann", status=Status.CLOSED),
            switched(ControlTarget.INFLUENCER, "bob", ControlState.DISABLED),
            switched(ControlTarget.SUBSCRIBER, "sam", ControlState.DISABLED),
            first=6,
        )
        found = {one.influencer_id: one for one in await influencers(session)}
        assert found["ann"].label == "Ann the second"
        assert (found["ann"].subscribers, found["ann"].since, found["ann"].control) == (
            0,
            timestamp(at(6000)),
            "enabled",
        )
        assert (found["bob"].subscribers, found["bob"].status, found["bob"].control) == (1, "paused", "disabled")
        assert found["ann"].addresses == influencer("ann").addresses
        sam = await subscriber(session, "sam")
        assert sam is not None
        assert (sam.subscriptions, sam.control, sam.cash_micros, sam.since) == (1, "disabled", 0, timestamp(at(3000)))
        await configured(session, switched(ControlTarget.SUBSCRIBER, "sam", ControlState.ENABLED), first=10)
        sam = await subscriber(session, "sam")
        assert sam is not None
        assert sam.control == "enabled"
        assert await subscriber(session, "unknown") is None


async def test_influencers_are_sorted_by_copied_volume(database: str) -> None:
    async with tables(database, NEEDED) as session:
        await configured(session, *(influencer(id) for id in ("ann", "bob", "cat")))
        fills = [bought("BTC", "1", price, attempt=who, influencer=who) for who, price in (("bob", "7"), ("cat", "9"))]
        await stored(session, [recorded(fill, "EXECUTIONS", n) for n, fill in enumerate(fills)], NEEDED)
        assert [one.influencer_id for one in await influencers(session)] == ["cat", "bob", "ann"]


async def test_pages_of_subscribers_and_subscriptions(database: str) -> None:
    async with tables(database, NEEDED) as session:
        subscriber_ids = [f"s{number:02}" for number in range(7)]
        await configured(
            session,
            *map(subscribed, subscriber_ids),
            structs.replace(subscribed("exec"), scope=PortfolioScope.EXEC_USER),
            *(subscription_of(f"{who}-ann", subscriber=who) for who in subscriber_ids),
            subscription_of("s00-bob", subscriber="s00", influencer="bob"),
        )
        seen: list[str] = []
        while page := await subscribers(session, after=seen[-1] if seen else "", limit=3):
            seen += [one.subscriber_id for one in page]
        assert seen == subscriber_ids
        assert [one.subscriber_id for one in await subscribers(session, scope="EXEC_USER")] == ["exec"]
        first = await subscriptions(session, influencer_id="ann", limit=5)
        rest = await subscriptions(session, influencer_id="ann", after=first[-1].subscription_id, limit=5)
        assert [one.subscriber_id for one in (*first, *rest)] == subscriber_ids
        assert [one.influencer_id for one in await subscriptions(session, subscriber_id="s00")] == ["ann", "bob"]
        assert first[0].sizing_mode == "fixed_notional"
        assert first[0].filters["sides"] == []


async def test_every_change_is_in_the_audit_log(database: str) -> None:
    guardrail = GuardrailConfigured(scope="global", values={"spread_bps": 20}, actor="ops")
    events: list[tuple[Any, str]] = [
        (influencer("ann"), "ann"),
        (guardrail, "global"),
        (PolicyMaterialized(hash="abc", values={"spread_bps": 20}), "abc"),
        (switched(ControlTarget.MARKET, "DOGE", ControlState.DISABLED), "market:DOGE"),
        (switched(ControlTarget.ENGINE, "", ControlState.PAUSED), "engine"),
        (subscription_of("sam-ann"), "sam-ann"),
        (influencer("ann", status=Status.CLOSED), "ann"),
    ]
    async with tables(database, NEEDED) as session:
        await configured(session, *(event for event, _ in events))
        lines = await audit_log(session, limit=100)
        assert [(line.sequence, line.target_id) for line in lines] == [
            (number, target) for number, (_, target) in reversed(list(enumerate(events, 1)))
        ]
        assert [line.sequence for line in await audit_log(session, target_id="ann")] == [7, 1]
        assert [line.sequence for line in await audit_log(session, before=4, limit=2)] == [3, 2]
        by_sequence = {line.sequence: line for line in lines}
        assert by_sequence[2].event == {"scope": "global", "values": {"spread_bps": 20}, "actor": "ops"}
        assert (by_sequence[2].actor, by_sequence[2].kind) == ("ops", "guardrail.configured")
        assert by_sequence[3].actor == ""
        assert by_sequence[1].recorded_at == timestamp(at(1000))
        state = await session.fetchrow("SELECT state, actor, note FROM control WHERE target = 'engine'")
        assert tuple(state or ()) == ("paused", "ops", "why")
        limits = await session.fetchval("SELECT limits::text FROM policy WHERE policy_hash = 'abc'")
        assert limits == '{"spread_bps": 20}'


@pytest.mark.parametrize("second", ["closed", "active"])
async def test_a_status_is_that_of_the_newest_event(database: str, second: str) -> None:
    async with tables(database, NEEDED) as session:
        await configured(session, influencer("ann"), influencer("ann", status=Status(second)))
        (found,) = await influencers(session)
        assert (found.status, found.since) == (second, timestamp(at(2000)))


async def test_every_line_of_a_large_import_is_in_the_audit_log_and_can_be_paged(database: str) -> None:
    events: list[tuple[str, Struct]] = [(f"e{number}", subscribed(f"s{number}")) for number in range(3)]
    events.append(("imp_1", ImportActivated(import_id="imp_1", events=3, actor="ops")))
    payload = CODEC.encode_commit(events, source="tests", time_ns=at(0))
    async with tables(database, NEEDED) as session:
        await stored(session, CODEC.decode("CONFIG", 7, "config.import.imp_1", payload), NEEDED)
        lines = await audit_log(session)
        assert [(line.sequence, line.index, line.target_id) for line in lines] == [
            (7, 3, "imp_1"),
            (7, 2, "s2"),
            (7, 1, "s1"),
            (7, 0, "s0"),
        ]
        assert [line.target_id for line in await audit_log(session, before=7, before_index=2)] == ["s1", "s0"]
        assert await audit_log(session, before=7) == []
        assert {line.subscriber_id for line in await subscribers(session)} == {"s0", "s1", "s2"}
