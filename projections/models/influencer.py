"""influencer: the current configuration of each influencer. `since` is when it was recorded; the history is in
audit_log."""

from collections.abc import Iterator

import msgspec

from domain.events import InfluencerConfigured
from projections.engine.projection import Projection
from projections.engine.recorded_at import recorded_time
from projections.engine.table import Change, Table, Upsert
from streams.envelope import Recorded
from streams.topology import CONFIG

INFLUENCER = Table(
    "influencer",
    key=("influencer_id",),
    columns={
        "influencer_id": "text",
        "venue": "text",
        "addresses": "jsonb",
        "label": "text",
        "status": "text",
        "actor": "text",
        "sequence": "bigint",
        "since": "timestamptz",
    },
)


class Influencers(Projection):
    name = "influencer"
    reads = (CONFIG,)
    types = frozenset({"influencer.configured"})
    tables = (INFLUENCER,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        configured: InfluencerConfigured = event.data
        yield Upsert(
            INFLUENCER,
            {
                "influencer_id": configured.id,
                "venue": configured.venue.value,
                "addresses": msgspec.json.encode(configured.addresses).decode(),
                "label": configured.label,
                "status": configured.status.value,
                "actor": configured.actor,
                "sequence": event.sequence,
                "since": recorded_time(event),
            },
        )
