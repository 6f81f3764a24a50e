"""Default portfolios (docs/design.md, default portfolios): EXEC_USER and EXEC_GLOBAL, created with an influencer."""

from msgspec import structs

from domain.configuration import Configuration
from domain.default_portfolios import EXEC_GLOBAL, exec_user, wanted
from domain.events import (
    Event,
    Filters,
    InfluencerConfigured,
    Mode,
    PortfolioScope,
    Sizing,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
)
from domain.guardrails import Policy
from domain.micros import micros
from tests.domain.facts import BOB, at, configuration, influencer, subscriber

BANKROLL = micros("100000")


def enabling(known: Configuration, *influencers: InfluencerConfigured) -> list[Event]:
    """What is missing after each influencer was enabled, one after the other."""
    found: list[Event] = []
    for one in influencers:
        for event in list(wanted(known, one, BANKROLL)):
            known.evolve(event, at(0))
            found.append(event)
    return found


def paper(id: str, scope: PortfolioScope) -> SubscriberConfigured:
    return SubscriberConfigured(
        id=id, mode=Mode.PAPER, deposit_micros=BANKROLL, status=Status.ACTIVE, actor="ops", scope=scope
    )


def one_percent(id: str, subscriber_id: str, influencer_id: str) -> SubscriptionConfigured:
    return SubscriptionConfigured(
        id=id,
        subscriber_id=subscriber_id,
        influencer_id=influencer_id,
        sizing=Sizing("copy_percent", percent_micros=micros("1")),
        limits={},
        filters=Filters(),
        status=Status.ACTIVE,
        actor="ops",
    )


def test_portfolios_of_an_enabled_influencer_are_its_own_and_a_part_of_everyones() -> None:
    assert enabling(configuration(), influencer()) == [
        paper("exec-user:ann", PortfolioScope.EXEC_USER),
        one_percent("exec-user:ann", "exec-user:ann", "ann"),
        paper("exec-global", PortfolioScope.EXEC_GLOBAL),
        one_percent("exec-global/ann", "exec-global", "ann"),
    ]


def test_portfolios_of_everyone_exist_once_with_a_subscription_to_each() -> None:
    known = configuration()
    events = enabling(known, influencer(), influencer("bob", BOB))
    everyones = [event for event in events if isinstance(event, SubscriberConfigured) and event.id == EXEC_GLOBAL]
    assert len(everyones) == 1
    assert [one.id for who in ("ann", "bob") for one in known.subscriptions_of(who)] == [
        exec_user("ann"),
        "exec-global/ann",
        exec_user("bob"),
        "exec-global/bob",
    ]
    assert {known.policy_of(one)[1] for one in known.subscriptions.values()} == {Policy()}


def test_portfolios_that_are_there_already_are_not_made_again() -> None:
    known = configuration()
    enabling(known, influencer())
    assert enabling(known, influencer()) == []


def test_portfolios_that_were_configured_otherwise_stay_as_they_are() -> None:
    known = configuration()
    enabling(known, influencer())
    richer = structs.replace(known.subscribers["exec-user:ann"], deposit_micros=1)
    paused = structs.replace(known.subscriptions["exec-global/ann"], status=Status.PAUSED)
    for event in (richer, paused):
        known.evolve(event, at(1))
    assert enabling(known, influencer()) == []
    assert known.subscribers["exec-user:ann"] == richer
    assert known.subscriptions["exec-global/ann"] == paused


def test_portfolios_only_what_is_missing_is_made() -> None:
    known = configuration(subscriber("exec-user:ann"))
    assert enabling(known, influencer()) == [
        one_percent("exec-user:ann", "exec-user:ann", "ann"),
        paper("exec-global", PortfolioScope.EXEC_GLOBAL),
        one_percent("exec-global/ann", "exec-global", "ann"),
    ]


def test_portfolios_of_an_influencer_who_is_not_enabled_are_not_made() -> None:
    for status in (Status.PAUSED, Status.CLOSED):
        assert enabling(configuration(), influencer(status=status)) == []
