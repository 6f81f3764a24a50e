"""Deliveries in blocks on an ordinary client connection.

The library makes a task step, a parsed header and an object of every message. For the inboxes of feeds this parser
takes their deliveries out of the byte stream first, a whole read at once, and hands everything else to the library's
own parser, piece by complete piece.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Delivery(NamedTuple):
    """One message for a sink; `reply` is empty for a status, which is all in `headers`."""

    subject: bytes
    reply: bytes
    headers: bytes
    payload: bytes


Sink = Callable[[list[Delivery]], None]


class LineParser(Protocol):
    """What the library's parser offers."""

    async def parse(self, data: bytes = b"") -> None: ...

    def reset(self) -> None: ...


class BlockParser:
    """Stands in for the library's parser. `sinks` maps subscription ids to whoever wants their messages in blocks."""

    def __init__(self, library: LineParser) -> None:
        self._library = library
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = 0
        self.sinks: dict[bytes, Sink] = {}

    def reset(self) -> None:
        """A new connection begins: what was left of the old one is void."""
        self._parts.clear()
        self._size = self._needed = 0
        self._library.reset()

    async def parse(self, data: bytes = b"") -> None:
        """Take the next bytes of the connection, in whatever pieces they come."""
        self._parts.append(bytes(data))
        self._size += len(data)
        if self._size < self._needed:
            return  # a large message is put together once, not with every piece of it
        block = b"".join(self._parts)
        taken: dict[bytes, list[Delivery]] = {}
        used, self._needed = await self._parse(block, taken)
        self._parts = [block[used:]]
        self._size = len(block) - used
        for subscription, deliveries in taken.items():
            sink = self.sinks.get(subscription)
            if sink is not None:
                sink(deliveries)

    async def _parse(self, block: bytes, taken: dict[bytes, list[Delivery]]) -> tuple[int, int]:
        position, size, find, sinks = 0, len(block), block.find, self.sinks
        while (eol := find(b"\n", position)) >= 0:
            head = block[position:eol].split(b" ")
            verb = head[0]
            if verb != b"MSG" and verb != b"HMSG":
                await self._library.parse(block[position : eol + 1])
                position = eol + 1
                continue
            start = eol + 1
            end = start + int(head[-1])
            if end + 2 > size:
                return position, end + 2 - position
            subscription = head[2]
            if subscription not in sinks:
                await self._library.parse(block[position : end + 2])
            else:
                headed = verb == b"HMSG"
                payload = start + int(head[-2]) if headed else start
                reply = head[3] if len(head) == (6 if headed else 5) else b""
                delivery = Delivery(head[1], reply, block[start:payload], block[payload:end])
                taken.setdefault(subscription, []).append(delivery)
            position = end + 2
        return position, 0
