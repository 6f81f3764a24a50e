"""GROUPS -> GROUPS: the order book of each closed group, captured at the time that the latency model gives.

First the intent (`quote.wanted`) is stored with the checkpoint, then an effect gets the book, then the outcome is
stored. After a crash the wanted quotes without an outcome are the to-do list. Outcomes for one influencer and asset are
stored in the order of their groups, whatever the latency model and the requests do: a copy closes after it opened.
Where the book comes from: docs/design.md, quotes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from domain.events import GroupClosed, QuoteCaptured, QuoteFailed, QuoteWanted, TradeSide, Venue
from domain.guardrails import Policy
from domain.ids import derived, jitter
from domain.matching import reduces
from domain.micros import MICRO
from domain.reason_codes import Reason
from domain.venues import VENUES
from gateways.venue_errors import VenueUnavailableError, WireError
from gateways.venue_types import Book
from handlers.live.book_requests import ExpiredError, Priority
from handlers.live.configuration import LiveConfiguration
from handlers.live.quotes import VenueQuotes
from streams import subjects
from streams.envelope import Recorded, address
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import GROUPS

_MILLISECOND = 1_000_000


class Wanted:
    """Quotes without an outcome by id, each with its sequence in GROUPS (0 while it is not stored), in their order."""

    def __init__(self, quotes: dict[str, tuple[QuoteWanted, int]]) -> None:
        self.quotes: dict[str, tuple[QuoteWanted, int]] = {}
        self._lines: dict[tuple[str, Venue, str], dict[str, asyncio.Event]] = {}
        """By influencer and asset: the quotes in the order of their groups, each with the event that it is next."""
        for wanted, sequence in quotes.values():
            self.add(wanted, sequence)

    def add(self, wanted: QuoteWanted, sequence: int) -> None:
        self.quotes[wanted.quote_id] = wanted, sequence
        line = self._lines.setdefault(_line_of(wanted), {})
        line.setdefault(wanted.quote_id, asyncio.Event())
        next(iter(line.values())).set()

    def remove(self, quote_id: str) -> None:
        wanted, _ = self.quotes.pop(quote_id, (None, 0))
        if wanted is not None:
            line = self._lines[_line_of(wanted)]
            del line[quote_id]
            if line:
                next(iter(line.values())).set()
            else:
                del self._lines[_line_of(wanted)]

    async def turn(self, wanted: QuoteWanted) -> None:
        """Wait until no earlier group of the same influencer and asset waits for its outcome."""
        await self._lines[_line_of(wanted)][wanted.quote_id].wait()


def _line_of(wanted: QuoteWanted) -> tuple[str, Venue, str]:
    return wanted.group.influencer_id, wanted.group.venue, wanted.group.asset


class Quote(Stage[Wanted]):
    name = "quote"
    description = "captures the order book of closed groups"
    reads = GROUPS
    writes = GROUPS
    input_patterns = ("groups.{}.>",)
    state_patterns = ("quotes.{}.>",)
    input_types = frozenset({"group.closed"})
    schema = 1

    def __init__(
        self, configuration: LiveConfiguration, quotes: Mapping[Venue, VenueQuotes], clock: Callable[[], int]
    ) -> None:
        self._configuration = configuration
        self._quotes = quotes
        self._clock = clock

    def initial(self, lane: Lane) -> Wanted:
        return Wanted({})

    def dump(self, state: Wanted) -> bytes:
        return msgspec.msgpack.encode(state.quotes)

    def restore(self, payload: bytes, lane: Lane) -> Wanted:
        return Wanted(msgspec.msgpack.decode(payload, type=dict[str, tuple[QuoteWanted, int]]))

    def config_sequence(self) -> int:
        return self._configuration.sequence

    async def config_reached(self, sequence: int) -> None:
        await self._configuration.reached(sequence)

    def handle(self, state: Wanted, event: Recorded, now: int) -> Iterator[Output]:
        group: GroupClosed = event.data
        policy = self._configuration.directory.influencer_policy(group.influencer_id)
        latency_ms = policy.latency_ms + jitter(group.group_id, policy.latency_jitter_ms)
        wanted = QuoteWanted(
            quote_id=derived("quo", group.group_id),
            group=group,
            due_at=group.closed_at + latency_ms * _MILLISECOND,
        )
        yield _output(wanted, f"{wanted.quote_id}.wanted", None)

    def dropped(self, state: Wanted, event: Recorded, now: int) -> Iterator[Output]:
        """The group goes on without a book: what reduces is owed, what opens is skipped."""
        group: GroupClosed = event.data
        wanted = QuoteWanted(quote_id=derived("quo", group.group_id), group=group, due_at=now)
        yield _output(wanted, f"{wanted.quote_id}.wanted", event.at)
        failed = self._failed(wanted, Reason.DROPPED, "an operator dropped the dead letter of the group")
        yield _output(failed, wanted.quote_id, event.at)

    def evolve(self, state: Wanted, event: Any, sequence: int) -> None:
        match event:
            case QuoteWanted():
                state.add(event, sequence)
            case QuoteCaptured() | QuoteFailed():
                state.remove(event.quote_id)

    def stored(self, state: Wanted, output: Output, sequence: int) -> None:
        if isinstance(output.event, QuoteWanted) and output.event.quote_id in state.quotes:
            state.add(output.event, sequence)

    def intents(self, state: Wanted) -> Mapping[str, Callable[[], Awaitable[list[Output]]]]:
        return {
            quote_id: partial(self._capture, state, wanted, sequence)
            for quote_id, (wanted, sequence) in state.quotes.items()
            if sequence
        }

    async def _capture(self, state: Wanted, wanted: QuoteWanted, sequence: int) -> list[Output]:
        outcome = await self._outcome(wanted)
        await state.turn(wanted)
        return [_output(outcome, wanted.quote_id, address(GROUPS.name, sequence))]

    async def _outcome(self, wanted: QuoteWanted) -> QuoteCaptured | QuoteFailed:
        group = wanted.group
        venue, asset = group.venue, group.asset
        policy = self._configuration.directory.influencer_policy(group.influencer_id)
        owed = reduces(group)
        try:
            captured, captured_at, current_at = await self._quotes[venue].capture(
                asset,
                wanted.due_at,
                priority=Priority.REDUCES if owed else Priority.OPENS,
                expires_at=None if owed else group.event_time + policy.max_signal_age_ms * _MILLISECOND,
                enough=partial(_shows_enough, group.trade_side, policy),
            )
        except ExpiredError:
            limit = f"{policy.max_signal_age_ms} ms"
            return self._failed(wanted, Reason.STALE_SIGNAL, f"older than {limit} before its book could be requested")
        except VenueUnavailableError as error:
            return self._failed(wanted, Reason.NO_QUOTE, str(error))
        except WireError as error:
            return self._failed(wanted, Reason.BOOK_INVALID, str(error))
        if captured is None:
            reason = Reason.MARKET_CLOSED if VENUES[venue].book_ends_with_market else Reason.UNKNOWN_ASSET
            return self._failed(wanted, reason, f"{venue.value} has no book for {asset!r}")
        return QuoteCaptured(
            quote_id=wanted.quote_id,
            group=group,
            bids=captured.book.bids,
            asks=captured.book.asks,
            size_step_micros=captured.terms.size_step_micros,
            venue_time=captured.book.time,
            captured_at=captured_at,
            terms=captured.terms,
            current_at=current_at,
        )

    def _failed(self, wanted: QuoteWanted, reason: Reason, detail: str) -> QuoteFailed:
        return QuoteFailed(
            quote_id=wanted.quote_id, group=wanted.group, reason=reason, detail=detail, failed_at=self._clock()
        )


def _output(event: QuoteWanted | QuoteCaptured | QuoteFailed, event_id: str, cause: str | None) -> Output:
    """A commit of its own: an outcome names its intent by the sequence alone."""
    group = event.group
    subject = subjects.quotes(group.influencer_id, group.venue.value, group.asset)
    return Output(subject, event, event_id, group.group_id, cause, begins=True)


def _shows_enough(side: TradeSide, policy: Policy, book: Book) -> bool:
    """True when a book that is truncated holds what the largest opening needs, with the depth that is asked for.

    A reduction that needs more takes what there is: the rest of it is owed.
    """
    levels = book.asks if side is TradeSide.BUY else book.bids
    needed = policy.max_notional_micros * policy.depth_ratio_micros // MICRO
    return sum(price * size // MICRO for price, size in levels) >= needed
