"""GROUPS -> GROUPS, as a fold with effects: the intents, and their outcomes."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec import structs

from domain.events import Action, GroupClosed, QuoteCaptured, QuoteFailed, QuoteWanted, Terms, TradeSide, Venue
from domain.ids import derived, jitter
from domain.reason_codes import Reason
from domain.venues import VENUES
from gateways.venue_adapter import Books
from gateways.venue_errors import VenueUnavailableError, WireError
from gateways.venue_types import Book, Captured
from handlers.live.book_requests import Priority
from handlers.live.quotes import Quoted, VenueQuotes
from handlers.quote import Quote
from streams import subjects
from tests.handlers.folding import LINES, NOW, Folding, configured
from tests.streams.examples import example

MS = 1_000_000
BOOK = Book(NOW - 5, ((99, 1), (98, 2)), ((101, 3),))
TERMS = Terms(size_step_micros=1_000, tick_micros=1, fee_rate_micros=50_000, market="race")
NO_LATENCY = '{"kind":"guardrail","scope":"global","values":{"latency_ms":0,"latency_jitter_ms":0}}'


class FakeBooks:
    """One book, or one error, for every asset."""

    def __init__(self, answer: Book | Exception | None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def capture(self, asset: str) -> Captured | None:
        self.asked.append(asset)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Captured(self.answer, TERMS) if self.answer else None

    async def terms(self, asset: str) -> Terms | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return TERMS if self.answer else None

    async def affordable(self) -> None:
        pass


def requesting(books: Mapping[Venue, Books], now: Callable[[], int] = lambda: NOW) -> dict[Venue, VenueQuotes]:
    """The quotes of every venue without live books."""
    return {venue: VenueQuotes(venue, of_venue, None, now) for venue, of_venue in books.items()}


def group(number: int = 1, venue: Venue = Venue.HYPERLIQUID) -> GroupClosed:
    return example(
        GroupClosed,
        group_id=f"g{number}",
        influencer_id="alice",
        venue=venue,
        asset="BTC",
        detect_time=NOW - VENUES[venue].group_window_ns,
        event_time=NOW - VENUES[venue].group_window_ns,
        closed_at=NOW,
    )


def folding(books: FakeBooks, *lines: str) -> Folding[Any]:
    quotes = requesting(dict.fromkeys(Venue, books))
    return Folding(Quote(configured([*(lines or [NO_LATENCY]), *LINES[1:]]), quotes, lambda: NOW))


def due_ms(lane: Folding[Any], number: int, venue: Venue = Venue.HYPERLIQUID) -> int:
    """How long after its window closed the quote of a group is due."""
    (wanted,) = lane.when(group(number, venue))
    assert isinstance(wanted, QuoteWanted)
    return (wanted.due_at - NOW) // 1_000_000


@pytest.mark.parametrize("venue", list(Venue))
def test_latency_by_default_is_750_to_1000_ms_from_the_end_of_the_window(venue: Venue) -> None:
    lane = Folding(Quote(configured(LINES[1:]), requesting({venue: FakeBooks(BOOK)}), lambda: NOW))
    found = [due_ms(lane, number, venue) for number in range(200)]
    assert 750 <= min(found) < 770
    assert 980 < max(found) <= 1_000
    assert found == [750 + jitter(f"g{number}", 250) for number in range(200)], "replay draws the same"


def test_latency_may_differ_by_influencer() -> None:
    of_alice = '{"kind":"guardrail","scope":"influencer:alice","values":{"latency_ms":5,"latency_jitter_ms":0}}'
    assert due_ms(folding(FakeBooks(BOOK), NO_LATENCY, of_alice), 1) == 5


def test_the_latency_model_gives_the_due_time_of_a_quote() -> None:
    latency = '{"kind":"guardrail","scope":"global","values":{"latency_ms":700,"latency_jitter_ms":50}}'
    lane = folding(FakeBooks(BOOK), latency)
    (wanted,) = lane.when(group())
    due_at = NOW + (700 + jitter("g1", 50)) * 1_000_000
    assert wanted == QuoteWanted(quote_id=derived("quo", "g1"), group=group(), due_at=due_at)
    (output,) = lane.outputs
    assert output.subject == subjects.quotes("alice", "hyperliquid", "BTC")
    assert (output.id, output.correlation, output.cause) == (f"{wanted.quote_id}.wanted", "g1", None)


def test_only_a_stored_intent_has_an_effect() -> None:
    lane = folding(FakeBooks(BOOK))
    wanted = example(QuoteWanted, quote_id="q")
    lane.stage.evolve(lane.state, wanted, 0)
    assert lane.stage.intents(lane.state) == {}
    lane.stage.evolve(lane.state, wanted, 5)
    assert list(lane.stage.intents(lane.state)) == ["q"]
    lane.given(example(QuoteCaptured, quote_id="q"))
    assert lane.stage.intents(lane.state) == {}


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        (BOOK, None, ""),
        (None, Reason.UNKNOWN_ASSET, "no book for 'BTC'"),
        (VenueUnavailableError("HTTP 429"), Reason.NO_QUOTE, "HTTP 429"),
        (WireError("not a book"), Reason.BOOK_INVALID, "not a book"),
    ],
)
async def test_every_answer_of_the_venue_is_an_outcome(answer: Any, reason: Reason | None, detail: str) -> None:
    books = FakeBooks(answer)
    lane = folding(books)
    lane.when(group())
    ((key, effect),) = lane.stage.intents(lane.state).items()
    (output,) = await effect()
    assert books.asked == ["BTC"]
    assert (output.id, output.correlation, output.cause) == (key, "g1", "GROUPS:1.0")
    outcome = output.event
    if reason is None:
        assert isinstance(outcome, QuoteCaptured)
        assert (outcome.bids, outcome.asks, outcome.size_step_micros) == (BOOK.bids, BOOK.asks, 1_000)
        assert (outcome.venue_time, outcome.captured_at, outcome.terms) == (NOW - 5, NOW, TERMS)
    else:
        assert isinstance(outcome, QuoteFailed)
        assert outcome.reason is reason
        assert detail in outcome.detail
    lane.given(outcome)
    assert lane.stage.intents(lane.state) == {}


@pytest.mark.parametrize(
    ("venue", "reason"),
    [(Venue.HYPERLIQUID, Reason.UNKNOWN_ASSET), (Venue.POLYMARKET, Reason.MARKET_CLOSED)],
)
async def test_the_reason_of_a_missing_book_depends_on_the_venue(venue: Venue, reason: Reason) -> None:
    lane = folding(FakeBooks(None))
    lane.when(group(1, venue))
    ((_, effect),) = lane.stage.intents(lane.state).items()
    (output,) = await effect()
    assert isinstance(output.event, QuoteFailed)
    assert output.event.reason is reason


async def test_a_book_is_requested_from_the_groups_venue() -> None:
    hyperliquid, polymarket = FakeBooks(BOOK), FakeBooks(BOOK)
    books = {Venue.HYPERLIQUID: hyperliquid, Venue.POLYMARKET: polymarket}
    lane = Folding(Quote(configured([NO_LATENCY, *LINES[1:]]), requesting(books), lambda: NOW))
    lane.when(group(1, Venue.POLYMARKET))
    ((_, effect),) = lane.stage.intents(lane.state).items()
    await effect()
    assert (hyperliquid.asked, polymarket.asked) == ([], ["BTC"])


async def test_outcomes_of_one_influencer_and_asset_keep_the_order_of_their_groups() -> None:
    lane = folding(FakeBooks(BOOK))
    for number in (1, 2, 3):
        lane.when(group(number) if number < 3 else structs.replace(group(3), asset="ETH"))
    effects = lane.stage.intents(lane.state)
    second = asyncio.ensure_future(effects[derived("quo", "g2")]())
    (found,) = await asyncio.wait_for(effects[derived("quo", "g3")](), 5)
    assert found.correlation == "g3", "another asset does not wait"
    await asyncio.sleep(0.05)
    assert not second.done(), "the book of the second group is there, the outcome of the first is not"
    (first,) = await effects[derived("quo", "g1")]()
    lane.stage.evolve(lane.state, first.event, 9)
    (found,) = await asyncio.wait_for(second, 5)
    assert found.correlation == "g2"


async def test_the_intents_without_an_outcome_are_the_to_do_list_after_a_restart() -> None:
    lane = folding(FakeBooks(BOOK))
    for number in (1, 2, 3):
        lane.when(group(number))
    done = derived("quo", "g2")
    again = lane.replayed().given(example(QuoteFailed, quote_id=done))
    assert set(again.stage.intents(again.state)) == {derived("quo", "g1"), derived("quo", "g3")}
    (output,) = await again.stage.intents(again.state)[derived("quo", "g1")]()
    assert output.cause == "GROUPS:1.0"


class Asked(VenueQuotes):
    """Notes how it is asked, and answers as it would without live books."""

    def __init__(self) -> None:
        super().__init__(Venue.HYPERLIQUID, FakeBooks(BOOK), None, lambda: NOW)
        self.options: dict[str, Any] = {}

    async def capture(self, asset: str, due_at: int, **options: Any) -> Quoted:
        self.options = options
        return await super().capture(asset, due_at, **options)


async def asked(action: Action, *lines: str, **fields: Any) -> tuple[dict[str, Any], QuoteCaptured | QuoteFailed]:
    """How the quotes were asked for a group of this action, and the outcome."""
    quotes = Asked()
    lane = Folding(Quote(configured([NO_LATENCY, *lines, *LINES[1:]]), {Venue.HYPERLIQUID: quotes}, lambda: NOW))
    lane.when(structs.replace(group(), action=action, **fields))
    ((_, effect),) = lane.stage.intents(lane.state).items()
    (output,) = await effect()
    assert isinstance(output.event, QuoteCaptured | QuoteFailed)
    return quotes.options, output.event


@pytest.mark.parametrize(
    ("action", "priority"),
    [
        (Action.OPEN, Priority.OPENS),
        (Action.INCREASE, Priority.OPENS),
        (Action.DECREASE, Priority.REDUCES),
        (Action.CLOSE, Priority.REDUCES),
        (Action.FLIP, Priority.REDUCES),
    ],
)
async def test_what_reduces_goes_before_what_opens_and_is_never_too_old(action: Action, priority: Priority) -> None:
    of_alice = '{"kind":"guardrail","scope":"influencer:alice","values":{"max_signal_age_ms":5000}}'
    options, outcome = await asked(action, of_alice, event_time=NOW - 6_000 * MS)
    assert options["priority"] is priority
    if priority is Priority.REDUCES:
        assert options["expires_at"] is None
        assert isinstance(outcome, QuoteCaptured)
    else:
        assert options["expires_at"] == NOW - 1_000 * MS
        assert isinstance(outcome, QuoteFailed)
        assert outcome.reason is Reason.STALE_SIGNAL
        assert "5000 ms" in outcome.detail


@pytest.mark.parametrize(("side", "shows"), [(TradeSide.BUY, 301), (TradeSide.SELL, 900)])
async def test_a_truncated_book_shows_enough_when_it_holds_the_largest_opening_with_its_depth(
    side: TradeSide, shows: int
) -> None:
    usd = 1_000_000
    book = Book(NOW, ((90 * usd, 10 * usd),), ((100 * usd, 2 * usd), (101 * usd, usd)))
    for limit, enough in ((shows / 1.25 - 1, True), (shows / 1.25 + 2, False)):
        values = f'{{"max_notional_micros":{int(limit * usd)}}}'
        line = f'{{"kind":"guardrail","scope":"influencer:alice","values":{values}}}'
        options, _ = await asked(Action.OPEN, line, trade_side=side)
        assert options["enough"](book) is enough
