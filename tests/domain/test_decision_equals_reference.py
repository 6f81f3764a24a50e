"""Deciding per group and finishing per subscriber, with running sums and prefix sums, decides what the straight
reference decides, in every field."""

from collections import Counter
from random import Random

import pytest
from msgspec.structs import asdict, replace

from domain import exits
from domain.decision import Assessments
from domain.events import Action, CopyDecided, Decision, ExecutionCompleted, Venue
from domain.mark_prices import Mark
from domain.micros import MICRO
from domain.paper_execution import fill_on_paper
from domain.portfolio import Portfolio, evolve, part_of
from domain.reason_codes import Reason
from tests.domain import random_groups
from tests.domain.facts import at, inputs
from tests.domain.portfolio_specs import mark_captured, marked
from tests.domain.reference.decision import decide as straight

SEEDS = range(8)
GROUPS = 500
MADE: list[CopyDecided] = []
HELD = (("hyperliquid", "BTC"), ("hyperliquid", "ETH"), ("polymarket", "yes"), ("polymarket", "7"))


def compare(random: Random) -> None:
    """One portfolio meets a few groups; each has requests of several policies, which share what they can."""
    portfolio = Portfolio()
    for event in random_groups.history(random):
        evolve(portfolio, event)
    marks = marked({HELD[0]: Mark(1, 100 * MICRO + random.randrange(9), at(-4_000))} if random.random() < 0.5 else {})
    policies = [random_groups.policy(random) for _ in range(2)]
    number = 0
    for round_ in range(random.choice([1, 2, 3, 5])):
        if random.random() < 0.5:
            asset = random.choice(HELD)
            price = random.randrange(80, 120) * (MICRO if asset[0] == "hyperliquid" else 5_000) + random.randrange(7)
            marks.evolve(mark_captured(asset, price, at(random.choice([-4_500, 0, 5_000]))), marks.sequence + 1)
        group, switches = random_groups.group(random), random_groups.switches(random)
        owed = random.choice(list(portfolio.exits.values())) if portfolio.exits and random.random() < 0.7 else None
        if owed is not None:
            group = random_groups.tried(random, owed)
        saw = inputs(marks=marks, marks_sequence=marks.sequence, **switches)
        now = at(1_000 * (round_ + 1))
        assessments = Assessments(group, saw, now)
        for _ in range(3):
            number += 1
            asked = random_groups.asked(random, group, number, random.choice(policies))
            if owed is not None and random.random() < 0.8:
                asked = asked._replace(request=replace(asked.request, subscription_id=owed.subscription_id))
            before = portfolio.exits.get((asked.request.subscription_id, (group.venue.value, group.asset)))
            made = assessments.decide(portfolio, asked.request, asked.policy, asked.disabled)
            expected = straight(portfolio, asked.request, asked.policy, saw._replace(disabled=asked.disabled), now=now)
            assert asdict(made) == asdict(expected), asked
            MADE.append(made)
            evolve(portfolio, made)
            if made.decision is Decision.EXECUTE:
                part = part_of(portfolio, made.subscription_id, (made.venue.value, made.asset))
                position = portfolio.holdings[made.venue.value, made.asset].position
                for event in fill_on_paper(made, position, part.share_micros, asked.policy, now=now):
                    if isinstance(event, ExecutionCompleted) and random.random() < 0.1:
                        break  # stays pending
                    evolve(portfolio, event)
            for change in exits.follow(made, asked.request, before, asked.policy, now=now):
                evolve(portfolio, change)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_field_is_that_of_the_reference(seed: int) -> None:
    random = Random(seed)
    for _ in range(GROUPS):
        compare(random)


OF_LIVE_ORDERS = {
    Reason.ORDER_EXPIRED,
    Reason.ORDER_REFUSED,
    Reason.ORDER_INVALID,
    Reason.INSUFFICIENT_MARGIN,
    Reason.POSITION_DIFFERS,
    Reason.REQUESTS_EXHAUSTED,
    Reason.AGENT_UNUSABLE,
}


def test_the_decisions_above_are_of_all_kinds() -> None:
    if len(MADE) < GROUPS * len(SEEDS):
        pytest.skip("not all of them ran in this selection")
    executed = Counter((one.venue, one.action) for one in MADE if one.decision is Decision.EXECUTE)
    both = {Action.OPEN, Action.INCREASE, Action.DECREASE, Action.CLOSE}
    assert set(executed) >= {(venue, action) for venue in Venue for action in both} | {(Venue.HYPERLIQUID, Action.FLIP)}
    assert min(executed.values()) > 20
    never = {Reason.PARTIAL_FILL, Reason.REDUCED_TO_POSITION, Reason.BOOK_CROSSED, Reason.BOOK_INVALID}
    never |= {Reason.UNKNOWN_ASSET, Reason.INFLUENCER_DISABLED, Reason.DROPPED, *OF_LIVE_ORDERS}
    assert set(Reason) - {reason for one in MADE for reason in one.reasons} == never
    assert sum(1 for one in MADE if one.residual_micros or one.residual_share_micros) > 100
    assert sum(1 for one in MADE if one.reserved_micros) > 100
    assert sum(1 for one in MADE if one.exit_try and one.decision is Decision.EXECUTE) > 100
    assert sum(1 for one in MADE if one.kept_micros) > 3
