"""subscription: the current configuration of each subscription. `since` is when it was recorded.

`sizing_mode` selects `percent_micros` (1_000_000 = 1 %) or `notional_micros`; `limits` are overrides of guardrails and
`filters` the conditions for openings, both JSON.
"""

from collections.abc import Iterator

import msgspec

from domain.events import SubscriptionConfigured
from projections.engine.projection import Projection
from projections.engine.recorded_at import recorded_time
from projections.engine.table import Change, Table, Upsert
from streams.envelope import Recorded
from streams.topology import CONFIG

SUBSCRIPTION = Table(
    "subscription",
    key=("subscription_id",),
    columns={
        "subscription_id": "text",
        "subscriber_id": "text",
        "influencer_id": "text",
        "sizing_mode": "text",
        "percent_micros": "bigint",
        "notional_micros": "bigint",
        "limits": "jsonb",
        "filters": "jsonb",
        "status": "text",
        "actor": "text",
        "sequence": "bigint",
        "since": "timestamptz",
    },
    indexes=("influencer_id, subscription_id", "subscriber_id, subscription_id"),
)


class Subscriptions(Projection):
    name = "subscription"
    reads = (CONFIG,)
    types = frozenset({"subscription.configured"})
    tables = (SUBSCRIPTION,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        configured: SubscriptionConfigured = event.data
        yield Upsert(
            SUBSCRIPTION,
            {
                "subscription_id": configured.id,
                "subscriber_id": configured.subscriber_id,
                "influencer_id": configured.influencer_id,
                "sizing_mode": configured.sizing.mode,
                "percent_micros": configured.sizing.percent_micros,
                "notional_micros": configured.sizing.notional_micros,
                "limits": msgspec.json.encode(configured.limits).decode(),
                "filters": msgspec.json.encode(configured.filters).decode(),
                "status": configured.status.value,
                "actor": configured.actor,
                "sequence": event.sequence,
                "since": recorded_time(event),
            },
        )
