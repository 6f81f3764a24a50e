"""One connection of Polymarket's market channel: whole books, changes in between, holes, and what repairs them."""

import json
from typing import Any

import pytest

from gateways.live_books import Heard
from gateways.polymarket.book_channel import PolymarketBookChannel
from gateways.venue_errors import WireError

YES, NO = "71", "52"
MILLIS = "1757908892351"


def book(
    bids: list[tuple[str, str]], asks: list[tuple[str, str]], token: str = YES, timestamp: str = MILLIS
) -> dict[str, Any]:
    sides = {
        name: [{"price": price, "size": size} for price, size in levels]
        for name, levels in (("bids", bids), ("asks", asks))
    }
    return {"event_type": "book", "asset_id": token, "market": "0x1", **sides, "timestamp": timestamp, "hash": "0x0"}


def change(price: str, size: str, side: str = "BUY", token: str = YES, **best: str) -> dict[str, Any]:
    changes = [{"asset_id": token, "price": price, "size": size, "side": side, "hash": "56", **best}]
    return {"event_type": "price_change", "market": "0x1", "timestamp": MILLIS, "price_changes": changes}


OPENING = book([(".47", "30"), (".48", "10")], [(".52", "20"), (".51", "5")])


def listening(*events: object, tokens: tuple[str, ...] = (YES,)) -> PolymarketBookChannel:
    channel = PolymarketBookChannel()
    channel.missing(tokens, 0.0)
    for at, event in enumerate(events, 1):
        assert channel.receive(json.dumps(event), float(at)) is Heard.DATA
    return channel


def cents(
    channel: PolymarketBookChannel, at: float = 5.0
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]] | None:
    """The levels as (cents, shares); None without a book."""
    found = channel.newest(YES, at)
    if found is None:
        return None
    bids, asks = (
        [(price // 10_000, size // 1_000_000) for price, size in side] for side in (found.book.bids, found.book.asks)
    )
    return bids, asks


def test_a_whole_book_is_sorted_best_first() -> None:
    assert cents(listening([OPENING])) == ([(48, 10), (47, 30)], [(51, 5), (52, 20)])


def test_before_the_first_book_there_is_none_and_changes_make_none() -> None:
    assert cents(listening(change("0.5", "200"))) is None


def test_changes_place_replace_and_remove_levels() -> None:
    channel = listening(
        OPENING,
        change("0.49", "7", best_bid="0.49", best_ask="0.51"),
        change("0.510", "9", "SELL", best_bid="0.49", best_ask="0.51"),
        change("0.47", "0", best_bid="0.49", best_ask="0.51"),
    )
    assert cents(channel) == ([(49, 7), (48, 10)], [(51, 9), (52, 20)])


def test_the_next_whole_book_replaces_everything() -> None:
    channel = listening(OPENING, change("0.49", "7"), book([(".40", "1")], [(".60", "2")]))
    assert cents(channel) == ([(40, 1)], [(60, 2)])


def test_a_side_without_orders_is_stated_as_0_and_1() -> None:
    channel = listening(
        book([(".48", "1")], [(".52", "1")]),
        change(".48", "0", best_bid="0", best_ask="0.52"),
        change(".52", "0", "SELL", best_bid="0", best_ask="1"),
    )
    assert cents(channel) == ([], [])


@pytest.mark.parametrize(
    "event",
    [
        change("0.45", "7", best_bid="0.49", best_ask="0.51"),
        change("0.45", "7", best_bid="0.48", best_ask="0.50"),
        change("0.45", "seven"),
        change("0.45", "7", "HOLD"),
        change("1.45", "7"),
        book([(".48", "-1")], []),
        book([("x", "1")], []),
    ],
)
def test_what_does_not_fit_leaves_a_hole_until_the_next_whole_book(event: dict[str, Any]) -> None:
    channel = listening(OPENING, event)
    assert cents(channel) is None
    channel.receive(json.dumps(change("0.49", "7", best_bid="0.49", best_ask="0.51")), 3.0)
    assert cents(channel) is None
    channel.receive(json.dumps(OPENING), 4.0)
    assert cents(channel) == ([(48, 10), (47, 30)], [(51, 5), (52, 20)])


def test_a_crossed_book_is_none() -> None:
    assert cents(listening(OPENING, change("0.51", "7"))) is None
    assert cents(listening(OPENING, change("0.51", "7"), change("0.51", "0", "SELL"))) is not None


def test_a_hole_is_repaired_by_a_new_subscription_when_no_book_comes() -> None:
    channel = listening(OPENING)
    channel.receive(json.dumps(change("0.45", "7", best_bid="0.49")), 10.0)
    assert channel.missing([YES], 10.5) == [], "the book after a trade may be on its way"
    assert [json.loads(frame)["operation"] for frame in channel.missing([YES], 11.5)] == ["unsubscribe", "subscribe"]
    assert channel.missing([YES], 12.0) == []
    assert len(channel.missing([YES], 17.0)) == 2, "asked for again when nothing came"


def test_a_frame_that_cannot_be_read_ends_the_trust_in_all_books() -> None:
    channel = listening(OPENING)
    for text in ("{not json", "[[]]", '{"price_changes": 7}'):
        with pytest.raises(WireError, match="market channel"):
            channel.receive(text, 2.0)


def test_what_is_no_data_shows_that_the_connection_lives() -> None:
    channel = listening(OPENING)
    assert channel.receive("PONG", 4.0) is Heard.ALIVE
    found = channel.newest(YES, 4.0)
    assert found is not None
    assert found.as_of == 4.0, "an unchanged book is current"


def test_pongs_alone_prove_nothing_for_long() -> None:
    channel = listening(OPENING)
    channel.receive("PONG", 12.0)
    found = channel.newest(YES, 12.0)
    assert found is not None
    assert found.as_of == 1.0


def test_a_book_that_did_not_change_for_long_is_to_be_checked() -> None:
    channel = listening(OPENING, tokens=(YES, NO))
    channel.receive(json.dumps(book([(".4", "1")], [(".6", "1")], NO)), 21.5)
    found = channel.newest(YES, 22.0)
    assert found is not None
    assert found.as_of == 1.0
    other = channel.newest(NO, 22.0)
    assert other is not None
    assert other.as_of == 21.5


def test_tokens_are_subscribed_many_at_a_time() -> None:
    channel = PolymarketBookChannel()
    tokens = [str(number) for number in range(70)]
    (first,) = channel.missing(tokens, 0.0)
    assert json.loads(first) == {"assets_ids": tokens[:50], "type": "market", "custom_feature_enabled": True}
    (second,) = channel.missing(tokens, 0.0)
    assert json.loads(second) == {"operation": "subscribe", "assets_ids": tokens[50:]}
    assert channel.missing(tokens, 0.0) == []
    assert [json.loads(frame) for frame in channel.drop(["3", "4"])] == [
        {"operation": "unsubscribe", "assets_ids": ["3", "4"]}
    ]
    assert channel.drop([]) == []


def test_a_new_tick_makes_the_terms_of_its_token_old() -> None:
    changed: list[str] = []
    channel = PolymarketBookChannel(changed.append)
    event = {
        "event_type": "tick_size_change",
        "asset_id": YES,
        "market": "0x1",
        "old_tick_size": "0.01",
        "timestamp": "1",
    }
    channel.receive(json.dumps(event), 1.0)
    assert changed == [YES]


def test_a_market_that_has_ended_has_no_book_and_none_is_asked_for() -> None:
    changed: list[str] = []
    channel = PolymarketBookChannel(changed.append)
    channel.missing([YES], 0.0)
    channel.receive(json.dumps(OPENING), 1.0)
    channel.receive(json.dumps({"event_type": "market_resolved", "market": "0x1", "assets_ids": [YES, NO]}), 2.0)
    assert cents(channel) is None
    assert channel.missing([YES], 60.0) == []
    assert changed == [YES, NO]
