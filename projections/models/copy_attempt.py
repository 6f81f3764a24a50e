"""copy_attempt: one row per decision, with its checks and the sequence of each stream that its inputs were read to.

`config_sequence` is of CONFIG, `marks_sequence` of GROUPS. `residual_micros` is the
signed notional that stays pending after the decision, `residual_share_micros` the pending shares of reductions.
"""

from typing import ClassVar

from domain.events import CopyDecided
from projections.engine.mapping import CAUSE, SEQUENCE, insert
from projections.engine.projection import Projection
from projections.engine.table import Table
from streams.topology import EXECUTIONS

COPY_ATTEMPT = Table(
    "copy_attempt",
    key=("attempt_id", "decided_at"),
    columns={
        "attempt_id": "text",
        "sequence": "bigint",
        "request_id": "text",
        "request_sequence": "bigint",
        "subscription_id": "text",
        "subscriber_id": "text",
        "influencer_id": "text",
        "group_id": "text",
        "quote_id": "text NULL",
        "scope": "text",
        "mode": "text",
        "venue": "text",
        "asset": "text",
        "market": "text",
        "action": "text",
        "trade_side": "text",
        "decision": "text",
        "reasons": "text[]",
        "checks": "json",
        "target_notional_micros": "bigint",
        "share_micros": "bigint",
        "reduce_micros": "bigint",
        "limit_price_micros": "bigint",
        "mid_micros": "bigint",
        "equity_micros": "bigint",
        "residual_micros": "bigint",
        "residual_share_micros": "bigint",
        "policy_hash": "text",
        "rules": "bigint",
        "config_sequence": "bigint",
        "marks_sequence": "bigint",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
        "decided_at": "timestamptz",
    },
    # Queries by request use attempt_id, which is derived from the request's id; queries by quote use signal_group.
    indexes=("group_id", "subscriber_id, decided_at DESC", "decided_at DESC"),
    append_only=True,
    by_day="decided_at",
)


class CopyAttempts(Projection):
    name = "copy_attempt"
    version = 4
    reads = (EXECUTIONS,)
    types = frozenset({"copy.decided"})
    tables = (COPY_ATTEMPT,)
    maps: ClassVar = {
        "copy.decided": (insert(COPY_ATTEMPT, CopyDecided, sequence=SEQUENCE, request_sequence=CAUSE),),
    }
