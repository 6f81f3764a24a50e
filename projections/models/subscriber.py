"""subscriber: who copies, as configured now. `since` is when this configuration was recorded; see audit_log.

`deposit_micros` is the cash that configuration wants put in; ledger_entry says what was booked.
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
