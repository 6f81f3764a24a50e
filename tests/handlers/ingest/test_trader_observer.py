"""The traders of a minute are stored once, also by two instances, and found by the read model."""

from domain.events import TradersObserved, Venue
from domain.observed_traders import MINUTE
from handlers.ingest.trader_observer import TraderObserver
from handlers.live.event_codec import codec
from streams.connection import Connection
from streams.reader import read_all

START = 29_900_000 * MINUTE


async def stored(log: Connection) -> list[TradersObserved]:
    return [
        event.data
        async for batch in read_all(log, "DISCOVERY")
        for each in batch
        for event in codec().decode("DISCOVERY", each.sequence, each.subject, each.payload)
    ]


async def test_two_instances_store_a_minute_once(log: Connection) -> None:
    for _ in range(2):
        observer = TraderObserver(log, lambda: START, Venue.HYPERLIQUID)
        observer.traded(["0xa", "0xb"], 5, START)
        observer.traded(["0xa", "0xc"], 7, START + MINUTE)
        await observer.finish()
    first, second = await stored(log)
    assert [(one.address, one.notional_micros) for one in first.traders] == [("0xa", 5), ("0xb", 5)]
    assert [(one.address, one.notional_micros) for one in second.traders] == [("0xa", 7), ("0xc", 7)]
    assert (first.minute, second.minute) == (START, START + MINUTE)
