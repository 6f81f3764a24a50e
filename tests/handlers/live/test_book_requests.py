"""Requests for books: one in flight for each asset, shared by who may share it, the most urgent first."""

import asyncio
import time
from typing import NamedTuple

import pytest

from domain.events import Terms
from gateways.venue_errors import VenueUnavailableError
from gateways.venue_types import Book, Captured
from handlers.live.book_requests import BookRequests, ExpiredError, Priority, Requested

REDUCES, OPENS = Priority.REDUCES, Priority.OPENS
SECOND = 1_000_000_000
CAPTURED = Captured(Book(1, ((99, 1),), ((101, 1),)), Terms(size_step_micros=1, tick_micros=1, market="m"))


class SlowBooks:
    """Books that answer when `answer` is set, and whose budget is there when `budget` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = asyncio.Event()
        self.budget = asyncio.Event()
        self.budget.set()
        self.error: Exception | None = None

    async def capture(self, asset: str) -> Captured | None:
        self.asked.append(asset)
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return CAPTURED

    async def terms(self, asset: str) -> Terms | None:
        return CAPTURED.terms

    async def affordable(self) -> None:
        await self.budget.wait()


class Queue(NamedTuple):
    books: SlowBooks
    requests: BookRequests

    def ask(
        self, asset: str, priority: Priority = OPENS, *, due_at: int | None = None, expires_in: float | None = None
    ) -> asyncio.Task[Requested]:
        now = time.time_ns()
        expires_at = None if expires_in is None else now + int(expires_in * SECOND)
        due_at = now if due_at is None else due_at
        return asyncio.create_task(self.requests.capture(asset, due_at, priority, expires_at))


def queue() -> Queue:
    books = SlowBooks()
    return Queue(books, BookRequests(books, time.time_ns))


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_answer_has_the_time_at_which_it_came() -> None:
    one = queue()
    waiting = one.ask("BTC")
    await settled()
    before = time.time_ns()
    one.books.answer.set()
    captured, captured_at, shared = await waiting
    assert captured is CAPTURED
    assert not shared
    assert before <= captured_at <= time.time_ns()


async def test_who_waits_for_the_same_asset_shares_one_request() -> None:
    one = queue()
    one.books.budget.clear()
    waiting = [one.ask("BTC") for _ in range(100)]
    await settled()
    one.books.budget.set()
    one.books.answer.set()
    answers = await asyncio.gather(*waiting)
    assert one.books.asked == ["BTC"]
    assert sum(answer.shared for answer in answers) == 99


async def test_a_request_in_flight_is_shared_by_what_was_due_before_it_went() -> None:
    one = queue()
    due_at = time.time_ns()
    first = one.ask("BTC", due_at=due_at)
    await settled()
    second = one.ask("BTC", due_at=due_at)
    await settled()
    one.books.answer.set()
    await asyncio.gather(first, second)
    assert one.books.asked == ["BTC"]


async def test_a_book_that_was_requested_before_it_was_due_is_not_shared_and_two_are_never_in_flight() -> None:
    one = queue()
    first = one.ask("BTC")
    await settled()
    await asyncio.sleep(0.001)
    second, third = one.ask("BTC"), one.ask("BTC")
    await settled()
    assert one.books.asked == ["BTC"], "the next one waits for the answer"
    one.books.answer.set()
    before, later, shared = await asyncio.gather(first, second, third)
    assert one.books.asked == ["BTC", "BTC"]
    assert before.captured_at <= later.captured_at == shared.captured_at


async def test_assets_do_not_wait_for_each_other() -> None:
    one = queue()
    waiting = [one.ask(asset) for asset in ("BTC", "ETH", "SOL")]
    await settled()
    assert sorted(one.books.asked) == ["BTC", "ETH", "SOL"]
    one.books.answer.set()
    await asyncio.gather(*waiting)


async def test_reductions_go_first_oldest_first_and_openings_newest_first() -> None:
    one = queue()
    one.books.budget.clear()
    now = time.time_ns()
    wanted = [
        ("old opening", OPENS, 1),
        ("new opening", OPENS, 3),
        ("opening", OPENS, 2),
        ("late reduction", REDUCES, 5),
        ("early reduction", REDUCES, 4),
    ]
    waiting = [one.ask(asset, priority, due_at=now - SECOND + at) for asset, priority, at in wanted]
    await settled()
    one.books.budget.set()
    one.books.answer.set()
    await asyncio.gather(*waiting)
    assert one.books.asked == ["early reduction", "late reduction", "new opening", "opening", "old opening"]


async def test_a_reduction_takes_the_openings_of_its_asset_along() -> None:
    one = queue()
    one.books.budget.clear()
    waiting = [one.ask("BTC"), one.ask("ETH"), one.ask("BTC", REDUCES)]
    await settled()
    one.books.budget.set()
    one.books.answer.set()
    await asyncio.gather(*waiting)
    assert one.books.asked == ["BTC", "ETH"]


async def test_an_opening_that_is_too_old_spends_no_request() -> None:
    one = queue()
    with pytest.raises(ExpiredError):
        await one.ask("BTC", expires_in=-0.001)
    one.books.budget.clear()
    with pytest.raises(ExpiredError):
        await one.ask("BTC", expires_in=0.05)
    one.books.budget.set()
    one.books.answer.set()
    await one.ask("ETH")
    assert one.books.asked == ["ETH"]


async def test_an_error_of_the_venue_goes_to_all_who_wait_and_the_next_request_is_made() -> None:
    one = queue()
    one.books.error = VenueUnavailableError("HTTP 429")
    one.books.budget.clear()
    waiting = [one.ask("BTC"), one.ask("BTC")]
    await settled()
    one.books.budget.set()
    one.books.answer.set()
    for each in waiting:
        with pytest.raises(VenueUnavailableError, match="429"):
            await each
    one.books.error = None
    assert (await one.ask("BTC")).captured is CAPTURED


async def test_who_gives_up_takes_no_request_with_them_and_leaves_none_behind() -> None:
    one = queue()
    one.books.budget.clear()
    first, second, alone = one.ask("BTC"), one.ask("BTC"), one.ask("ETH")
    await settled()
    first.cancel()
    alone.cancel()
    await settled()
    one.books.budget.set()
    one.books.answer.set()
    assert (await second).captured is CAPTURED
    assert one.books.asked == ["BTC"]


async def test_closing_gives_up_what_is_in_flight() -> None:
    one = queue()
    waiting = one.ask("BTC")
    await settled()
    await one.requests.close()
    waiting.cancel()
    assert one.books.asked == ["BTC"]
