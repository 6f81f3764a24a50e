"""audit_log: every event of CONFIG, kept forever: who changed what and when, and the event itself.

`sequence` and `index` are the event's place in CONFIG. `kind` is the event's stored name, `target_id` what was
changed: an id, the scope of a guardrail, the hash of a policy, '<target>:<id>' of an operator switch, or the id of a
large import. `actor` is empty for policies, which are computed. A large import is in force from its `import.activated`
on; the log has all of its events or none.
"""

from collections.abc import Iterator

import msgspec

from domain.events import ControlChanged, GuardrailConfigured, ImportActivated, PolicyMaterialized
from projections.engine.projection import Projection
from projections.engine.recorded_at import recorded_time
from projections.engine.table import Change, Insert, Table
from streams.envelope import Recorded
from streams.topology import CONFIG

# Not partitioned by day: CONFIG is small.
AUDIT_LOG = Table(
    "audit_log",
    key=("sequence", "index"),
    columns={
        "sequence": "bigint",
        "index": "integer",
        "event_id": "text",
        "kind": "text",
        "target_id": "text",
        "actor": "text",
        "recorded_at": "timestamptz",
        "event": "jsonb",
    },
    indexes=("target_id, sequence DESC",),
    append_only=True,
)


class AuditLog(Projection):
    name = "audit_log"
    reads = (CONFIG,)
    types = frozenset(
        {
            "influencer.configured",
            "subscriber.configured",
            "subscription.configured",
            "account.configured",
            "guardrail.configured",
            "policy.materialized",
            "control.changed",
            "import.activated",
        }
    )
    tables = (AUDIT_LOG,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        yield Insert(
            AUDIT_LOG,
            {
                "sequence": event.sequence,
                "index": event.index,
                "event_id": event.id,
                "kind": event.type,
                "target_id": _target(event.data),
                "actor": getattr(event.data, "actor", ""),
                "recorded_at": recorded_time(event),
                "event": msgspec.json.encode(event.data).decode(),
            },
        )


def _target(data: object) -> str:
    match data:
        case GuardrailConfigured():
            return data.scope
        case PolicyMaterialized():
            return data.hash
        case ControlChanged():
            return f"{data.target.value}:{data.id}" if data.id else data.target.value
        case ImportActivated():
            return data.import_id
    return str(getattr(data, "id", ""))
