"""Subjects: one literal subject per aggregate, the partition as second token (docs/design.md, subjects)."""

from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

PARTITIONS = 64
"""Never changed: the partition is a part of the subject of every stored aggregate."""

LANE_COUNTS = (1, 2, 4, 8)
"""Into how many lanes a stage can be divided: a lane is one or more whole classes of eight partitions."""

MAX_TOKEN = 200
"""Characters; encoded they may be twelve times as many, and the server takes 4,096 bytes a line."""

CLASS_WIDTH = 8
"""Partitions in a class: the requests of a group are stored once a class, not once a subscriber. A lane holds whole
classes."""

_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-:@#/")


def partition(key: str) -> int:
    """FNV-1a-32 of the key, mod 64: the server's own `partition(64, ...)` function."""
    return _partition(key)


@lru_cache(maxsize=1 << 19)
def _partition(key: str) -> int:
    value = 0x811C9DC5
    for byte in key.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value % PARTITIONS


def class_of(key: str) -> int:
    """The first partition of the class that a key's partition is in: 0, 8, ... 56."""
    return partition(key) // CLASS_WIDTH * CLASS_WIDTH


def partition_of(subject: str) -> str:
    """The partition token of a subject: the second one."""
    return subject.split(".", 2)[1]


def part_of(subject: str, parts: int) -> str:
    """The name of one of `parts` equal parts of a partition: that of the aggregates with this subject.

    `subject` is of the form '<stream>.<partition>.<aggregate>'.
    """
    _, number, aggregate = subject.split(".", 2)
    return f"{number}-{crc32(aggregate.encode()) % parts}"


@lru_cache(maxsize=1 << 16)
def token(text: str) -> str:
    """One subject token from any text: bytes outside A-Z a-z 0-9 _ - : @ # / become %XX.

    Raises ValueError for empty text, and for text that is too long: the server disconnects clients that send it.
    """
    if not text:
        raise ValueError("an empty text cannot be a subject token")
    if len(text) > MAX_TOKEN:
        raise ValueError(f"a text of {len(text):,} characters cannot be a subject token; {MAX_TOKEN} are allowed")
    return "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in text.encode())


class Lane(NamedTuple):
    """A range of partitions, both ends included: the unit of work of a stage."""

    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.first:02d}-{self.last:02d}"

    def filters(self, *patterns: str) -> list[str]:
        """Subject filters, one per partition, of patterns such as 'signals.{}.>'."""
        return [pattern.format(number) for pattern in patterns for number in range(self.first, self.last + 1)]


def lanes(count: int) -> list[Lane]:
    """All partitions in `count` equal ranges. Raises ValueError for a count that is not in LANE_COUNTS."""
    if count not in LANE_COUNTS:
        raise ValueError(f"a stage has 1, 2, 4 or 8 lanes, not {count}; set VIBE_LANES to one of them")
    width = PARTITIONS // count
    return [Lane(first, first + width - 1) for first in range(0, PARTITIONS, width)]


def raw(influencer: str, venue: str, channel: str, address: str) -> str:
    return f"raw.{partition(influencer)}.{token(venue)}.{token(channel)}.{token(address)}"


ACCOUNT_TOKEN, MARKET_TOKEN, GAP_TOKEN = "_account", "_market", "_gap"
"""Replace the asset in the SIGNALS subjects of events about a whole account or market, and of gaps in a position."""


def signals(influencer: str, venue: str, asset: str) -> str:
    return f"signals.{partition(influencer)}.{token(venue)}.{token(influencer)}.{token(asset)}"


def groups(influencer: str, venue: str, asset: str) -> str:
    return f"groups.{partition(influencer)}.{token(venue)}.{token(influencer)}.{token(asset)}"


def quotes(influencer: str, venue: str, asset: str) -> str:
    return f"quotes.{partition(influencer)}.{token(venue)}.{token(asset)}"


def exits(subscriber: str) -> str:
    """The subject of the tries of what a subscriber owes. A round of several subscribers has that of one of them."""
    return f"exits.{partition(subscriber)}.{token(subscriber)}"


def marks(venue: str, key: str) -> str:
    """The subject of an asset's marks, or of the events of a market."""
    return f"marks.{token(venue)}.{token(key)}"


def requests(first_partition: int, influencer: str) -> str:
    """The subject of an influencer's requests for the subscribers of one class of partitions, named by its first."""
    return f"requests.{first_partition}.{token(influencer)}"


def matched(influencer: str) -> str:
    return f"requests.matched.{token(influencer)}"


def orders(subscriber: str) -> str:
    """The subject of what becomes of a subscriber's live orders, in REQUESTS."""
    return f"orders.{partition(subscriber)}.{token(subscriber)}"


def executions(subscriber: str) -> str:
    return f"executions.{partition(subscriber)}.{token(subscriber)}"


def discovery(venue: str) -> str:
    return f"discovery.{token(venue)}"


def config(kind: str, key: str) -> str:
    return f"config.{kind}.{token(key)}"


def dead(stage: str, stream: str) -> str:
    return f"dead.{token(stage)}.{token(stream)}"


def checkpoint(stream: str, stage: str, lane: Lane) -> str:
    """The literal subject, inside the stage's output stream, that carries a lane's checkpoints."""
    return f"{stream.lower()}.checkpoint.{stage}.{lane.name}"
