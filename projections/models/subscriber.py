"""subscriber: the current configuration of each subscriber. `since` is when it was recorded.

`deposit_micros` is the configured deposit; deposits that were made are in ledger_entry.
"""

from collections.abc import Iterator

from domain.events import SubscriberConfigured
from projections.engine.projection import Projection
from projections.engine.recorded_at import recorded_time
from projections.engine.table import Change, Table, Upsert
from streams.envelope import Recorded
from streams.topology import CONFIG

SUBSCRIBER = Table(
    "subscriber",
    key=("subscriber_id",),
    columns={
        "subscriber_id": "text",
        "scope": "text",
        "mode": "text",
        "status": "text",
        "deposit_micros": "bigint",
        "actor": "text",
        "sequence": "bigint",
        "since": "timestamptz",
    },
    indexes=("scope, subscriber_id",),
)


class Subscribers(Projection):
    name = "subscriber"
    reads = (CONFIG,)
    types = frozenset({"subscriber.configured"})
    tables = (SUBSCRIBER,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        configured: SubscriberConfigured = event.data
        yield Upsert(
            SUBSCRIBER,
            {
                "subscriber_id": configured.id,
                "scope": configured.scope.value,
                "mode": configured.mode.value,
                "status": configured.status.value,
                "deposit_micros": configured.deposit_micros,
                "actor": configured.actor,
                "sequence": event.sequence,
                "since": recorded_time(event),
            },
        )
