"""copy_attempt: one row per decision, with every check that was made and up to where of each stream it had seen.

Sequences are those of EXECUTIONS (`portfolio`), CONFIG and GROUPS (`marks`). `residual_micros` is signed notional that
waits afterwards, `residual_share_micros` shares of reductions that do.
"""

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from domain.events import CopyDecided
from projections.projection import Projection
from projections.table import Change, Insert, Table, moment
from projections.trade_event import sequence_of
from streams.envelope import Recorded
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
        "portfolio_sequence": "bigint",
        "config_sequence": "bigint",
        "marks_sequence": "bigint",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
        "decided_at": "timestamptz",
    },
    # By request it is found by its own id, which is derived from the request's; by quote through signal_group.
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
    fields: ClassVar = {
        "copy.decided": (
            "attempt_id", "request_id", "subscription_id", "subscriber_id", "influencer_id", "group_id", "quote_id",
            "scope", "mode", "venue", "asset", "market", "action", "trade_side", "decision", "reasons", "checks",
            "target_notional_micros", "share_micros", "reduce_micros", "limit_price_micros", "mid_micros",
            "equity_micros", "residual_micros", "residual_share_micros", "policy_hash", "rules",
            "portfolio_sequence", "config_sequence", "marks_sequence", "event_time", "detect_time", "decided_at",
        ),
    }  # fmt: skip

    def fold(self, event: Recorded) -> Iterator[Change]:
        decided: CopyDecided = event.data
        yield Insert(
            COPY_ATTEMPT,
            {
                "attempt_id": decided.attempt_id,
                "sequence": event.sequence,
                "request_id": decided.request_id,
                "request_sequence": sequence_of(event.causation),
                "subscription_id": decided.subscription_id,
                "subscriber_id": decided.subscriber_id,
                "influencer_id": decided.influencer_id,
                "group_id": decided.group_id,
                "quote_id": decided.quote_id,
                "scope": decided.scope,
                "mode": decided.mode,
                "venue": decided.venue,
                "asset": decided.asset,
                "market": decided.market,
                "action": decided.action,
                "trade_side": decided.trade_side,
                "decision": decided.decision,
                "reasons": list(decided.reasons),
                "checks": msgspec.json.encode(decided.checks).decode(),
                "target_notional_micros": decided.target_notional_micros,
                "share_micros": decided.share_micros,
                "reduce_micros": decided.reduce_micros,
                "limit_price_micros": decided.limit_price_micros,
                "mid_micros": decided.mid_micros,
                "equity_micros": decided.equity_micros,
                "residual_micros": decided.residual_micros,
                "residual_share_micros": decided.residual_share_micros,
                "policy_hash": decided.policy_hash,
                "rules": decided.rules,
                "portfolio_sequence": decided.portfolio_sequence,
                "config_sequence": decided.config_sequence,
                "marks_sequence": decided.marks_sequence,
                "event_time": moment(decided.event_time),
                "detect_time": moment(decided.detect_time),
                "decided_at": moment(decided.decided_at),
            },
        )
