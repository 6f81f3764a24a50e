"""The one parser of message blocks, as both connections use it: the same bytes in any pieces give the same messages."""

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from streams.nats_protocol import (
    BlockParser,
    ClientParser,
    Deliveries,
    Delivery,
    Status,
    parse_reply,
    parse_status,
    split_message,
    stream_sequences,
)

HEADERS = b"NATS/1.0\r\nNats-Msg-Id: evt_1\r\nNats-Batch-Sequence: 1\r\n\r\n"
EXPIRED = b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\n\r\n"
LOOKS_LIKE_PROTOCOL = b"\r\nPING\r\nMSG a 1 b 5\r\nhello\r\nHMSG a 1 b 12 17\r\nNATS/1.0\r\n\r\nhello\r\n-ERR 'no'\r\n"


def msg(subject: bytes, reply: bytes, payload: bytes, subscription: bytes = b"2") -> bytes:
    return b"MSG %b %b %b%d\r\n%b\r\n" % (subject, subscription, reply and reply + b" ", len(payload), payload)


def hmsg(subject: bytes, reply: bytes, payload: bytes, headers: bytes = HEADERS, subscription: bytes = b"2") -> bytes:
    total = len(headers) + len(payload)
    fields = (subject, subscription, reply and reply + b" ", len(headers), total, headers, payload)
    return b"HMSG %b %b %b%d %d\r\n%b%b\r\n" % fields


class Wiring(Protocol):
    """A parser as one of the connections uses it: subscriptions 2 and 3 are collected."""

    arrived: dict[bytes, Deliveries]
    rest: list[bytes]
    """Every line and message that is not collected, whole."""

    def feed(self, data: bytes) -> None: ...

    def reset(self) -> None: ...


class InBulkConnection:
    def __init__(self) -> None:
        self.rest: list[bytes] = []
        self._parser = BlockParser((b"2", b"3"), self.rest.append, lambda head, piece: self.rest.append(piece))
        self.arrived = self._parser.arrived

    def feed(self, data: bytes) -> None:
        self._parser.feed(data)

    def reset(self) -> None:
        self._parser.reset()


class Library:
    """A client library that only records what it is given."""

    def __init__(self) -> None:
        self.rest: list[bytes] = []
        self.resets = 0

    async def parse(self, data: bytes = b"") -> None:
        self.rest.append(data)

    def reset(self) -> None:
        self.resets += 1


class InClient:
    def __init__(self) -> None:
        self.arrived: dict[bytes, Deliveries] = {}
        self._library = Library()
        self.rest = self._library.rest
        self._parser = ClientParser(self._library)
        for subscription in (b"2", b"3"):
            self._parser.sinks[subscription] = self._sink(subscription)

    def _sink(self, subscription: bytes) -> Callable[[Deliveries], None]:
        def sink(deliveries: Deliveries) -> None:
            kept = self.arrived.setdefault(subscription, Deliveries.none())
            for column, more in zip(kept, deliveries, strict=True):
                column.extend(more)

        return sink

    def feed(self, data: bytes) -> None:
        with pytest.raises(StopIteration):  # it never waits
            self._parser.parse(data).send(None)

    def reset(self) -> None:
        self._parser.reset()
        assert self._library.resets == 1


@pytest.fixture(params=["bulk connection", "client"])
def wiring(request: pytest.FixtureRequest) -> Callable[[], Wiring]:
    return InBulkConnection if request.param == "bulk connection" else InClient


def fed(wiring: Callable[[], Wiring], data: bytes, size: int) -> Wiring:
    made = wiring()
    for start in range(0, len(data), size):
        made.feed(data[start : start + size])
    return made


INFO = b'INFO {"server_id":"X","headers":true,"version":"2.15.1 of today"}\r\n'
ERROR = b"-ERR 'Permissions Violation for Publish to \"a b\"'\r\n"
ANSWER = msg(b"_INBOX.a.answer.1", b"", b'{"type":"x"}', b"1")
ASKED = hmsg(b"asked", b"_INBOX.b", LOOKS_LIKE_PROTOCOL, subscription=b"11")

RECORDED = b"".join(
    [
        INFO,
        b"PONG\r\n",
        msg(b"raw.1", b"$JS.ACK.S.C.1.1.1.7.4", b"plain"),
        hmsg(b"raw.2", b"$JS.ACK.S.C.1.2.2.7.3", b"with headers"),
        b"PING\r\n",
        hmsg(b"raw.3", b"$JS.ACK.S.C.1.3.3.7.2", LOOKS_LIKE_PROTOCOL),
        ASKED,
        msg(b"raw.4", b"$JS.ACK.S.C.1.4.4.7.1", LOOKS_LIKE_PROTOCOL),
        hmsg(b"_INBOX.a.pull", b"", b"", EXPIRED),
        ANSWER,
        msg(b"other.1", b"$JS.ACK.T.D.1.8.1.7.0", b"of another subscription", b"3"),
        hmsg(b"raw.5", b"$JS.ACK.S.C.1.5.5.7.0", b""),
        msg(b"raw.6", b"$JS.ACK.S.C.1.6.6.7.0", b""),
        ERROR,
    ]
)


def test_any_pieces_give_the_same_messages(wiring: Callable[[], Wiring]) -> None:
    for size in range(1, len(RECORDED) + 1):
        parsed = fed(wiring, RECORDED, size)
        assert parsed.arrived == {
            b"2": Deliveries(
                [b"raw.1", b"raw.2", b"raw.3", b"raw.4", b"raw.5", b"raw.6"],
                [
                    *(b"$JS.ACK.S.C.1.%d.%d.7.%d" % (number, number, 5 - number) for number in range(1, 6)),
                    b"$JS.ACK.S.C.1.6.6.7.0",
                ],
                [b"plain", b"with headers", LOOKS_LIKE_PROTOCOL, LOOKS_LIKE_PROTOCOL, b"", b""],
                [EXPIRED],
            ),
            b"3": Deliveries([b"other.1"], [b"$JS.ACK.T.D.1.8.1.7.0"], [b"of another subscription"], []),
        }, size
        assert parsed.rest == [INFO, b"PONG\r\n", b"PING\r\n", ASKED, ANSWER, ERROR], size


@pytest.mark.parametrize("make", [msg, hmsg])
@pytest.mark.parametrize("reply", [b"$JS.ACK.S.C.1.1.1.7.0", b""])
def test_a_message_is_given_with_its_last_byte_and_not_before(
    wiring: Callable[[], Wiring], make: Callable[[bytes, bytes, bytes], bytes], reply: bytes
) -> None:
    whole = make(b"raw.1", reply, b"payload")
    parsed = fed(wiring, whole[:-1], len(whole))
    assert parsed.arrived == {}
    parsed.feed(whole[-1:])
    (deliveries,) = parsed.arrived.values()
    assert deliveries.payloads == ([b"payload"] if reply else [])
    assert len(deliveries.statuses) == (0 if reply else 1)


def test_nothing_of_a_lost_connection_is_kept(wiring: Callable[[], Wiring]) -> None:
    parsed = fed(wiring, msg(b"raw.1", b"$JS.ACK.S.C.1.1.1.7.0", b"payload")[:-3], 1000)
    parsed.reset()
    parsed.feed(msg(b"raw.2", b"$JS.ACK.S.C.1.2.2.7.0", b"new"))
    assert parsed.arrived[b"2"].subjects == [b"raw.2"]
    assert parsed.rest == []


def test_a_large_message_in_small_pieces_is_put_together_once() -> None:
    class Counting(BlockParser):
        copied = 0

        def _parse(self, block: bytes) -> tuple[int, int]:
            self.copied += len(block)
            return super()._parse(block)

    payload = bytes(range(256)) * 4096
    parser = Counting((b"2",), lambda line: None, lambda head, piece: None)
    whole = msg(b"raw.1", b"$JS.ACK.S.C.1.1.1.7.0", payload)
    for start in range(0, len(whole), 1000):
        parser.feed(whole[start : start + 1000])
    assert parser.arrived[b"2"].payloads == [payload]
    assert parser.copied < 1.1 * len(payload)


async def test_messages_of_a_subscription_that_ended_meanwhile_are_dropped() -> None:
    class Unsubscribing(Library):
        async def parse(self, data: bytes = b"") -> None:
            await super().parse(data)
            parser.sinks.clear()

    received: list[Deliveries] = []
    parser = ClientParser(Unsubscribing())
    parser.sinks[b"2"] = received.append
    await parser.parse(msg(b"raw.1", b"$JS.ACK.S.C.1.1.1.7.0", b"x") + b"PING\r\n")
    assert received == []


@pytest.mark.parametrize("payload", [b"", b"payload", LOOKS_LIKE_PROTOCOL])
@pytest.mark.parametrize("headers", [b"", HEADERS])
def test_a_message_that_is_handed_on_is_split(payload: bytes, headers: bytes) -> None:
    whole = hmsg(b"a", b"", payload, headers) if headers else msg(b"a", b"", payload)
    head = whole[: whole.index(b"\n")].split(b" ")
    assert split_message(head, whole) == (headers, payload)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (EXPIRED, Status(408, "Request Timeout", 3, 0)),
        (b"NATS/1.0 503\r\n\r\n", Status(503, "", 0, 0)),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Stream: 8\r\n\r\n", Status(100, "Idle Heartbeat", 0, 0)),
        (
            b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\nNats-Pending-Messages: 1\r\nNats-Pending-Bytes: 99\r\n\r\n",
            Status(409, "Message Size Exceeds MaxBytes", 1, 99),
        ),
        (b"", Status(0, "", 0, 0)),
    ],
)
def test_statuses(headers: bytes, expected: Status) -> None:
    assert parse_status(headers) == expected


def replies(sequences: list[int]) -> Iterator[bytes]:
    for number, sequence in enumerate(sequences, 1):
        yield b"$JS.ACK.S-1.C.1.%d.%d.1700000000000000000.%d" % (sequence, number, 9)


@pytest.mark.parametrize("sequences", [[7], [7, 8, 9], [7, 9, 10], [1, 11, 111]])
def test_stream_sequences(sequences: list[int]) -> None:
    found = list(replies(sequences))
    assert parse_reply(found[-1]) == Delivery(sequences[-1], len(sequences), 9)
    assert stream_sequences(found, sequences[0], sequences[-1]) == sequences
