"""guardrail, policy and control: the current limits of copying.

guardrail: overrides of the defaults at a scope ('global', 'influencer:<id>', 'subscriber:<id>'). policy: every
materialized policy under the hash that decisions name; its values never change. control: the newest operator switch of
each target; `state` is running, paused, record_only, enabled, disabled or reset. Values have the units of
domain/guardrails.py (micros, bps, ms or counts), as each name states.
"""

from collections.abc import Iterator

import msgspec

from domain.events import ControlChanged, GuardrailConfigured, PolicyMaterialized
from projections.engine.projection import Projection
from projections.engine.recorded_at import recorded_time
from projections.engine.table import Change, Table, Upsert
from streams.envelope import Recorded
from streams.topology import CONFIG

GUARDRAIL = Table(
    "guardrail",
    key=("scope",),
    columns={"scope": "text", "overrides": "jsonb", "actor": "text", "sequence": "bigint", "since": "timestamptz"},
)
POLICY = Table(
    "policy",
    key=("policy_hash",),
    columns={"policy_hash": "text", "limits": "jsonb", "sequence": "bigint", "since": "timestamptz"},
)
CONTROL = Table(
    "control",
    key=("target", "target_id"),
    columns={
        "target": "text",
        "target_id": "text",
        "state": "text",
        "actor": "text",
        "note": "text",
        "sequence": "bigint",
        "since": "timestamptz",
    },
)


class Guardrails(Projection):
    name = "guardrail"
    reads = (CONFIG,)
    types = frozenset({"guardrail.configured", "policy.materialized", "control.changed"})
    tables = (GUARDRAIL, POLICY, CONTROL)

    def fold(self, event: Recorded) -> Iterator[Change]:
        place = {"sequence": event.sequence, "since": recorded_time(event)}
        match event.data:
            case GuardrailConfigured() as configured:
                overrides = msgspec.json.encode(configured.values).decode()
                row = {"scope": configured.scope, "overrides": overrides, "actor": configured.actor}
                yield Upsert(GUARDRAIL, row | place)
            case PolicyMaterialized() as policy:
                limits = msgspec.json.encode(policy.values).decode()
                yield Upsert(POLICY, {"policy_hash": policy.hash, "limits": limits} | place)
            case ControlChanged() as control:
                yield Upsert(
                    CONTROL,
                    {
                        "target": control.target.value,
                        "target_id": control.id,
                        "state": control.state.value,
                        "actor": control.actor,
                        "note": control.note,
                        **place,
                    },
                )
