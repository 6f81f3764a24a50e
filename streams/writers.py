"""Whether a stored message can be of one of the writers of its stream.

The server stores whatever arrives on a subject of a stream, also its own answer to a request that names such a subject
(docs/nats.md, answers that are stored). A message of one stream is then in another one too, under the subject it had.
Readers refuse it: no stage publishes the subjects of another stage's stream.
"""

from __future__ import annotations

from streams.errors import UnprocessableError
from streams.metrics import FOREIGN
from streams.topology import CONFIG, DEAD, DISCOVERY, EXECUTIONS, GROUPS, RAW, REQUESTS, SIGNALS, STREAMS, Stream

_OWNER = {pattern.partition(".")[0]: stream.name for stream in STREAMS for pattern in stream.subjects}
"""The stream of a subject, by the subject's first token."""

_WRITES: dict[str, Stream] = {
    "ingest": RAW,
    "discover": DISCOVERY,
    "normalize": SIGNALS,
    "group": GROUPS,
    "quote": GROUPS,
    "exits": GROUPS,
    "mark": GROUPS,
    "resolve": GROUPS,
    "match": REQUESTS,
    "plan": EXECUTIONS,
    "execute": REQUESTS,
    "config": CONFIG,
    "control": CONFIG,
    "dead": DEAD,
    "projections": DEAD,
}
"""The stream that the commits of a source go to; its dead letters go to DEAD."""
_SUBJECTS = {"vibe/match": "requests", "vibe/execute": "orders"}
"""What each of the two writers of REQUESTS publishes beside its checkpoints: the first token of the subjects."""
_STREAM_OF_SOURCE = {f"vibe/{writer}": stream.name for writer, stream in _WRITES.items()}


def refuse_foreign(stream: str, subject: str, source: str) -> None:
    """Raises UnprocessableError for a message that no writer of its stream stores: its subject belongs to another
    stream, or its source writes another one or other subjects."""
    first = subject.partition(".")[0]
    owner = _OWNER.get(first, stream)
    writes = _STREAM_OF_SOURCE.get(source, stream)
    if owner != stream:
        why = f"{subject} is a subject of {owner}, and no writer stores it in {stream}"
    elif writes != stream and stream != DEAD.name:
        why = f"{source} writes {writes}, and no commit of it belongs in {stream}"
    elif stream == REQUESTS.name and _is_of_another_writer(first, subject, source):
        why = f"{source} writes {_SUBJECTS[source]}.>, and not {subject}"
    else:
        return
    FOREIGN.labels(stream).inc()
    raise UnprocessableError(f"foreign: {why}")


def _is_of_another_writer(first: str, subject: str, source: str) -> bool:
    if first == _SUBJECTS.get(source, first) or first not in _SUBJECTS.values():
        # The checkpoints of both are on subjects of requests.
        return False
    return not subject.startswith(f"requests.checkpoint.{source.removeprefix('vibe/')}.")


def has_foreign(stream: str, subjects: list[bytes]) -> bool:
    """Whether one of these subjects belongs to another stream."""
    return any(_OWNER.get(first.decode(), stream) != stream for first in {one.partition(b".")[0] for one in subjects})
