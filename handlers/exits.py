"""EXECUTIONS -> GROUPS: what copies owe is tried again when due, at a book of that time (docs/design.md, owed exits).

First the intent (`exit.scheduled`) is stored with the checkpoint, then an effect waits until the try is due and fetches
the book, then the round (`exit.due`) is stored; `match` makes a request of each of its exits. Copies in one partition
that owe since the same group are tried in one round. While the engine does not run, the effect waits: after a pause,
what is owed goes first.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakSet

import msgspec
import structlog
from msgspec import Struct, structs

from domain.events import (
    Action,
    ControlState,
    DueExit,
    ExitCancelled,
    ExitDue,
    ExitEnded,
    ExitOwed,
    ExitScheduled,
    RequestedQuote,
    Venue,
)
from domain.ids import derived
from domain.matching import side_of_book
from domain.reason_codes import Reason
from domain.venues import VENUES
from gateways.venue_errors import VenueUnavailableError, WireError
from handlers import metrics
from handlers.live.book_requests import Priority
from handlers.live.configuration import LiveConfiguration
from handlers.live.quotes import VenueQuotes
from streams import subjects
from streams.envelope import Recorded, address
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import EXECUTIONS, GROUPS

log = structlog.get_logger()

LARGEST_ROUND = 200
"""Exits of one round: a message stays far below what the server takes."""
_TOGETHER_NS = 250_000_000
"""Tries whose due times are as close as this share a round and its book."""
_ANSWER_NS = 120_000_000_000
"""A try without a decision for this long is scheduled again: its round or its request may be a dead letter."""
_PAUSED_SECONDS = 0.2
"""How often a try that is held looks whether the engine runs again."""


class Waiting(Struct):
    """A try that is not made yet, and its sequence in GROUPS (0 while it is not stored)."""

    scheduled: ExitScheduled
    sequence: int


class Made(Struct):
    """A try that was made at `tried_at` (ns) in the round with this sequence in GROUPS, and is not answered yet."""

    scheduled: ExitScheduled
    tried_at: int
    sequence: int


class Saved(Struct):
    """What a snapshot keeps of a lane."""

    tries: dict["Key", Waiting]
    made: dict["Key", Made]


Key = tuple[str, str, str]
"""(subscription, venue, asset)."""


Kind = tuple[int, str, Action, bool]
"""What tries of one round have in common: partition, group, action, and whether a pause lets them through."""


class Round(NamedTuple):
    """Tries that share a book: what they have in common, their keys, and when the first is due (ns)."""

    kind: Kind
    keys: list[Key]
    due_at: int


class Owed:
    """A lane's tries by what they are of, the rounds that they are in, and the tries that wait for their decision.

    Rounds are not stored: after a start the same tries may share other rounds.
    """

    def __init__(self) -> None:
        self.tries: dict[Key, Waiting] = {}
        self.made: dict[Key, Made] = {}
        self.rounds: dict[int, Round] = {}
        self.round_of: dict[Key, int] = {}
        self.taken: set[int] = set()
        """Rounds that have asked for their book: no try joins them any more."""
        self._numbers = itertools.count()
        self._open: dict[Kind, int] = {}
        _LANES.add(self)

    def join(self, key: Key) -> None:
        """Put a stored try into the round of its group and partition that is due at about the same time, or into a new
        one."""
        one = self.tries[key].scheduled
        kind = (subjects.partition(one.subscriber_id), one.group_id, one.action, one.while_paused)
        number = self._open.get(kind)
        if number is not None and number in self.rounds and number not in self.taken:
            open_round = self.rounds[number]
            if abs(open_round.due_at - one.due_at) <= _TOGETHER_NS and len(open_round.keys) < LARGEST_ROUND:
                open_round.keys.append(key)
                self.round_of[key] = number
                return
        number = next(self._numbers)
        self.rounds[number] = Round(kind, [key], one.due_at)
        self._open[kind] = self.round_of[key] = number

    def leave(self, key: Key) -> None:
        """Take a try out of its round; a round without tries ends."""
        number = self.round_of.pop(key, None)
        if number is None:
            return
        left = self.rounds[number]
        left.keys.remove(key)
        if not left.keys:
            del self.rounds[number]
            self.taken.discard(number)
            if self._open.get(left.kind) == number:
                del self._open[left.kind]

    @property
    def owed_since(self) -> int | None:
        """Since when (ns) the oldest is owed."""
        return min((one.scheduled.owed_since for of in (self.tries, self.made) for one in of.values()), default=None)


_LANES: "WeakSet[Owed]" = WeakSet()
"""The states of this process' lanes, for the gauges."""
metrics.EXITS_OWED.set_function(lambda: sum(len(lane.tries) + len(lane.made) for lane in _LANES))


def _oldest_seconds(clock: Callable[[], int]) -> float:
    since = [since for lane in _LANES if (since := lane.owed_since) is not None]
    return max(0.0, (clock() - min(since)) / 1e9) if since else 0.0


class Exits(Stage[Owed]):
    name = "exits"
    description = "tries again what copies owe"
    reads = EXECUTIONS
    writes = GROUPS
    input_patterns = ("executions.{}.>",)
    state_patterns = ("exits.{}.>",)
    input_types = frozenset({"exit.owed", "exit.ended"})
    schema = 2

    def __init__(
        self, configuration: LiveConfiguration, quotes: Mapping[Venue, VenueQuotes], clock: Callable[[], int]
    ) -> None:
        self._configuration = configuration
        self._quotes = quotes
        self._clock = clock
        metrics.OLDEST_EXIT.set_function(partial(_oldest_seconds, clock))

    def initial(self, lane: Lane) -> Owed:
        return Owed()

    def dump(self, state: Owed) -> bytes:
        return msgspec.msgpack.encode(Saved(state.tries, state.made))

    def restore(self, payload: bytes, lane: Lane) -> Owed:
        state, saved = Owed(), msgspec.msgpack.decode(payload, type=Saved)
        for key, waiting in saved.tries.items():
            _schedule(state, key, waiting)
        state.made.update(saved.made)
        return state

    def config_sequence(self) -> int:
        return self._configuration.sequence

    async def config_reached(self, sequence: int) -> None:
        await self._configuration.reached(sequence)

    def handle(self, state: Owed, event: Recorded, now: int) -> Iterator[Output]:
        owed: ExitOwed | ExitEnded = event.data
        subject = subjects.exits(owed.subscriber_id)
        if isinstance(owed, ExitOwed):
            event_id = f"{owed.attempt_id or event.id.removesuffix('.owed')}.scheduled"
            yield Output(subject, _next_try(owed), event_id, owed.group_id, begins=True)
            return
        key = (owed.subscription_id, owed.venue.value, owed.asset)
        if key in state.tries or key in state.made:
            cancelled = ExitCancelled(
                exit_id=owed.exit_id,
                subscription_id=owed.subscription_id,
                subscriber_id=owed.subscriber_id,
                venue=owed.venue,
                asset=owed.asset,
            )
            yield Output(subject, cancelled, f"{owed.exit_id}.cancelled", owed.group_id)

    def dropped(self, state: Owed, event: Recorded, now: int) -> Iterable[Output]:
        """What is owed stays owed: the next try is scheduled."""
        return self.handle(state, event, now) if isinstance(event.data, ExitOwed) else ()

    def evolve(self, state: Owed, event: Any, sequence: int) -> None:
        match event:
            case ExitScheduled():
                _schedule(state, _key(event, event), Waiting(event, sequence))
            case ExitCancelled():
                _remove(state, _key(event, event))
            case ExitDue():
                for made in event.exits:
                    key = _key(made, event)
                    waiting = state.tries.get(key)
                    if waiting is not None and _is_of(waiting.scheduled, made):
                        _remove(state, key)
                        state.made[key] = Made(waiting.scheduled, event.tried_at, sequence)

    def stored(self, state: Owed, output: Output, sequence: int) -> None:
        if isinstance(output.event, ExitScheduled):
            key = _key(output.event, output.event)
            waiting = state.tries.get(key)
            if waiting is not None and waiting.scheduled is output.event:
                _schedule(state, key, Waiting(output.event, sequence))
        elif isinstance(output.event, ExitDue):
            for one in output.event.exits:
                found = state.made.get(_key(one, output.event))
                if found is not None and _is_of(found.scheduled, one):
                    found.sequence = sequence

    def due(self, state: Owed) -> int | None:
        return min((made.tried_at + _ANSWER_NS for made in state.made.values()), default=None)

    def tick(self, state: Owed, now: int) -> Iterator[Output]:
        """Schedule again what was tried and never decided."""
        for made in list(state.made.values()):
            if made.tried_at + _ANSWER_NS <= now:
                again = structs.replace(made.scheduled, due_at=now)
                event_id = f"{again.exit_id}.{again.number}.{made.tried_at}.scheduled"
                subject, cause = subjects.exits(again.subscriber_id), address(GROUPS.name, made.sequence)
                log.warning("exit.unanswered", exit=again.exit_id, number=again.number)
                yield Output(subject, again, event_id, again.group_id, cause, begins=True)

    def intents(self, state: Owed) -> Mapping[str, Callable[[], Awaitable[list[Output]]]]:
        return {f"round {number}": partial(self._try, state, number) for number in state.rounds}

    async def _try(self, state: Owed, number: int) -> list[Output]:
        """The round, once it is due and the engine lets it through; nothing when all of its tries were cancelled."""
        while True:
            waits = self._waits(state, number)
            if waits is None:
                break
            await asyncio.sleep(waits)
        if number not in state.rounds:
            return []
        state.taken.add(number)
        first = state.tries[state.rounds[number].keys[0]].scheduled
        quote_id = derived("quo", first.exit_id, first.number, state.tries[state.rounds[number].keys[0]].sequence)
        quote, reason, detail = await self._book(first, quote_id)
        metrics.EXIT_ROUNDS.labels("yes" if quote is not None else "no").inc()
        members = [state.tries[key] for key in state.rounds[number].keys] if number in state.rounds else []
        if not members:
            return []
        due = ExitDue(
            due_id=derived("due", quote_id),
            influencer_id=first.influencer_id,
            group_id=first.group_id,
            venue=first.venue,
            asset=first.asset,
            market=first.market,
            action=first.action,
            trade_side=first.trade_side,
            price_micros=first.price_micros,
            event_time=first.event_time,
            detect_time=first.detect_time,
            exits=tuple(
                DueExit(one.exit_id, one.number, one.subscription_id, one.subscriber_id)
                for one in (waiting.scheduled for waiting in members)
            ),
            quote=quote,
            quote_reason=reason,
            detail=detail,
            tried_at=self._clock(),
        )
        cause = address(GROUPS.name, members[0].sequence)
        return [Output(subjects.exits(first.subscriber_id), due, due.due_id, due.group_id, cause, begins=True)]

    def _waits(self, state: Owed, number: int) -> float | None:
        """Seconds until the round should be looked at again; None when it goes, or has ended."""
        this = state.rounds.get(number)
        if this is None:
            return None
        if (early := this.due_at - self._clock()) > 0:
            return early / 1e9
        engine = self._configuration.directory.controls.engine(self._configuration.sequence)
        goes = engine is ControlState.RUNNING or (engine is ControlState.PAUSED and this.kind[-1])
        return None if goes else _PAUSED_SECONDS

    async def _book(self, one: ExitScheduled, quote_id: str) -> tuple[RequestedQuote | None, Reason | None, str]:
        """The side of the book that the tries take, or the reason and the explanation why there is none."""
        try:
            captured, captured_at, current_at = await self._quotes[one.venue].capture(
                one.asset, self._clock(), priority=Priority.REDUCES
            )
        except VenueUnavailableError as error:
            return None, Reason.NO_QUOTE, str(error)
        except WireError as error:
            return None, Reason.BOOK_INVALID, str(error)
        if captured is None:
            reason = Reason.MARKET_CLOSED if VENUES[one.venue].book_ends_with_market else Reason.UNKNOWN_ASSET
            return None, reason, f"{one.venue.value} has no book for {one.asset!r}"
        quote, reason_of_book = side_of_book(
            captured.book.bids,
            captured.book.asks,
            one.venue,
            one.trade_side,
            quote_id=quote_id,
            size_step_micros=captured.terms.size_step_micros,
            captured_at=captured_at,
            venue_time=captured.book.time,
            current_at=current_at,
            terms=captured.terms,
        )
        return quote, reason_of_book, reason_of_book.text if reason_of_book else ""


def _next_try(owed: ExitOwed) -> ExitScheduled:
    return ExitScheduled(
        exit_id=owed.exit_id,
        number=owed.tries + 1,
        subscription_id=owed.subscription_id,
        subscriber_id=owed.subscriber_id,
        influencer_id=owed.influencer_id,
        group_id=owed.group_id,
        venue=owed.venue,
        asset=owed.asset,
        market=owed.market,
        action=owed.action,
        trade_side=owed.trade_side,
        price_micros=owed.price_micros,
        event_time=owed.event_time,
        detect_time=owed.detect_time,
        owed_since=owed.owed_since,
        due_at=owed.due_at,
        while_paused=owed.while_paused,
    )


def _key(of: ExitScheduled | ExitCancelled | DueExit, asset: ExitScheduled | ExitCancelled | ExitDue) -> Key:
    return of.subscription_id, asset.venue.value, asset.asset


def _is_of(scheduled: ExitScheduled, made: DueExit) -> bool:
    """True when the round made this try: one that was scheduled meanwhile is still to be made."""
    return (scheduled.exit_id, scheduled.number) == (made.exit_id, made.number)


def _remove(state: Owed, key: Key) -> None:
    state.leave(key)
    state.tries.pop(key, None)
    state.made.pop(key, None)


def _schedule(state: Owed, key: Key, waiting: Waiting) -> None:
    _remove(state, key)
    state.tries[key] = waiting
    if waiting.sequence:
        state.join(key)
