"""Traders observed in public trades: counted once, by minute, in bounded memory."""

from domain.events import ObservedTrader, Venue
from domain.observed_traders import BATCH, MINUTE, ObservedTraders

START = 10 * MINUTE


def counting(most: int = 1_000) -> ObservedTraders:
    return ObservedTraders(Venue.HYPERLIQUID, START, most=most)


def test_a_minute_is_given_out_when_it_is_over() -> None:
    traders = counting()
    assert traders.traded(["b", "a"], 5, START) == []
    assert traders.traded(["a", "c"], 7, START + MINUTE - 1) == []
    assert traders.over(START + MINUTE - 1) == []
    (first,) = traders.traded(["a", "b"], 1, START + MINUTE)
    assert (first.venue, first.minute) == (Venue.HYPERLIQUID, START)
    assert first.traders == (
        ObservedTrader(address="a", trades=2, notional_micros=12),
        ObservedTrader(address="b", trades=1, notional_micros=5),
        ObservedTrader(address="c", trades=1, notional_micros=7),
    )
    (second,) = traders.over(START + 2 * MINUTE)
    assert second.minute == START + MINUTE
    assert second.observed_id != first.observed_id
    assert traders.over(START + 3 * MINUTE) == []
    assert traders.take() == []


def test_a_trade_with_itself_is_counted_once_and_marked() -> None:
    traders = counting()
    traders.traded(["a", "a"], 5, START)
    assert traders.take()[0].traders == (ObservedTrader(address="a", trades=1, notional_micros=5, self_trades=1),)


def test_repeated_trades_and_those_before_the_beginning_are_not_new() -> None:
    traders = counting()
    assert not traders.new("BTC", START - 1, 1)
    assert traders.new("BTC", START, 2)
    assert traders.new("BTC", START, 3)
    assert not traders.new("BTC", START, 2)
    assert traders.new("BTC", START + 5, 4)
    assert not traders.new("BTC", START, 9)
    assert not traders.new("BTC", START + 5, 4)
    assert traders.new("ETH", START, 2)


def test_addresses_beyond_the_most_are_left_out_of_their_minute() -> None:
    traders = counting(most=2)
    traders.traded(["a", "b"], 1, START)
    traders.traded(["a", "c"], 1, START)
    assert traders.left_out == 1
    assert [one.address for one in traders.take()[0].traders] == ["a", "b"]
    traders.traded(["c", "d"], 1, START)
    assert [one.address for one in traders.take()[0].traders] == ["c", "d"]


def test_many_traders_are_divided_into_batches_with_ids_of_their_own() -> None:
    traders = counting(most=2 * BATCH)
    for number in range(BATCH + 1):
        traders.traded([f"{number:04d}"], 1, START)
    found = traders.take()
    assert [len(event.traders) for event in found] == [BATCH, 1]
    assert len({event.observed_id for event in found}) == 2
