"""From stored bytes to decoded events and mapped rows: which projections process an event, and in which form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import astuple

from projections.engine.mapping import Maker, Mapped
from projections.engine.partial_structs import partial_struct
from projections.engine.projection import Projection
from projections.engine.table import Values
from streams.bulk_replay import Block
from streams.envelope import Codec, Recorded, commit_decoder, item_of
from streams.errors import UnprocessableError


class EventDecoder:
    """Decodes the events of one stream for some projections; the facts of other events are not decoded.

    Projections that map a type get a partial struct, all others the event's own struct, whichever projections run
    together: the rows of a projection never depend on the others.
    """

    def __init__(self, codec: Codec, stream: str, projections: Sequence[Projection]) -> None:
        self._codec = codec
        self.stream = stream
        self._projections = tuple(projections)
        self._catalogue = codec.catalogue
        self._parts = {name: self._part_of(name) for name in self._catalogue}
        self._maps = any(part.maps for part in self._parts.values())
        self._decode_mapped = commit_decoder(item_of(name, part.facts or Raw) for name, part in self._parts.items())
        whole = commit_decoder(
            item_of(name, self._catalogue[name] if part.folding else Raw) for name, part in self._parts.items()
        )
        # Folded first: a block whose mapped rows are made is read in that form alone.
        self._forms = [
            _Form(whole, {name: part.folding for name, part in self._parts.items()}),
            _Form(self._decode_mapped, {name: part.mapping for name, part in self._parts.items()}),
        ][: 2 if self._maps else 1]

    def _part_of(self, name: str) -> _Part:
        wanting, event = self.of_type(name), self._catalogue[name]
        mapping = tuple(each for each in wanting if name in each.maps)
        folding = tuple(each for each in wanting if name not in each.maps)
        maps = [(each.name, mapped) for each in mapping for mapped in each.maps[name]]
        if not maps:
            return _Part(None, folding, mapping, ())
        facts = partial_struct(event, {field for _, mapped in maps for field in mapped.fields})
        bound = tuple((name, mapped, mapped.bind(facts.__struct_fields__)) for name, mapped in maps)
        return _Part(facts, folding, mapping, bound)

    def mapped(self, block: Block) -> tuple[list[Made], Block]:
        """The rows that `maps` make of a block, type by type, and the part of the block that projections have to fold.

        Raises what decoding and converting raise, before it returns anything: then process the whole block with
        `events`, which reports the faulty event.
        """
        if not self._maps:
            return [], block
        parts, left = self._parts, list[int]()
        facts_of: defaultdict[str, tuple[list[Any], list[int], list[str | None]]] = defaultdict(lambda: ([], [], []))
        for row, (sequence, payload) in enumerate(zip(block.sequences, block.payloads, strict=True)):
            commit = self._decode_mapped(payload)
            folded = False
            for item in commit.data:
                name = item.__struct_config__.tag
                part = parts[name]
                if part.maps:
                    facts, sequences, causes = facts_of[name]
                    facts.append(item.data)
                    sequences.append(sequence)
                    causes.append(commit.causationid)
                folded = folded or bool(part.folding)
            if folded:
                left.append(row)
        made = [
            Made(projection, mapped, make(rows, sequences, causes))
            for name, (facts, sequences, causes) in facts_of.items()
            for rows in [list(map(astuple, facts))]
            for projection, mapped, make in parts[name].maps
        ]
        return made, Block(
            [block.sequences[row] for row in left],
            [block.subjects[row] for row in left],
            [block.payloads[row] for row in left],
        )

    def of_type(self, name: str) -> tuple[Projection, ...]:
        """The projections that process a stored name."""
        return tuple(each for each in self._projections if not each.types or name in each.types)

    def events(
        self, stored: Iterable[tuple[int, bytes, bytes]], positions: dict[str, int], *, folded: bool = False
    ) -> Iterator[tuple[Recorded | Unreadable, tuple[Projection, ...]]]:
        """The decoded events of (sequence, subject, payload), each with the projections that process it.

        `positions` are the projections' positions by name: events up to them are skipped. An event is yielded twice
        when some projections fold its own struct and others map its partial struct. A message that cannot be decoded is
        yielded once, as Unreadable, with the projections whose form of it cannot be decoded; when its types cannot be
        read, with the projections that process all types. `folded`: without the projections for which `mapped` has made
        rows.
        """
        behind = min(positions.values(), default=0)
        level = all(position == behind for position in positions.values())

        def behind_of(wanting: tuple[Projection, ...], sequence: int) -> tuple[Projection, ...]:
            return wanting if level else tuple(each for each in wanting if sequence > positions[each.name])

        for sequence, subject, payload in stored:
            if sequence <= behind:
                continue
            failed: dict[Projection, None] = {}
            reason = ""
            named = subject.decode("utf-8", "replace")
            for form in self._forms[:1] if folded else self._forms:
                try:
                    commit = form.decode(payload)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                    failed.update(dict.fromkeys(behind_of(self._processing(form, payload), sequence)))
                    reason = self._what_is_wrong(payload, error)
                    continue
                for index, item in enumerate(commit.data):
                    name = item.__struct_config__.tag
                    if wanting := behind_of(form.wanting[name], sequence):
                        event = Recorded(
                            self.stream,
                            sequence,
                            named,
                            payload,
                            name,
                            item.id,
                            commit.time,
                            commit.source,
                            commit.correlationid,
                            commit.causationid,
                            item.data,
                            index,
                        )
                        yield event, wanting
            if reason:
                yield Unreadable(self.stream, sequence, named, payload, reason), tuple(failed)

    def _processing(self, form: _Form, payload: bytes) -> tuple[Projection, ...]:
        """The projections that get this form of a type in a payload; those that process all types when the types cannot
        be read."""
        known = [name for name in self._codec.types(payload) if name in form.wanting]
        if not known:
            return tuple(each for each in self._projections if not each.types)
        return tuple(dict.fromkeys(each for name in known for each in form.wanting[name]))

    def _what_is_wrong(self, payload: bytes, error: Exception) -> str:
        try:
            self._codec.decode(self.stream, 0, "", payload)
        except UnprocessableError as better:
            return str(better)
        return str(error)


class Made(NamedTuple):
    """The rows that one entry of a projection's `maps` made of the events of a block."""

    projection: str
    mapped: Mapped
    rows: list[Values]


class _Form(NamedTuple):
    """A way to decode whole messages, and by stored name the projections that get events in this form."""

    decode: Any
    wanting: dict[str, tuple[Projection, ...]]


class _Part(NamedTuple):
    """A type of event: the partial struct of those who map it (None: none does), the projections that fold it, those
    that map it, and their mapped rows."""

    facts: type[Struct] | None
    folding: tuple[Projection, ...]
    mapping: tuple[Projection, ...]
    maps: tuple[tuple[str, Mapped, Maker], ...]


class Unreadable:
    """A stored message that cannot be decoded, and why."""

    def __init__(self, stream: str, sequence: int, subject: str, payload: bytes, reason: str) -> None:
        self.stream = stream
        self.sequence = sequence
        self.subject = subject
        self.payload = payload
        self.reason = reason
