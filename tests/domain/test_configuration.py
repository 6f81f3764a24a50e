"""Configuration (docs/design.md, configuration): who is followed, who copies whom, and under which policy."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.configuration import Configuration, Kind
from domain.events import (
    ControlChanged,
    ControlState,
    ControlTarget,
    Event,
    GuardrailConfigured,
    OnClose,
    Status,
    Venue,
)
from domain.guardrails import Policy, hash_of
from tests.domain.facts import ANN, BOB, at, configuration, influencer, subscription

THIRD = "0x" + "c" * 40


def guardrail(scope: str, **values: int) -> GuardrailConfigured:
    return GuardrailConfigured(scope=scope, values=values, actor="ops")


# --- addresses ---------------------------------------------------------------------------------------------


def test_an_active_influencer_is_followed_at_every_address() -> None:
    known = configuration(influencer("ann", ANN, THIRD), influencer("bob", BOB))
    assert known.followed(Venue.HYPERLIQUID) == {ANN: "ann", THIRD: "ann", BOB: "bob"}
    assert known.influencer_of(Venue.HYPERLIQUID, THIRD) == "ann"


def test_an_influencer_is_followed_only_on_its_venue() -> None:
    known = configuration(influencer("ann", ANN), influencer("eve", ANN, venue=Venue.POLYMARKET))
    assert known.followed(Venue.HYPERLIQUID) == {ANN: "ann"}
    assert known.followed(Venue.POLYMARKET) == {ANN: "eve"}


@pytest.mark.parametrize("status", Status)
def test_an_influencer_is_followed_whatever_its_status_because_its_exits_are_copied(status: Status) -> None:
    known = configuration(influencer(), influencer(status=status))
    assert known.followed(Venue.HYPERLIQUID) == {ANN: "ann"}


def test_an_influencer_that_was_closed_with_abandon_is_not_followed_and_comes_back() -> None:
    known = configuration(influencer(), influencer(status=Status.CLOSED, on_close=OnClose.ABANDON))
    assert known.followed(Venue.HYPERLIQUID) == {}
    known.evolve(influencer(on_close=OnClose.ABANDON), at(0))
    assert known.followed(Venue.HYPERLIQUID) == {ANN: "ann"}


def test_an_influencer_is_resumed_when_it_becomes_active_again() -> None:
    known = configuration(influencer())
    resumed = []
    for ms, status in enumerate(("active", "paused", "paused", "active", "active", "closed", "active")):
        known.evolve(influencer(status=Status(status)), at(ms))
        resumed.append(known.influencers_resumed_at.get("ann"))
    assert resumed == [None, None, None, at(3), at(3), at(3), at(6)]


def test_configuring_again_replaces_the_addresses() -> None:
    known = configuration(influencer("ann", ANN, BOB), influencer("ann", BOB, THIRD))
    assert known.followed(Venue.HYPERLIQUID) == {BOB: "ann", THIRD: "ann"}
    assert known.influencer_of(Venue.HYPERLIQUID, ANN) is None


def test_an_address_may_go_from_one_influencer_to_another_in_either_order() -> None:
    before = (influencer("ann", ANN, THIRD), influencer("bob", BOB))
    gives, takes = influencer("ann", ANN), influencer("bob", BOB, THIRD)
    expected = {ANN: "ann", BOB: "bob", THIRD: "bob"}
    assert configuration(*before, gives, takes).followed(Venue.HYPERLIQUID) == expected
    assert configuration(*before, takes, gives).followed(Venue.HYPERLIQUID) == expected


def test_two_influencers_may_swap_addresses() -> None:
    known = configuration(
        influencer("ann", ANN), influencer("bob", BOB), influencer("ann", BOB), influencer("bob", ANN)
    )
    assert known.followed(Venue.HYPERLIQUID) == {ANN: "bob", BOB: "ann"}


# --- subscriptions -----------------------------------------------------------------------------------------


def ids(known_to: str, *events: Event) -> list[str]:
    return [found.id for found in configuration(*events).subscriptions_of(known_to)]


def test_subscriptions_are_found_by_influencer_in_the_order_they_came() -> None:
    events = (subscription("b"), subscription("a"), subscription("c", influencer="bob"), subscription("b"))
    assert ids("ann", *events) == ["b", "a"]
    assert ids("bob", *events) == ["c"]
    assert ids("zoe", *events) == []


def test_a_moved_subscription_leaves_its_former_influencer() -> None:
    events = (subscription("a"), subscription("b"), subscription("a", influencer="bob"))
    assert ids("ann", *events) == ["b"]
    assert ids("bob", *events) == ["a"]


def test_inactive_subscriptions_are_found_too() -> None:
    assert ids("ann", subscription("a", status=Status.PAUSED)) == ["a"]


def test_a_subscription_is_active_since_it_began_and_resumed_when_it_last_became_active() -> None:
    known = configuration()
    since, resumed = [], []
    for ms, status in enumerate(("active", "active", "paused", "active", "closed", "paused", "active")):
        known.evolve(subscription(status=Status(status)), at(ms))
        since.append(known.active_since.get("sam-ann"))
        resumed.append(known.resumed_at["sam-ann"])
    assert since == [at(0)] * 7, "what was closed may still hold copies"
    assert resumed == [at(0), at(0), at(0), at(3), at(3), at(3), at(6)]


def test_a_subscription_that_was_closed_with_abandon_begins_again() -> None:
    known = configuration(subscription(), ms=0)
    known.evolve(subscription(status=Status.CLOSED, on_close=OnClose.ABANDON), at(1))
    assert known.active_since == {}
    known.evolve(subscription(), at(2))
    assert known.active_since["sam-ann"] == known.resumed_at["sam-ann"] == at(2)


def test_a_subscription_that_was_never_active_has_no_since() -> None:
    assert configuration(subscription(status=Status.PAUSED)).active_since == {}


def test_a_moved_subscription_is_new_to_its_influencer() -> None:
    known = configuration(subscription(), ms=0)
    known.evolve(subscription(influencer="bob"), at(5))
    assert known.active_since["sam-ann"] == at(5)


def test_a_moved_subscription_comes_last_among_all() -> None:
    """So that a copy of the subscriptions, made in their order, finds those of each influencer in the same order."""
    events = (subscription("a"), subscription("b", influencer="bob"), subscription("a", influencer="bob"))
    assert list(configuration(*events).subscriptions) == ids("bob", *events) == ["b", "a"]


# --- kinds -------------------------------------------------------------------------------------------------


def test_only_the_kinds_that_are_kept_are_folded_and_the_others_cannot_be_asked_for() -> None:
    known = Configuration({Kind.INFLUENCER})
    for event in (influencer(), subscription(), guardrail("global", spread_bps=1)):
        known.evolve(event, at(0))
    assert known.followed(Venue.HYPERLIQUID) == {ANN: "ann"}
    questions: list[Callable[[], object]] = [
        lambda: known.subscriptions["sam-ann"],
        lambda: known.subscribers.get("sam"),
        lambda: "global" in known.guardrails,
        lambda: list(known.policies),
        lambda: len(known.subscriptions),
        lambda: known.policy_of(subscription()),
        lambda: known.subscriber_policy("sam"),
        lambda: known.controls.engine(1),
    ]
    for question in questions:
        with pytest.raises(LookupError, match="this configuration keeps no"):
            question()


def test_subscriptions_are_folded_without_the_influencers_and_subscribers_that_they_name() -> None:
    known = Configuration({Kind.SUBSCRIPTION})
    for event in (influencer(), subscription()):
        known.evolve(event, at(0))
    assert [one.id for one in known.subscriptions_of("ann")] == ["sam-ann"]


def test_what_entries_have_in_common_is_one_object() -> None:
    known = configuration(
        *(influencer(name, f"0x{number:040}") for number, name in enumerate(("ann", "bob"))),
        *(subscription(f"sam-{name}", influencer=name, limits={"spread_bps": 3}) for name in ("ann", "bob")),
    )
    one, other = known.subscriptions.values()
    assert one.limits is other.limits
    assert one.sizing is other.sizing
    assert one.filters is other.filters
    assert one.influencer_id is known.influencers["ann"].id


# --- policies ----------------------------------------------------------------------------------------------


LAYERS = (
    guardrail("global", spread_bps=1, mid_price_bps=1, latency_ms=1, latency_jitter_ms=1),
    guardrail("influencer:ann", spread_bps=2, mid_price_bps=2, latency_ms=2),
    guardrail("subscriber:sam", spread_bps=3, mid_price_bps=3),
    guardrail("influencer:bob", spread_bps=9, depth_ratio_micros=9),
    guardrail("subscriber:eve", spread_bps=9, depth_ratio_micros=9),
)


def test_policy_is_default_then_global_then_influencer_then_subscriber_then_subscription() -> None:
    known = configuration(*LAYERS)
    expected = Policy(spread_bps=4, mid_price_bps=3, latency_ms=2, latency_jitter_ms=1)
    assert known.policy_of(subscription(limits={"spread_bps": 4})) == (hash_of(expected), expected)


@pytest.mark.parametrize("order", list(itertools.permutations(LAYERS[:3])))
def test_policy_precedence_is_not_the_order_in_which_layers_came(order: tuple[Event, ...]) -> None:
    expected = Policy(spread_bps=3, mid_price_bps=3, latency_ms=2, latency_jitter_ms=1)
    assert configuration(*order).policy_of(subscription())[1] == expected


def test_policy_of_quotes_is_the_influencers_and_of_breakers_the_subscribers() -> None:
    known = configuration(*LAYERS)
    assert known.influencer_policy("ann") == Policy(spread_bps=2, mid_price_bps=2, latency_ms=2, latency_jitter_ms=1)
    assert known.subscriber_policy("sam") == Policy(spread_bps=3, mid_price_bps=3, latency_ms=1, latency_jitter_ms=1)
    of_all = Policy(spread_bps=1, mid_price_bps=1, latency_ms=1, latency_jitter_ms=1)
    assert known.influencer_policy("zoe") == known.subscriber_policy("zoe") == of_all


def test_policy_of_a_subscriber_follows_its_guardrails() -> None:
    known = configuration(guardrail("global", spread_bps=1))
    assert known.subscriber_policy("sam") == Policy(spread_bps=1)
    known.evolve(guardrail("subscriber:sam", drawdown_micros=5), at(0))
    assert known.subscriber_policy("sam") == Policy(spread_bps=1, drawdown_micros=5)
    known.evolve(guardrail("global", spread_bps=2), at(0))
    assert known.subscriber_policy("sam") == Policy(spread_bps=2, drawdown_micros=5)
    assert known.subscriber_policy("eve") == Policy(spread_bps=2)


def test_policy_of_a_subscriber_with_its_own_guardrails_is_not_that_of_others() -> None:
    known = configuration(guardrail("subscriber:sam", spread_bps=7))
    assert known.policy_of(subscription())[1] == Policy(spread_bps=7)
    assert known.policy_of(subscription("eve-ann", subscriber="eve"))[1] == Policy()


def test_policy_of_equal_layers_are_evaluated_once() -> None:
    known = configuration()
    one = known.policy_of(subscription("a", limits={"spread_bps": 3, "latency_ms": 1}))
    other = known.policy_of(subscription("b", limits={"latency_ms": 1, "spread_bps": 3}))
    assert one is other


def test_policy_changes_with_a_guardrail_for_those_that_were_evaluated_already() -> None:
    known = configuration(guardrail("global", spread_bps=1), guardrail("influencer:ann", latency_ms=1))
    assert known.policy_of(subscription())[1] == Policy(spread_bps=1, latency_ms=1)
    known.evolve(guardrail("global", spread_bps=5), at(0))
    assert known.policy_of(subscription())[1] == Policy(spread_bps=5, latency_ms=1)
    known.evolve(guardrail("influencer:ann", mid_price_bps=7), at(0))
    assert known.policy_of(subscription())[1] == Policy(spread_bps=5, mid_price_bps=7), "the scope is set as a whole"


def test_policy_changes_with_the_limits_of_its_subscription() -> None:
    known = configuration()
    before, _ = known.policy_of(subscription())
    assert known.policy_of(subscription(limits={"spread_bps": 3}))[0] != before


def test_controls_of_config_are_folded_under_their_sequence() -> None:
    known = configuration()
    paused = ControlChanged(
        target=ControlTarget.ENGINE, id="", state=ControlState.PAUSED, actor="ops", note="maintenance"
    )
    known.evolve(paused, at(0), 12)
    assert [known.controls.engine(sequence) for sequence in (11, 12)] == [ControlState.RUNNING, ControlState.PAUSED]


# --- the indexes -------------------------------------------------------------------------------------------

NAMES = ("ann", "bob", "eve")

files = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from([ANN, BOB, THIRD]), st.sampled_from(NAMES), min_size=1),
        st.lists(st.sampled_from(Status), min_size=3, max_size=3),
        st.permutations(NAMES),
    ),
    max_size=6,
)


@given_any(files)
def test_every_address_follows_its_owner_whatever_the_order_of_the_lines(
    configured: list[tuple[dict[str, str], list[Status], list[str]]],
) -> None:
    """Each file gives every influencer its addresses anew, and no address to two of them."""
    known = configuration()
    for owner, statuses, order in configured:
        status = dict(zip(NAMES, statuses, strict=True))
        for who in order:
            addresses = [address for address, of in owner.items() if of == who]
            own = addresses or [f"0x{NAMES.index(who):040}"]
            known.evolve(influencer(who, *own, status=status[who], on_close=OnClose.ABANDON), at(0))
        followed = known.followed(Venue.HYPERLIQUID)
        expected = {address: who for address, who in owner.items() if status[who] is not Status.CLOSED}
        assert {address: who for address, who in followed.items() if address in (ANN, BOB, THIRD)} == expected
        assert all(status[who] is not Status.CLOSED for who in followed.values())


subscriptions = st.builds(
    lambda id, of, status: subscription(id, influencer=of, status=status),
    st.sampled_from(["a", "b"]),
    st.sampled_from(NAMES),
    st.sampled_from(Status),
)


@given_any(st.lists(subscriptions, max_size=12))
def test_every_subscription_is_found_at_its_influencer_only(configured: list[Event]) -> None:
    known = configuration(*configured)
    for who in NAMES:
        found = {one.id for one in known.subscriptions_of(who)}
        assert found == {one.id for one in known.subscriptions.values() if one.influencer_id == who}
