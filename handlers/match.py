"""GROUPS -> REQUESTS: one execution request per subscription that wants a quoted group, and a summary of the rest."""

from collections.abc import Iterable, Iterator

from domain.configuration import Configuration
from domain.matching import match
from handlers.live.configuration import LiveConfiguration
from streams import subjects
from streams.envelope import Recorded
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import GROUPS, REQUESTS


class Match(Stage[None]):
    name = "match"
    description = "fans quoted groups out to subscriptions"
    reads = GROUPS
    writes = REQUESTS
    input_patterns = ("quotes.{}.>",)
    input_types = frozenset({"quote.captured", "quote.failed"})

    def __init__(self, configuration: LiveConfiguration) -> None:
        self._configuration = configuration

    def initial(self, lane: Lane) -> None:
        return None

    def config_sequence(self) -> int:
        return self._configuration.sequence

    async def config_reached(self, sequence: int) -> None:
        await self._configuration.reached(sequence)

    def handle(self, state: None, event: Recorded, now: int) -> Iterator[Output]:
        return _matched(self._configuration.directory, event, self._configuration.sequence)

    async def handle_again(self, state: None, event: Recorded, now: int, config_sequence: int) -> Iterable[Output]:
        # The configuration may have changed since the first part was stored: fan out with the one of that time.
        directory = await self._configuration.at(config_sequence)
        return list(_matched(directory, event, config_sequence))


def _matched(directory: Configuration, event: Recorded, config_sequence: int) -> Iterator[Output]:
    requests, summary = match(directory, event.data, config_sequence)
    for request in requests:
        yield Output(subjects.requests(request.subscriber_id), request, request.request_id, request.group_id)
    yield Output(subjects.matched(summary.influencer_id), summary, f"{summary.group_id}.matched", summary.group_id)
