"""The NATS protocol as read by clients that take messages in blocks, without an object or a task for each.

`BlockParser` is the one parser of MSG and HMSG. Chosen subscriptions are collected column by column; everything else
of the byte stream is handed on, piece by complete piece. Two connections use it: `BulkConnection`, which speaks the
protocol itself, and `Connection`, where `ClientParser` is put in front of the parser of nats-py.

Protocol: https://docs.nats.io/reference/reference-protocols/nats-protocol. Deliveries of JetStream: docs/nats.md.
"""

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple, Protocol

import msgspec

_decode_integers = msgspec.json.Decoder(list[int]).decode


class Deliveries(NamedTuple):
    """Messages of one subscription in order, as parallel lists; `statuses` are header blocks that came without one.

    A message from a JetStream consumer has a reply subject; what has none is a status of the consumer.
    """

    subjects: list[bytes]
    replies: list[bytes]
    payloads: list[bytes]
    statuses: list[bytes]

    @classmethod
    def none(cls) -> "Deliveries":
        return cls([], [], [], [])


class BlockParser:
    """Takes the bytes of a connection in pieces of any size.

    Messages of the subscriptions whose ids are in `collected` are kept in `arrived`, by subscription id, for the caller
    to take. Every other message goes to `on_message(head, piece)`: the fields of its first line, and all of its bytes.
    Protocol lines go to `on_line(line)`, with their line break.
    """

    def __init__(
        self,
        collected: Container[bytes],
        on_line: Callable[[bytes], None],
        on_message: Callable[[list[bytes], bytes], None],
    ) -> None:
        self._collected = collected
        self._on_line = on_line
        self._on_message = on_message
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = 0
        self.arrived: dict[bytes, Deliveries] = {}

    def reset(self) -> None:
        """A new connection begins: what was left of the old one is void."""
        self._parts.clear()
        self._size = self._needed = 0

    def feed(self, data: bytes) -> None:
        """Parse what is complete and keep the rest. Raises ValueError for what is not the NATS protocol."""
        self._parts.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return  # a large message is put together once, not with every piece of it
        block = b"".join(self._parts)
        used, self._needed = self._parse(block)
        self._parts = [block[used:]]
        self._size = len(block) - used

    def _parse(self, block: bytes) -> tuple[int, int]:
        """How many bytes were used, and how many are needed at least before it is worth going on."""
        find, size, position = block.find, len(block), 0
        current, (subjects, replies, payloads, _) = b"", Deliveries.none()
        # The loop runs once a message, so it is written for speed: "\n" is found four times as fast as "\r\n" (the "\r"
        # in front ends up in the last field, where int() ignores it), payloads are jumped over, never searched, and a
        # message of the same subscription as the one before, which is nearly every one, is added without a look-up.
        while (eol := find(b"\n", position)) >= 0:
            head = block[position:eol].split(b" ")
            verb = head[0]
            if verb == b"HMSG" and len(head) == 6:
                _, subject, subscription, reply, headers, total = head
                start = eol + 1
                end = start + int(total)
                if end + 2 > size:
                    return position, end + 2 - position
                if subscription == current:
                    subjects.append(subject)
                    replies.append(reply)
                    payloads.append(block[start + int(headers) : end])
                    position = end + 2
                    continue
            elif verb == b"MSG" and len(head) == 5:
                _, subject, subscription, reply, total = head
                start = eol + 1
                end = start + int(total)
                if end + 2 > size:
                    return position, end + 2 - position
                if subscription == current:
                    subjects.append(subject)
                    replies.append(reply)
                    payloads.append(block[start:end])
                    position = end + 2
                    continue
            elif verb == b"MSG" or verb == b"HMSG":  # without a reply
                end = eol + 1 + int(head[-1])
                if end + 2 > size:
                    return position, end + 2 - position
            else:
                self._on_line(block[position : eol + 1])
                position = eol + 1
                continue
            piece = block[position : end + 2]
            if head[2] in self._collected:
                current = head[2]
                subjects, replies, payloads, _ = self._collect(head, piece)
            else:
                self._on_message(head, piece)
            position = end + 2
        return position, 0

    def _collect(self, head: list[bytes], piece: bytes) -> Deliveries:
        """Add a message of a collected subscription; returns the subscription's deliveries."""
        deliveries = self.arrived.get(head[2])
        if deliveries is None:
            deliveries = self.arrived[head[2]] = Deliveries.none()
        headers, payload = split_message(head, piece)
        if len(head) == (6 if head[0] == b"HMSG" else 5):
            deliveries.subjects.append(head[1])
            deliveries.replies.append(head[3])
            deliveries.payloads.append(payload)
        else:
            deliveries.statuses.append(headers)
        return deliveries


def split_message(head: list[bytes], piece: bytes) -> tuple[bytes, bytes]:
    """(header block, payload) of a message that `BlockParser` handed on; the headers may be empty."""
    end = len(piece) - 2
    payload = end - int(head[-1])
    body = payload + int(head[-2]) if head[0] == b"HMSG" else payload
    return piece[payload:body], piece[body:end]


class LineParser(Protocol):
    """The parser of a client library."""

    async def parse(self, data: bytes = b"") -> None: ...

    def reset(self) -> None: ...


Sink = Callable[[Deliveries], None]
"""Receives the deliveries of one subscription, a whole read of the socket at once."""


class ClientParser:
    """Takes the place of the client library's parser and hands on to it.

    The library makes a task step, a parsed header and an object of every message. The messages of subscriptions in
    `sinks` (by subscription id) are taken out before that; the library gets everything else, piece by piece.
    """

    def __init__(self, library: LineParser) -> None:
        self._library = library
        self._rest: list[bytes] = []
        self.sinks: dict[bytes, Sink] = {}
        self._blocks = BlockParser(self.sinks, self._rest.append, lambda head, piece: self._rest.append(piece))

    def reset(self) -> None:
        """A new connection begins."""
        self._blocks.reset()
        self._rest.clear()
        self._library.reset()

    async def parse(self, data: bytes = b"") -> None:
        """Take the next bytes of the connection."""
        self._blocks.feed(bytes(data))
        arrived, self._blocks.arrived = self._blocks.arrived, {}
        rest = self._rest.copy()
        self._rest.clear()
        for piece in rest:
            await self._library.parse(piece)
        for subscription, deliveries in arrived.items():
            sink = self.sinks.get(subscription)
            if sink is not None:  # unsubscribed meanwhile
                sink(deliveries)


class Status(NamedTuple):
    """What the server reports about a pull instead of a message; 0 where it gives no number."""

    code: int
    text: str
    pending_messages: int
    pending_bytes: int


def parse_status(headers: bytes) -> Status:
    """The status in a header block such as `NATS/1.0 408 Request Timeout`."""
    first, *lines = headers.decode(errors="replace").strip().split("\r\n")
    _, _, status = first.partition(" ")
    code, _, text = status.partition(" ")
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    pending = (int(values.get(f"Nats-Pending-{what}", 0)) for what in ("Messages", "Bytes"))
    return Status(int(code or 0), text, *pending)


class Delivery(NamedTuple):
    """What the reply subject of a delivery says: its stream sequence, its number among the consumer's deliveries, and
    how many more messages the consumer had to deliver."""

    sequence: int
    number: int
    pending: int


def parse_reply(reply: bytes) -> Delivery:
    """$JS.ACK.<stream>.<consumer>.<times>.<stream sequence>.<consumer sequence>.<time>.<pending>, from the right."""
    _, sequence, number, _, pending = reply.rsplit(b".", 4)
    return Delivery(int(sequence), int(number), int(pending))


def stream_sequences(replies: Sequence[bytes], first: int, last: int) -> list[int]:
    """The stream sequences in consecutive reply subjects of one consumer, of which the ends are known."""
    # A consumer's sequences only rise. So where the ends are as far apart as there are messages nothing is missing, and
    # else the numbers of all replies, which begin alike, are decoded as one list, five times as fast as one by one.
    if last - first == len(replies) - 1:
        return list(range(first, last + 1))
    same = replies[0].rsplit(b".", 4)[0] + b"."
    return _decode_integers(b"[%b]" % b",".join(replies).replace(same, b"").replace(b".", b","))[::4]
