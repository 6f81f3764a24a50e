"""What a stage appends when an operator drops a dead letter of it, so that nothing waits for the event any more."""

from typing import NamedTuple

from streams.dead_letters import TICK_PREFIX, DeadLettered, payload_of
from streams.envelope import Codec
from streams.errors import RefusedError, UnprocessableError


class Completion(NamedTuple):
    """The stored names of the events that the stage appends, and what that means for the operator."""

    appends: tuple[str, ...]
    text: str


NOTHING = Completion((), "nothing waits for it, and nothing is appended")
_GROUP = Completion(
    ("group.matched",),
    "no subscription is asked about the group; what copies hold of it stays: vibe positions close closes it",
)
_ONLY_RETRIED = frozenset({("plan", "order.resulted"), ("plan", "order.confirmed")})
_COMPLETIONS = {
    ("quote", "group.closed"): Completion(
        ("quote.wanted", "quote.failed"),
        "the group goes on without a book: what reduces is owed, what opens is skipped",
    ),
    ("match", "quote.captured"): _GROUP,
    ("match", "quote.failed"): _GROUP,
    ("match", "exit.due"): Completion((), "its tries are scheduled again, two minutes after they were made"),
    ("plan", "execution.requested"): Completion(
        ("copy.decided",),
        "the request is decided: SKIP, DROPPED; what the copy holds stays: vibe positions close closes it",
    ),
    ("execute", "order.submitted"): Completion(("order.resulted",), "the order counts as not sent"),
    ("exits", "exit.owed"): Completion(("exit.scheduled",), "what is owed stays owed, and its next try is scheduled"),
}
_TRY = Completion((), "the try is scheduled again, two minutes after it was made")


def completion_of(facts: DeadLettered, codec: Codec) -> Completion:
    """What dropping a dead letter leads to. Of one that cannot be read, nothing is known to wait.

    Raises RefusedError for what the venue did with a live order: only a retry completes it.
    """
    if facts.subject.startswith(TICK_PREFIX) or facts.index is None:
        return NOTHING
    try:
        events = codec.decode(facts.stream, facts.sequence, facts.subject, payload_of(facts))
    except (UnprocessableError, ValueError):
        return NOTHING
    event = next((event for event in events if event.index == facts.index), None)
    if event is None:
        return NOTHING
    if (facts.stage, event.type) in _ONLY_RETRIED:
        raise RefusedError(
            f"{facts.origin} is what the venue did with a live order, and no other event books it; fix the cause, "
            "then: vibe dead retry"
        )
    if event.type == "execution.requested" and event.data.exit is not None:
        return _TRY
    return _COMPLETIONS.get((facts.stage, event.type), NOTHING)
