"""One connection of Hyperliquid's books' feed: what is asked, what is answered, and the book that frames make."""

import asyncio
import json
from typing import Any

import pytest

from gateways.hyperliquid.book_channel import HyperliquidBookChannel
from gateways.live_books import Heard, Lack, LiveBook, LiveBooks
from gateways.rate_limit import RateLimiter
from gateways.reconnecting_websocket import Backoff
from gateways.sandbox.hyperliquid import FlowSource, Limits
from gateways.venue_errors import WireError
from tests.contracts.live_books import live_book
from tests.contracts.test_live_books import running
from tests.gateways.test_sandbox_hyperliquid_ws import ORIGIN_NS, Clock, serving

MICRO = 1_000_000


def level(price: str, size: str = "1") -> dict[str, Any]:
    return {"px": price, "sz": size, "n": 1}


def frame(channel: str, data: object) -> str:
    return json.dumps({"channel": channel, "data": data})


def book(time: int, bids: list[str], asks: list[str], coin: str = "BTC") -> str:
    levels = [[level(price) for price in side] for side in (bids, asks)]
    return frame("l2Book", {"coin": coin, "time": time, "levels": levels, "fast": True})


def bbo(time: int, bid: str | None, ask: str | None) -> str:
    sides = [side and level(side, "7") for side in (bid, ask)]
    return frame("bbo", {"coin": "BTC", "time": time, "bbo": sides})


def listening(*frames: str) -> HyperliquidBookChannel:
    channel = HyperliquidBookChannel()
    channel.missing(["BTC"], 0.0)
    for at, one in enumerate(frames, 1):
        assert channel.receive(one, float(at)) is Heard.DATA
    return channel


def prices(channel: HyperliquidBookChannel) -> tuple[list[float], list[float]]:
    found = channel.newest("BTC", 100.0)
    assert found is not None
    bids, asks = ([price / MICRO for price, _ in side] for side in (found.book.bids, found.book.asks))
    return bids, asks


def test_the_book_is_the_newest_and_its_time_in_nanoseconds() -> None:
    channel = listening(book(1_000, ["99"], ["101"]), book(1_500, ["98"], ["100"]))
    found = channel.newest("BTC", 100.0)
    assert found is not None
    assert (found.book.time, found.as_of) == (1_500 * 1_000_000, 2.0)
    assert prices(channel) == ([98], [100])


def test_an_older_frame_changes_nothing() -> None:
    channel = listening(book(1_500, ["98"], ["100"]), bbo(1_600, "99", "100"), book(1_000, ["90"], ["110"]))
    assert channel.receive(bbo(1_550, "97", "101"), 9.0) is Heard.DATA
    assert prices(channel) == ([99, 98], [100])
    found = channel.newest("BTC", 100.0)
    assert found is not None
    assert found.as_of == 1.0, "nor makes the book younger"


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (("99.5", "100.5"), ([99.5, 99, 98], [100.5, 101, 102])),
        (("98", "101.5"), ([98], [101.5, 102])),
        (("99", "101"), ([99, 98], [101, 102])),
        (("101", "102"), ([101, 99, 98], [102])),
        ((None, "101"), ([], [101, 102])),
    ],
)
def test_a_newer_best_bid_and_ask_replace_what_they_contradict(
    top: tuple[str | None, str | None], expected: tuple[list[float], list[float]]
) -> None:
    channel = listening(book(1_000, ["99", "98"], ["101", "102"]), bbo(1_100, *top))
    assert prices(channel) == expected
    found = channel.newest("BTC", 100.0)
    assert found is not None
    assert found.book.time == 1_000 * 1_000_000, "the other levels are not younger for it"


def test_a_best_bid_and_ask_that_the_book_has_seen_already_is_not_used() -> None:
    assert prices(listening(bbo(1_000, "90", "95"), book(1_000, ["99"], ["101"]))) == ([99], [101])


def test_without_a_book_a_best_bid_and_ask_are_none() -> None:
    assert listening(bbo(1_000, "99", "101")).newest("BTC", 100.0) is None


def test_a_book_that_cannot_be_read_is_an_error_until_the_next_one() -> None:
    channel = listening(book(1_000, ["0"], ["101"]))
    with pytest.raises(WireError):
        channel.newest("BTC", 100.0)
    channel.receive(book(1_500, ["99"], ["101"]), 2.0)
    assert prices(channel) == ([99], [101])


def test_books_of_others_are_not_kept() -> None:
    channel = listening(book(1_000, ["99"], ["101"], coin="ETH"))
    assert list(channel.assets) == ["BTC"]
    assert channel.newest("ETH", 100.0) is None


def test_both_feeds_of_a_coin_are_asked_for_once_and_ended_once() -> None:
    channel = HyperliquidBookChannel()
    asked = [json.loads(one) for one in channel.missing(["BTC"], 0.0)]
    assert asked == [
        {"method": "subscribe", "subscription": {"type": "l2Book", "coin": "BTC", "fast": True}},
        {"method": "subscribe", "subscription": {"type": "bbo", "coin": "BTC"}},
    ]
    assert channel.missing(["BTC"], 0.0) == []
    assert [json.loads(one)["method"] for one in channel.drop(["BTC", "ETH"])] == ["unsubscribe", "unsubscribe"]
    assert channel.drop(["BTC"]) == []
    assert len(channel.assets) == 0


def asked(frames: list[str]) -> list[tuple[str, str, str]]:
    wires = [json.loads(frame) for frame in frames]
    return [(wire["method"], wire["subscription"]["type"], wire["subscription"]["coin"]) for wire in wires]


def test_a_book_of_one_more_coin_takes_the_place_of_the_best_prices_of_the_one_used_least_recently() -> None:
    channel = HyperliquidBookChannel(subscriptions=5)
    assert asked(channel.missing(["SOL", "ETH", "BTC"], 0.0)) == [
        ("subscribe", "l2Book", "SOL"),
        ("subscribe", "l2Book", "ETH"),
        ("subscribe", "l2Book", "BTC"),
        ("subscribe", "bbo", "SOL"),
        ("subscribe", "bbo", "ETH"),
    ]
    assert asked(channel.missing(["NEW", "BTC", "SOL", "ETH"], 0.0)) == [
        ("unsubscribe", "bbo", "ETH"),
        ("subscribe", "l2Book", "NEW"),
    ]
    assert channel.missing(["ETH", "NEW", "BTC", "SOL"], 0.0) == [], "an order of use alone changes nothing"
    assert asked(channel.drop(["BTC"])) == [("unsubscribe", "l2Book", "BTC")]
    assert asked(channel.missing(["ETH", "NEW", "SOL"], 0.0)) == [("subscribe", "bbo", "ETH")]


def test_a_best_bid_and_ask_that_is_followed_no_longer_is_not_used() -> None:
    channel = HyperliquidBookChannel(subscriptions=2)
    channel.missing(["BTC"], 0.0)
    channel.receive(bbo(1_900, "98.5", "100.5"), 1.0)
    channel.missing(["ETH", "BTC"], 1.0)
    channel.receive(book(1_000, ["99"], ["101"]), 2.0)
    assert prices(channel) == ([99], [101])


def test_the_first_subscription_without_an_answer_is_suspected_when_the_venue_hangs_up() -> None:
    channel = HyperliquidBookChannel()
    assert channel.suspect() is None
    channel.missing(["BTC", "NOPE"], 0.0)
    assert channel.suspect() == "BTC"
    normalised = {"type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None, "fast": True}
    for subscription in (normalised, {"type": "bbo", "coin": "BTC"}):
        answer = frame("subscriptionResponse", {"method": "subscribe", "subscription": subscription})
        assert channel.receive(answer, 1.0) is Heard.ALIVE
    assert channel.suspect() == "NOPE"


def test_a_refused_subscription_is_asked_for_again() -> None:
    channel = HyperliquidBookChannel()
    channel.missing(["BTC"], 0.0)
    assert channel.receive(frame("error", "Cannot subscribe to more than 1000 channels."), 1.0) is Heard.REFUSED
    (again,) = channel.missing(["BTC"], 1.0)
    assert json.loads(again)["subscription"]["type"] == "l2Book"
    already = frame("error", 'Already subscribed: {"type":"bbo","coin":"BTC"}')
    assert channel.receive(already, 1.0) is Heard.ALIVE
    assert channel.missing(["BTC"], 1.0) == [], "what is subscribed already needs nothing"


def live_books(url: str, **options: Any) -> LiveBooks:
    options = {"capacity": 100, "backoff": Backoff(0.05, 0.1), **options}
    return LiveBooks("hyperliquid", url, HyperliquidBookChannel, RateLimiter(1_000, 1_000), **options)


async def test_beyond_the_venues_limit_the_subscriptions_that_it_has_stay() -> None:
    limited = serving(FlowSource(1, origin_ns=ORIGIN_NS), Clock(1), Limits(subscriptions=3))
    async with limited as sandbox:
        live = live_books(sandbox.ws_url)
        async with running(live):
            live.want("SOL")
            await live_book(live, "SOL")
            live.want("BTC")
            await live_book(live, "BTC")
            live.want("ETH")
            await asyncio.sleep(2.5)
            assert (sandbox.usage.subscriptions, sandbox.usage.subscriptions_refused) == (3, 1), "it is left alone then"
            assert isinstance(live.newest("SOL"), LiveBook)
            assert isinstance(live.newest("BTC"), LiveBook)
            assert live.newest("ETH") in (Lack.HOLE, Lack.UNSUBSCRIBED)


async def test_a_name_that_the_venue_hangs_up_over_is_not_subscribed_again() -> None:
    async with serving(FlowSource(1, origin_ns=ORIGIN_NS), Clock(1)) as sandbox:
        live = live_books(sandbox.ws_url)
        async with running(live):
            live.want("SOL")
            await live_book(live, "SOL")
            live.want("NOPE")
            async with asyncio.timeout(5):
                while sandbox.usage.connections < 2:
                    await asyncio.sleep(0.02)
            await live_book(live, "SOL")
            live.want("NOPE")
            await asyncio.sleep(0.3)
            assert sandbox.usage.connections == 2
            assert isinstance(live.newest("SOL"), LiveBook)
