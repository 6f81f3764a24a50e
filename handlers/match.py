"""GROUPS -> REQUESTS: one execution request per subscription that wants a quoted group, and a summary of the rest; one
per owed exit whose try is due.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec import structs

from domain.configuration import Configuration
from domain.events import ExecutionRequested, ExitDue, GroupExpired, GroupMatched
from domain.ids import derived
from domain.matching import expired, match, match_exits
from domain.reason_codes import Reason
from domain.requests import own_part, shared_part
from handlers import metrics
from handlers.live.configuration import LiveConfiguration
from streams import subjects
from streams.envelope import Recorded
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import GROUPS, REQUESTS

_CHUNK = 200
"""Requests in one commit at most: some 40 kB, which a lane decides in a few milliseconds."""


class Match(Stage[None]):
    name = "match"
    description = "fans quoted groups out to subscriptions"
    reads = GROUPS
    writes = REQUESTS
    input_patterns = ("quotes.{}.>", "exits.{}.>")
    input_types = frozenset({"quote.captured", "quote.failed", "exit.due"})

    def __init__(self, configuration: LiveConfiguration) -> None:
        self._configuration = configuration

    def initial(self, lane: Lane) -> None:
        return None

    def config_sequence(self) -> int:
        return self._configuration.sequence

    async def config_reached(self, sequence: int) -> None:
        await self._configuration.reached(sequence)

    def handle(self, state: None, event: Recorded, now: int) -> Iterator[Output]:
        return requests_of(self._configuration.directory, event, self._configuration.sequence, now)

    def dropped(self, state: None, event: Recorded, now: int) -> Iterator[Output]:
        return dropped_group(event)

    def stored(self, state: None, output: Output, sequence: int) -> None:
        if isinstance(output.event, GroupExpired):
            metrics.EXPIRED_GROUPS.labels(output.event.venue.value).inc()

    async def handle_again(self, state: None, event: Recorded, now: int, config_sequence: int) -> Iterable[Output]:
        # The configuration may have changed since the first part was stored: fan out with the one of that time.
        directory = await self._configuration.at(config_sequence)
        # It was not too old then (time 0), and is fanned out to its end.
        return list(requests_of(directory, event, config_sequence, 0))


def requests_of(directory: Configuration, event: Recorded, config_sequence: int, now: int) -> Iterator[Output]:
    """The requests and the summary of a quoted group, or the requests of a round of tries, as of a CONFIG sequence; at
    `now` (ns), a group that only opens may be too old for all of them."""
    if isinstance(event.data, ExitDue):
        yield from _requested(match_exits(directory, event.data, config_sequence), event.data.due_id)
        return
    requests, summary = match(directory, event.data, config_sequence)
    too_late = expired(directory, event.data.group, event.data.quote_id, requests, config_sequence, now)
    if too_late is None:
        yield from _requested(requests, event.data.quote_id)
    else:
        subject = subjects.matched(summary.influencer_id)
        yield Output(subject, too_late, f"{summary.group_id}.expired", summary.group_id, begins=True)
        filtered = summary.filtered | {Reason.STALE_SIGNAL.value: too_late.subscriptions}
        summary = structs.replace(summary, matched=0, filtered=filtered)
    yield Output(subjects.matched(summary.influencer_id), summary, f"{summary.group_id}.matched", summary.group_id)


def dropped_group(event: Recorded) -> Iterator[Output]:
    """The summary of a quoted group that no subscription is asked about, because an operator dropped it. A round of
    tries needs none: `exits` schedules tries again that are not decided."""
    if isinstance(event.data, ExitDue):
        return
    group, quote_id = event.data.group, event.data.quote_id
    summary = GroupMatched(
        group_id=group.group_id,
        quote_id=quote_id,
        influencer_id=group.influencer_id,
        matched=0,
        filtered={Reason.DROPPED.value: 1},
    )
    subject = subjects.matched(group.influencer_id)
    yield Output(subject, summary, f"{group.group_id}.matched", group.group_id, event.at, begins=True)


def _requested(requests: list[ExecutionRequested], of: str) -> Iterator[Output]:
    """The requests of a quoted group or of a round of tries, whose id is `of`: at most `_CHUNK` in one commit, each for
    the subscribers of one class of partitions."""
    of_class: defaultdict[int, list[ExecutionRequested]] = defaultdict(list)
    for request in requests:
        of_class[subjects.class_of(request.subscriber_id)].append(request)
    for first_partition, members in sorted(of_class.items()):
        for start in range(0, len(members), _CHUNK):
            first, group_id = members[0], members[0].group_id
            subject = subjects.requests(first_partition, first.influencer_id)
            shared_id = derived("grr", of, first_partition, start)
            yield Output(subject, shared_part(first), shared_id, group_id, begins=True)
            for request in members[start : start + _CHUNK]:
                yield Output(subject, own_part(request), request.request_id, group_id)
