"""Signals in the log that make assets traded, and what a stage has stored about them."""

from typing import Any

from domain.events import Event, Venue
from handlers.live.event_codec import codec
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.reader import read_all
from streams.topology import GROUPS
from tests.domain.facts import T0, signal


async def traded(log: Connection, *assets: str, venue: Venue = Venue.HYPERLIQUID, market: str = "") -> None:
    for asset in assets:
        event = signal(f"s-{asset}", venue=venue, asset=asset, market=market)
        await store(log, event, subjects.signals("ann", venue.value, asset))


async def store(log: Connection, event: Event, subject: str) -> None:
    payload = codec().encode(event, id=f"{subject}", source="tests", time_ns=T0, correlation="c")
    await append(log, [Record(subject, payload)])


async def stored(log: Connection, kind: type[Event]) -> list[Any]:
    decode = codec().decode
    return [
        event.data
        async for batch in read_all(log, GROUPS.name)
        for one in batch
        for event in decode(GROUPS.name, one.sequence, one.subject, one.payload)
        if isinstance(event.data, kind)
    ]
