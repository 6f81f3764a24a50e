"""Whatever happened to a copy: once prices are available and time has passed, it is flat where the influencer is flat.

Histories are drawn: an influencer that opens, trims, closes and flips, moves that are found later as gaps, books that
are missing, far away or thin, pauses, and restarts that fold everything again.
"""

from typing import NamedTuple

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st
from msgspec import structs

from domain.decision_inputs import DecisionInputs
from domain.events import ControlState, ExecutionRequested, GroupCause, Level, TradeSide
from domain.guardrails import Policy
from domain.micros import decimal_text, micros
from domain.reason_codes import Reason
from tests.domain.exit_specs import Copy, again
from tests.domain.facts import at, fixed, inputs, levels, requested

BIDS, ASKS = levels("99.95 x 50", "99.9 x 50"), levels("100.05 x 50", "100.1 x 50")
BOOKS: dict[str, tuple[tuple[Level, ...], tuple[Level, ...]]] = {
    "near": (BIDS, ASKS),
    "fallen": (levels("95 x 50"), levels("95.1 x 50")),
    "risen": (levels("112 x 50"), levels("112.1 x 50")),
    "wide": (levels("90 x 50"), levels("110 x 50")),
    "thin": (levels("99.95 x 0.0503", "80 x 1"), levels("100.05 x 0.0503", "120 x 1")),
    "below a lot": (levels("99.95 x 0.0004", "80 x 50"), levels("100.05 x 0.0004", "120 x 50")),
}


class Step(NamedTuple):
    """The influencer's position afterwards (None: it does nothing), how it is found, the book, and the time before."""

    after: str | None
    gap: bool
    book: str | None
    paused: bool
    restarts: bool
    seconds: int


steps = st.builds(
    Step,
    after=st.sampled_from(["0", "0", "0.02", "0.5", "1", "1.5", "-0.5", "-1", None, None]),
    gap=st.booleans(),
    book=st.sampled_from([*BOOKS, None]),
    paused=st.sampled_from([False, False, False, True]),
    restarts=st.booleans(),
    seconds=st.integers(0, 70),
)
policies = st.sampled_from(
    [
        Policy(max_signal_age_ms=10**9),
        Policy(accumulate=0),
        Policy(exits_while_paused=1),
        Policy(exit_widening=0),
        Policy(reduction_band_micros=3_000_000, min_notional_micros=micros("20")),
    ]
)


class World:
    """Ann trades, Sam copies her, the clock runs."""

    def __init__(self, policy: Policy) -> None:
        self.copy = Copy(policy=policy)
        self.position = "0"
        self.ms = 0
        self.paused_until = -1
        self.decisions = 0

    def takes(self, step: Step) -> None:
        self.ms += step.seconds * 1_000 + 1
        paused = step.paused
        if paused:
            self.paused_until = self.ms
        if step.restarts:
            self.copy.restart()
        self.tries(step.book, paused=paused)
        if step.after is not None and step.after != self.position:
            self.trades(step, paused=paused)
        self.holds_what_it_owes()

    def trades(self, step: Step, *, paused: bool) -> None:
        assert step.after is not None
        before, after = self.position, step.after
        self.position = after
        one, other = micros(before), micros(after)
        if step.gap:  # what is found later reduces and never opens
            if one * other < 0:
                after = "0"
            elif abs(other) > abs(one):
                return
        request = booked(requested(before=before, after=after, sizing=fixed("60")), step.book)
        request = structs.replace(request, event_time=at(self.ms), detect_time=at(self.ms))
        if step.gap:
            request = structs.replace(request, cause=GroupCause.GAP, price_micros=0, notional_micros=0)
        self.decides(request, paused=paused)

    def tries(self, book: str | None, *, paused: bool) -> None:
        """The try that is due, if one is."""
        for owed in list(self.copy.portfolio.exits.values()):
            if owed.due_at <= at(self.ms):
                self.decides(booked(again(owed), book), paused=paused)

    def decides(self, request: ExecutionRequested, *, paused: bool) -> None:
        self.decisions += 1
        request = structs.replace(request, group_id=f"grp-{self.decisions}")
        stopped = paused or (request.detect_time <= at(self.paused_until))
        saw: DecisionInputs = inputs(engine=ControlState.PAUSED if paused else ControlState.RUNNING, stopped=stopped)
        self.copy.decides(request, ms=self.ms, inputs=saw)

    def holds_what_it_owes(self) -> None:
        for owed in self.copy.portfolio.exits.values():
            held = -owed.trade_side.sign * self.copy.held_micros
            assert 0 < owed.share_micros <= held, "a copy owes no more than it holds"


def booked(request: ExecutionRequested, book: str | None) -> ExecutionRequested:
    """The request with one of the books."""
    if book is None:
        return structs.replace(request, quote=None, quote_reason=Reason.NO_QUOTE)
    assert request.quote is not None
    bids, asks = BOOKS[book]
    taken = asks if request.trade_side is TradeSide.BUY else bids
    quote = structs.replace(request.quote, bid_micros=bids[0][0], ask_micros=asks[0][0], levels=taken)
    return structs.replace(request, quote=quote)


@settings(max_examples=400)
@given_any(st.lists(steps, max_size=14), policies, st.sampled_from([*BOOKS, None]), st.booleans())
def test_a_copy_is_flat_where_the_influencer_is_flat(
    history: list[Step], policy: Policy, last: str | None, gap: bool
) -> None:
    world = World(policy)
    for step in history:
        world.takes(step)
    world.takes(Step("0", gap, last, paused=False, restarts=True, seconds=1))
    for _ in range(20):  # prices are available, and time passes
        world.takes(Step(None, False, "near", paused=False, restarts=False, seconds=61))
    assert world.copy.portfolio.exits == {}
    assert world.copy.held_micros == 0


@settings(max_examples=200)
@given_any(st.lists(steps, max_size=14), st.sampled_from(["fallen", "risen", "wide"]))
def test_with_a_widening_band_it_is_flat_wherever_the_price_went(history: list[Step], book: str) -> None:
    world = World(Policy())
    for step in history:
        world.takes(step)
    world.takes(Step("0", False, book, paused=False, restarts=False, seconds=1))
    for _ in range(20):
        world.takes(Step(None, False, book, paused=False, restarts=False, seconds=61))
    assert (world.copy.portfolio.exits, world.copy.held_micros) == ({}, 0)


def test_the_histories_open_close_owe_and_try() -> None:
    """The world above does what it is for: something is held, refused, owed and tried."""
    world = World(Policy())
    world.takes(Step("1", False, "near", paused=False, restarts=False, seconds=1))
    assert world.copy.held_micros == micros("0.599")
    world.takes(Step("0", False, "fallen", paused=False, restarts=False, seconds=1))
    assert world.copy.owed.share_micros == micros("0.599")
    world.takes(Step(None, False, "near", paused=False, restarts=True, seconds=1))
    assert (world.copy.held_micros, world.copy.portfolio.exits) == (0, {})


@pytest.mark.parametrize("after", ["0.5", "0"])
def test_a_gap_that_is_found_later_reduces(after: str) -> None:
    world = World(Policy())
    world.takes(Step("1", False, "near", paused=False, restarts=False, seconds=1))
    world.takes(Step(after, True, "near", paused=False, restarts=False, seconds=1))
    assert decimal_text(world.copy.held_micros) == {"0.5": "0.3", "0": "0"}[after]
