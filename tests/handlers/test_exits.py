"""EXECUTIONS -> GROUPS, as a fold with effects: what copies owe is scheduled, tried in rounds, held in a pause."""

import asyncio
from typing import Any

import pytest
from msgspec import structs

from domain.events import (
    Action,
    ControlChanged,
    ControlState,
    ControlTarget,
    DueExit,
    ExitCancelled,
    ExitDue,
    ExitEnd,
    ExitEnded,
    ExitOwed,
    ExitScheduled,
    ExitTry,
    TradeSide,
    Venue,
)
from domain.reason_codes import Reason
from domain.requests import put_together
from gateways.venue_errors import VenueUnavailableError, WireError
from gateways.venue_types import Book
from handlers.exits import LARGEST_ROUND, Exits
from handlers.live.configuration import LiveConfiguration
from handlers.match import Match
from streams import subjects
from tests.handlers.folding import LINES, NOW, SECOND, Folding, configured
from tests.handlers.test_quote import TERMS, FakeBooks, requesting
from tests.streams.examples import example

BOOK = Book(NOW - 5, ((99, 1), (98, 2)), ((101, 3),))
OWED = example(
    ExitOwed,
    exit_id="exi-1",
    subscription_id="ann-alice",
    subscriber_id="ann",
    influencer_id="alice",
    group_id="g1",
    attempt_id="att-1",
    venue=Venue.HYPERLIQUID,
    asset="BTC",
    market="BTC",
    action=Action.CLOSE,
    trade_side=TradeSide.SELL,
    tries=0,
    due_at=NOW,
    while_paused=False,
)
ENDED = example(
    ExitEnded,
    exit_id="exi-1",
    subscription_id="ann-alice",
    subscriber_id="ann",
    group_id="g1",
    venue=Venue.HYPERLIQUID,
    asset="BTC",
    how=ExitEnd.FILLED,
)


def folding(books: FakeBooks | None = None, configuration: LiveConfiguration | None = None) -> Folding[Any]:
    quotes = requesting(dict.fromkeys(Venue, books or FakeBooks(BOOK)))
    return Folding(Exits(configuration or configured(), quotes, lambda: NOW))


async def tried(lane: Folding[Any]) -> list[ExitDue]:
    """The rounds that are due, stored and folded."""
    rounds = []
    for effect in lane.stage.intents(lane.state).values():
        for output in await effect():
            assert isinstance(output.event, ExitDue)
            rounds.append(output.event)
            lane.outputs.append(output)
    lane.given(*rounds)
    return rounds


def of(number: int, **changes: Any) -> ExitOwed:
    """What another subscription of Ann owes since the same group."""
    named = {"exit_id": f"exi-{number}", "subscription_id": f"more-{number}", "attempt_id": f"att-{number}"}
    return structs.replace(OWED, **(named | changes))


# --- scheduling --------------------------------------------------------------------------------------------------


def test_what_is_owed_is_scheduled_with_its_next_try() -> None:
    lane = folding()
    (scheduled,) = lane.when(structs.replace(OWED, tries=3))
    assert isinstance(scheduled, ExitScheduled)
    assert (scheduled.exit_id, scheduled.number, scheduled.due_at) == ("exi-1", 4, NOW)
    (output,) = lane.outputs
    assert (output.subject, output.id, output.correlation) == (subjects.exits("ann"), "att-1.scheduled", "g1")


async def test_a_round_names_its_tries_and_the_side_of_the_book_that_they_take() -> None:
    lane = folding()
    lane.when(OWED)
    (due,) = await tried(lane)
    assert due.exits == (DueExit("exi-1", 1, "ann-alice", "ann"),)
    assert due.quote is not None
    assert (due.quote.bid_micros, due.quote.ask_micros, due.quote.levels) == (99, 101, BOOK.bids)
    assert (due.quote.captured_at, due.quote.terms, due.quote.venue_time) == (NOW, TERMS, NOW - 5)
    assert (due.group_id, due.quote_reason, due.tried_at) == ("g1", None, NOW)
    assert (lane.outputs[-1].subject, lane.outputs[-1].cause) == (subjects.exits("ann"), "GROUPS:1.0")
    assert lane.stage.intents(lane.state) == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, Reason.UNKNOWN_ASSET),
        (VenueUnavailableError("HTTP 429"), Reason.NO_QUOTE),
        (WireError("not a book"), Reason.BOOK_INVALID),
        (Book(NOW, ((99, 1),), ()), Reason.BOOK_EMPTY),
    ],
)
async def test_a_round_without_a_book_has_the_reason(answer: Any, reason: Reason) -> None:
    lane = folding(FakeBooks(answer))
    lane.when(OWED)
    (due,) = await tried(lane)
    assert (due.quote, due.quote_reason) == (None, reason)
    assert due.detail


async def test_copies_of_one_partition_that_owe_since_one_group_share_a_round_and_its_book() -> None:
    books = FakeBooks(BOOK)
    lane = folding(books)
    lane.when(OWED)
    lane.when(of(2, due_at=NOW - 200_000_000))
    lane.when(of(3, group_id="g2"))
    lane.when(of(4, due_at=NOW - SECOND))
    lane.when(of(5, subscriber_id="sam"))
    assert subjects.partition("ann") != subjects.partition("sam")
    rounds = await tried(lane)
    ids = [[one.exit_id for one in due.exits] for due in rounds]
    assert ids == [["exi-1", "exi-2"], ["exi-3"], ["exi-4"], ["exi-5"]]
    assert len({due.due_id for due in rounds}) == len(books.asked) == 4


async def test_a_round_has_a_largest_size() -> None:
    lane = folding()
    for number in range(LARGEST_ROUND + 1):
        lane.when(of(number))
    assert sorted(len(due.exits) for due in await tried(lane)) == [1, LARGEST_ROUND]


async def test_what_is_owed_anew_replaces_the_try_that_was_scheduled() -> None:
    lane = folding()
    lane.when(OWED)
    lane.when(structs.replace(OWED, attempt_id="att-2", tries=1, group_id="g2"))
    (due,) = await tried(lane)
    assert (due.group_id, due.exits[0].number) == ("g2", 2)


async def test_a_try_of_an_exit_that_ended_is_not_made() -> None:
    lane = folding()
    lane.when(OWED)
    (cancelled,) = lane.when(ENDED)
    assert isinstance(cancelled, ExitCancelled)
    assert lane.stage.intents(lane.state) == {}
    assert lane.when(ENDED) == [], "nothing is scheduled any more"


async def test_an_exit_that_ends_while_its_book_is_fetched_is_not_in_the_round() -> None:
    class Slow(FakeBooks):
        async def capture(self, asset: str) -> Any:
            lane.when(structs.replace(ENDED, exit_id="exi-2", subscription_id="more-2"))
            return await super().capture(asset)

    lane = folding(Slow(BOOK))
    lane.when(OWED)
    lane.when(of(2))
    (due,) = await tried(lane)
    assert [one.exit_id for one in due.exits] == ["exi-1"]


async def test_a_try_that_is_scheduled_while_a_round_is_made_gets_its_own_round() -> None:
    class Slow(FakeBooks):
        async def capture(self, asset: str) -> Any:
            if not self.asked:
                lane.when(of(2))
            return await super().capture(asset)

    lane = folding(Slow(BOOK))
    lane.when(OWED)
    assert [[one.exit_id for one in due.exits] for due in await tried(lane)] == [["exi-1"]]
    assert [[one.exit_id for one in due.exits] for due in await tried(lane)] == [["exi-2"]]


@pytest.mark.parametrize("snapshot_at", [0, 1, 2, 4])
async def test_a_restart_makes_the_tries_that_were_not_made(snapshot_at: int) -> None:
    lane = folding()
    lane.when(OWED)
    await tried(lane)
    lane.when(of(2))
    lane.when(of(3))
    lane.when(structs.replace(ENDED, exit_id="exi-3", subscription_id="more-3"))
    again = lane.replayed(snapshot_at=snapshot_at)
    assert [[one.exit_id for one in due.exits] for due in await tried(again)] == [["exi-2"]]


# --- tries without a decision --------------------------------------------------------------------------------------


ANSWER = 120 * 10**9


@pytest.mark.parametrize("snapshot_at", [0, 1, 2])
async def test_a_try_that_is_never_decided_is_scheduled_again_after_two_minutes(snapshot_at: int) -> None:
    lane = folding()
    lane.when(OWED)
    await tried(lane)
    lane = lane.replayed(snapshot_at=snapshot_at)
    assert lane.stage.due(lane.state) == NOW + ANSWER
    assert lane.when_time_passes(NOW + ANSWER - 1) == []
    (again,) = lane.when_time_passes(NOW + ANSWER)
    assert isinstance(again, ExitScheduled)
    assert (again.exit_id, again.number, again.due_at) == ("exi-1", 1, NOW + ANSWER)
    assert lane.stage.due(lane.state) is None


@pytest.mark.parametrize("decided", [structs.replace(OWED, tries=1, attempt_id="att-9"), ENDED])
async def test_a_try_that_is_decided_is_not_scheduled_again(decided: ExitOwed | ExitEnded) -> None:
    lane = folding()
    lane.when(OWED)
    await tried(lane)
    lane.when(decided)
    assert lane.stage.due(lane.state) is None
    assert lane.replayed().stage.due(lane.replayed().state) is None
    assert lane.when_time_passes(NOW + 2 * ANSWER) == []


# --- pauses ------------------------------------------------------------------------------------------------------


def switch(configuration: LiveConfiguration, state: ControlState) -> None:
    configuration.sequence += 1
    changed = ControlChanged(target=ControlTarget.ENGINE, id="", state=state, actor="ops", note="")
    configuration.directory.evolve(changed, NOW, configuration.sequence)


@pytest.mark.parametrize("state", [ControlState.PAUSED, ControlState.RECORD_ONLY])
async def test_while_the_engine_does_not_run_a_try_waits_and_then_it_is_made(state: ControlState) -> None:
    configuration = configured()
    books = FakeBooks(BOOK)
    lane = folding(books, configuration)
    switch(configuration, state)
    lane.when(OWED)
    trying = asyncio.create_task(tried(lane))
    await asyncio.sleep(0.5)
    assert not trying.done()
    assert books.asked == []
    switch(configuration, ControlState.RUNNING)
    (due,) = await asyncio.wait_for(trying, 10)
    assert due.quote is not None


async def test_exits_while_paused_lets_tries_through_a_pause_but_not_while_only_recording() -> None:
    configuration = configured()
    lane = folding(None, configuration)
    switch(configuration, ControlState.PAUSED)
    through = structs.replace(OWED, while_paused=True)
    lane.when(through)
    assert len(await asyncio.wait_for(tried(lane), 10)) == 1
    switch(configuration, ControlState.RECORD_ONLY)
    lane.when(through)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(tried(lane), 0.5)


# --- to requests -------------------------------------------------------------------------------------------------


async def test_match_makes_a_request_of_each_exit_of_a_round_whatever_the_status() -> None:
    paused = LINES[-2].replace("}}", '},"status":"paused"}')
    configuration = configured([*LINES[:-2], paused, LINES[-1]])
    lane = folding(None, configuration)
    lane.when(OWED)
    (due,) = await tried(lane)
    shared, own = Folding(Match(configuration)).when(due)
    request = put_together("req-1", shared, own)
    assert (request.subscription_id, request.subscriber_id, request.group_id) == ("ann-alice", "ann", "g1")
    assert request.exit == ExitTry("exi-1", 1)
    assert (request.action, request.trade_side, request.quote) == (Action.CLOSE, TradeSide.SELL, due.quote)
    assert configuration.directory.policy_named(request.policy_hash) is not None
