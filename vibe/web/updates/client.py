"""One client of live updates: what it wants, and the rows that wait for it, never more than a bounded number."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from vibe.web.updates.topics import Topic

MOST_ROWS = 2_000
"""Rows of one topic that wait for a client; one that is slower misses some, and learns so."""
PROGRESS = 5_000
"""Messages without a row for a subscription, after which its client learns how far the stream was looked at: one that
comes back then asks for what is behind that."""
MOST_TOPICS = 32
"""Subscriptions of one client."""


class Made(NamedTuple):
    """A row as it is sent: its place in the stream, its key and identity, and its JSON."""

    sequence: int
    key: str
    identity: str | None
    json: msgspec.Raw


class Wanted:
    """A subscription to a topic, of one key or of all ('')."""

    def __init__(self, topic: Topic, key: str) -> None:
        self.topic = topic
        self.key = key
        self.sent = 0
        """The sequence up to which everything was put into the queue."""
        self.reported = 0
        """The sequence that the client knows."""
        self.history: list[Made] | None = None
        """New rows, while older ones are read for the client."""
        self._rows: list[Made] = []
        self._newest: dict[str, Made] = {}
        self._missed = False

    def put(self, rows: Iterable[Made], upto: int) -> bool:
        """Queue the rows behind those that were queued; returns whether there are any."""
        found = [row for row in rows if row.sequence > self.sent and (not self.key or row.key == self.key)]
        if self.history is not None:
            self.history += found
            return False
        self.sent = max(self.sent, upto)
        for row in found:
            if row.identity is None:
                self._rows.append(row)
            else:
                self._newest.pop(row.identity, None)
                self._newest[row.identity] = row
        if len(self._rows) > MOST_ROWS or len(self._newest) > MOST_ROWS:
            self._missed = True
            self._rows.clear()
            self._newest.clear()
        return bool(found) or self._progress_due

    @property
    def _progress_due(self) -> bool:
        return self.sent - self.reported >= PROGRESS

    def miss(self, upto: int) -> None:
        """Rows up to this sequence are not sent: the client has to read the read models."""
        self._missed = True
        self.sent = max(self.sent, upto)

    def take(self) -> Iterator[bytes]:
        """The frames that wait."""
        if self._missed:
            self._missed = False
            self._rows.clear()
            self._newest.clear()
            self.reported = self.sent
            yield frame(op="reset", topic=self.topic.name, key=self.key, seq=self.sent)
            return
        rows = self._rows or list(self._newest.values())
        if rows:
            self._rows, self._newest = [], {}
            self.reported = rows[-1].sequence
            yield frame(topic=self.topic.name, key=self.key, seq=rows[-1].sequence, rows=[row.json for row in rows])
        elif self._progress_due:
            self.reported = self.sent
            yield frame(topic=self.topic.name, key=self.key, seq=self.sent, rows=[])


class Client:
    """The subscriptions of one socket, and an event that something waits to be sent."""

    def __init__(self) -> None:
        self.wanted: dict[tuple[str, str], Wanted] = {}
        self.lag = False
        self.waiting = asyncio.Event()
        self._frames: list[bytes] = []

    def send(self, sent: bytes) -> None:
        """Send one frame as it is."""
        self._frames.append(sent)
        self.waiting.set()

    def take(self) -> list[bytes]:
        """Everything that waits."""
        self.waiting.clear()
        found, self._frames = self._frames, []
        return [*found, *(one for wanted in self.wanted.values() for one in wanted.take())]


def frame(**fields: object) -> bytes:
    """A frame as JSON."""
    return msgspec.json.encode(fields)
