"""A stage's output computed again: each event from the input event that it names as its cause.

A stage is a fold: its state is what it has written. So its state is folded from its output here, and each input event
is handled again in the state in which it was. The input is read along; of it, a window is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from handlers.live.event_codec import codec, readable
from streams.connection import Connection
from streams.envelope import Address, Recorded, nanoseconds, parse_address
from streams.errors import UnprocessableError
from streams.processing.stage import Output
from streams.reader import Stored, get, read_all
from streams.topology import Stream, info
from vibe.verify.findings import Different, Findings

Progress = Callable[[int, int], None]
"""Called with the number of messages read and the number of all."""
Handle = Callable[[Recorded, Recorded], Awaitable[Iterable[Output]]]
"""(an input event, the first stored event that names it) -> what comes out. Raises UnprocessableError, and
UnknownInputError."""


_WINDOW = 10_000
"""Input messages that are kept: lanes are at different places, and a cause further back is read by itself."""
_OPEN = 1_000
"""Causes of which some events are still to come; the events of one cause are stored in one batch."""


class UnknownInputError(Exception):
    """What an event was computed from is not known any more, besides the event that is its cause."""


@dataclass(frozen=True)
class Derivation:
    """What is computed: events of `types` in the stream `writes`, from events of `inputs` in the stream `reads`."""

    reads: Stream
    writes: Stream
    inputs: frozenset[str]
    types: frozenset[str]
    handle: Handle
    evolve: Callable[[Any, int], None]


class _Input:
    """The input stream, read along in order, with the newest messages kept."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._batches: AsyncIterator[list[Stored]] | None = None
        self._window: OrderedDict[int, Stored] = OrderedDict()
        self._read = 0
        self.first = 0

    async def at(self, sequence: int) -> Stored | None:
        if self._batches is None:
            found = await info(self._connection, self._stream)
            self.first = int(found["state"]["first_seq"]) if found else 0
            self._batches = read_all(self._connection, self._stream, after=sequence - 1)
            self._read = sequence - 1
        while self._read < sequence:
            batch = await anext(self._batches, None)
            if batch is None:
                break
            self._window.update((stored.sequence, stored) for stored in batch)
            self._read = batch[-1].sequence
            while len(self._window) > _WINDOW:
                self._window.popitem(last=False)
        return self._window.get(sequence) or await get(self._connection, self._stream, sequence)


@dataclass
class _Made:
    """The outputs of one cause by id, those that were seen taken out; whether any was seen."""

    outputs: dict[str, Output]
    seen: bool = False


class _Verifier:
    def __init__(self, connection: Connection, what: Derivation, findings: Findings) -> None:
        self._what = what
        self._input = _Input(connection, what.reads.name)
        self._codec = codec()
        self._open: OrderedDict[str, _Made] = OrderedDict()
        self._findings = findings

    async def commit(self, events: list[Recorded], *, counted: bool) -> None:
        """Verify the events of one commit, and fold them."""
        findings = self._findings if counted else Findings()
        findings.events += len(events)
        made = await self._made_by(events[0], findings)
        for event in events:
            if made is not None:
                self._compare(event, made, findings)
        for event in events:
            self._what.evolve(event.data, event.sequence)
        if made is not None and not made.outputs:
            self._open.pop(str(events[0].causation), None)
        while len(self._open) > _OPEN:
            self._close_oldest()

    def _compare(self, event: Recorded, made: _Made, findings: Findings) -> None:
        output = made.outputs.pop(event.id, None)
        made.seen = made.seen or output is not None
        if output is None:
            findings.cannot_be(event, f"{event.causation} does not lead to an event of this id")
        elif output.subject != event.subject:
            findings.different.append(Different(event.at, event.type, "subject", event.subject, output.subject))
        elif type(output.event) is not type(event.data):
            findings.cannot_be(event, f"{event.causation} leads to a {type(output.event).__name__} of this id")
        else:
            findings.compare(event, output.event, output.id)

    def _close_oldest(self) -> None:
        cause, made = self._open.popitem(last=False)
        for output in made.outputs.values() if made.seen else ():
            name = type(output.event).__name__
            self._findings.different.append(Different(cause, name, "id", None, output.id))

    def close(self) -> None:
        """At the end: what has not come of a cause of which something has come is missing."""
        while self._open:
            self._close_oldest()

    async def _made_by(self, event: Recorded, findings: Findings) -> _Made | None:
        """What the cause of an event leads to and was not seen yet; None, counted or named, without such a cause."""
        cause = parse_address(event.causation)
        if cause is None or cause.stream != self._what.reads.name:
            findings.cannot_be(event, f"its cause is {event.causation!r}, not an event of {self._what.reads.name}")
            return None
        known = self._open.get(str(event.causation))
        if known is not None:
            return known
        stored = await self._input.at(cause.sequence)
        if stored is None:
            if cause.sequence < self._input.first:
                findings.not_verifiable += 1
            else:
                findings.cannot_be(event, f"{self._what.reads.name} holds no message {cause.sequence}")
            return None
        try:
            outputs = {output.id: output for output in await self._handled(stored, cause, event)}
        except UnknownInputError:
            findings.not_verifiable += 1
            return None
        made = self._open[str(event.causation)] = _Made(outputs)
        return made

    async def _handled(self, stored: Stored, cause: Address, first: Recorded) -> list[Output]:
        outputs: list[Output] = []
        for event in readable(self._codec, self._what.reads.name, stored):
            if event.type in self._what.inputs and cause.index in (None, event.index):
                try:
                    outputs += await self._what.handle(event, first)
                except UnprocessableError:
                    continue
        return outputs


async def verify_derivation(
    connection: Connection,
    what: Derivation,
    findings: Findings,
    *,
    since: int | None = None,
    progress: Progress = lambda done, of: None,
) -> None:
    """Compute every event again that was recorded at `since` (ns; None = all) or later."""
    verifier = _Verifier(connection, what, findings)
    found, decode = await info(connection, what.writes.name), codec()
    end = int(found["state"]["last_seq"]) if found else 0
    async for batch in read_all(connection, what.writes.name):
        for stored in batch:
            readable_here = findings.events_of(decode, what.writes.name, stored)
            events = [event for event in readable_here if event.type in what.types]
            if events:
                counted = since is None or nanoseconds(events[0].time) >= since
                await verifier.commit(events, counted=counted)
        progress(batch[-1].sequence, end)
    verifier.close()
