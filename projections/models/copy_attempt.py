"""copy_attempt: one row per decision, with its checks, the sequence of each stream that its inputs were read to, and
the order of its own commit with its result. On it: execution, one row per order.

`config_sequence` is of CONFIG, `marks_sequence` of GROUPS. `residual_micros` is the
signed notional that stays pending after the decision, `residual_share_micros` the pending shares of reductions;
`owed_micros` are shares that the copy owes after it (read model owed_exit), `exit_try` counts the tries of that exit
from 1 and is 0 for a decision about a group, `kept_micros` were owed and are kept because the influencer opened again.
`target_notional_micros` is what sizing wants to open or, of what only reduces, what the shares to give up are worth.
`reference_price_micros` is the influencer's price (0: it did not trade), `vwap_micros` the average price of the order's
fills, `order_reasons` (a JSON array) are the reason codes of an order that was not filled completely. An order of
another commit than its decision's is in later_order, and a result of another commit than its decision's in
later_result.

execution: `status` is SUBMITTED until there is a result, then FILLED, PARTIAL or UNFILLED.
"""

from typing import ClassVar

from domain.events import CopyDecided, ExecutionCompleted, OrderSubmitted
from projections.engine.mapping import CAUSE, CAUSE_INDEX, INDEX, SEQUENCE, Beside, Joined, insert
from projections.engine.projection import Projection
from projections.engine.table import Table, View
from streams.topology import EXECUTIONS

COPY_ATTEMPT = Table(
    "copy_attempt",
    key=("decided_at", "sequence", "index"),
    columns={
        "attempt_id": "text",
        "sequence": "bigint",
        "index": "integer",
        "request_id": "text",
        "request_sequence": "bigint",
        "request_index": "integer",
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
        "reference_price_micros": "bigint",
        "limit_price_micros": "bigint",
        "mid_micros": "bigint",
        "equity_micros": "bigint",
        "residual_micros": "bigint",
        "residual_share_micros": "bigint",
        "exit_id": "text NULL",
        "exit_try": "bigint",
        "owed_micros": "bigint",
        "kept_micros": "bigint",
        "policy_hash": "text",
        "rules": "bigint",
        "config_sequence": "bigint",
        "marks_sequence": "bigint",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
        "decided_at": "timestamptz",
        "order_id": "text NULL",
        "cloid": "text NULL",
        "order_share_micros": "bigint NULL",
        "filled_micros": "bigint NULL",
        "filled_notional_micros": "bigint NULL",
        "filled_fee_micros": "bigint NULL",
        "vwap_micros": "bigint NULL",
        "order_reasons": "json NULL",
        "completed_at": "timestamptz NULL",
    },
    # Queries by request use attempt_id, which is derived from the request's id; queries by quote use signal_group.
    indexes=("attempt_id", "group_id", "subscriber_id, decided_at DESC", "order_id", "cloid"),
    append_only=True,
    by_day="decided_at",
)
LATER_ORDER = Table(
    "later_order",
    key=("order_id",),
    columns={
        "order_id": "text",
        "sequence": "bigint",
        "attempt_id": "text",
        "cloid": "text",
        "subscription_id": "text",
        "subscriber_id": "text",
        "mode": "text",
        "venue": "text",
        "asset": "text",
        "trade_side": "text",
        "share_micros": "bigint",
        "limit_price_micros": "bigint",
        "submitted_at": "timestamptz",
    },
    indexes=("attempt_id", "cloid", "subscriber_id, submitted_at DESC"),
    append_only=True,
)
LATER_RESULT = Table(
    "later_result",
    key=("order_id",),
    columns={
        "order_id": "text",
        "sequence": "bigint",
        "requested_micros": "bigint",
        "filled_micros": "bigint",
        "notional_micros": "bigint",
        "fee_micros": "bigint",
        "average_price_micros": "bigint",
        "reasons": "json",
        "completed_at": "timestamptz",
    },
    append_only=True,
)
EXECUTION = View(
    "execution",
    key=("order_id",),
    columns={
        "order_id": "text",
        "submitted_sequence": "bigint",
        "completed_sequence": "bigint NULL",
        "attempt_id": "text",
        "cloid": "text",
        "subscription_id": "text",
        "subscriber_id": "text",
        "mode": "text",
        "venue": "text",
        "asset": "text",
        "trade_side": "text",
        "status": "text",
        "share_micros": "bigint",
        "limit_price_micros": "bigint",
        "filled_micros": "bigint",
        "notional_micros": "bigint",
        "fee_micros": "bigint",
        "average_price_micros": "bigint",
        "reasons": "jsonb NULL",
        "submitted_at": "timestamptz",
        "completed_at": "timestamptz NULL",
    },
    # An order of the decision's own commit is submitted when it is decided.
    query="""
        SELECT o.order_id, o.submitted_sequence, coalesce(o.completed_sequence, r.sequence) AS completed_sequence,
            o.attempt_id, o.cloid, o.subscription_id, o.subscriber_id, o.mode, o.venue, o.asset, o.trade_side,
            CASE
                WHEN coalesce(o.completed_at, r.completed_at) IS NULL THEN 'SUBMITTED'
                WHEN coalesce(o.filled_micros, r.filled_micros) = 0 THEN 'UNFILLED'
                WHEN coalesce(o.filled_micros, r.filled_micros) >= coalesce(o.requested_micros, r.requested_micros)
                    THEN 'FILLED'
                ELSE 'PARTIAL'
            END AS status,
            o.share_micros, o.limit_price_micros,
            coalesce(o.filled_micros, r.filled_micros, 0) AS filled_micros,
            coalesce(o.notional_micros, r.notional_micros, 0) AS notional_micros,
            coalesce(o.fee_micros, r.fee_micros, 0) AS fee_micros,
            coalesce(o.average_price_micros, r.average_price_micros, 0) AS average_price_micros,
            coalesce(o.reasons, r.reasons)::jsonb AS reasons, o.submitted_at,
            coalesce(o.completed_at, r.completed_at) AS completed_at
        FROM (
            SELECT order_id, sequence AS submitted_sequence,
                CASE WHEN completed_at IS NOT NULL THEN sequence END AS completed_sequence, attempt_id, cloid,
                subscription_id, subscriber_id, mode, venue, asset, trade_side, share_micros AS requested_micros,
                order_share_micros AS share_micros, limit_price_micros, filled_micros,
                filled_notional_micros AS notional_micros, filled_fee_micros AS fee_micros,
                vwap_micros AS average_price_micros, order_reasons AS reasons, decided_at AS submitted_at, completed_at
            FROM {schema}.copy_attempt WHERE order_id IS NOT NULL
            UNION ALL
            SELECT order_id, sequence, NULL, attempt_id, cloid, subscription_id, subscriber_id, mode, venue, asset,
                trade_side, NULL, share_micros, limit_price_micros, NULL, NULL, NULL, NULL, NULL, submitted_at, NULL
            FROM {schema}.later_order
        ) o LEFT JOIN {schema}.later_result r ON o.completed_at IS NULL AND r.order_id = o.order_id
    """,
)

_DECISION = Joined(CopyDecided, "attempt_id")


def _of_order(field: str) -> Beside:
    return Beside(OrderSubmitted, "attempt_id", field)


def _of_result(field: str) -> Beside:
    return Beside(ExecutionCompleted, "attempt_id", field)


class CopyAttempts(Projection):
    name = "copy_attempt"
    version = 7
    reads = (EXECUTIONS,)
    types = frozenset({"copy.decided", "order.submitted", "execution.completed"})
    tables = (COPY_ATTEMPT, LATER_ORDER, LATER_RESULT)
    views = (EXECUTION,)
    maps: ClassVar = {
        "copy.decided": (
            insert(
                COPY_ATTEMPT,
                CopyDecided,
                sequence=SEQUENCE,
                index=INDEX,
                request_sequence=CAUSE,
                request_index=CAUSE_INDEX,
                order_id=_of_order("order_id"),
                cloid=_of_order("cloid"),
                order_share_micros=_of_order("share_micros"),
                filled_micros=_of_result("filled_micros"),
                filled_notional_micros=_of_result("notional_micros"),
                filled_fee_micros=_of_result("fee_micros"),
                vwap_micros=_of_result("average_price_micros"),
                order_reasons=_of_result("reasons"),
                completed_at=_of_result("completed_at"),
            ),
        ),
        "order.submitted": (insert(LATER_ORDER, OrderSubmitted, unless=_DECISION, sequence=SEQUENCE),),
        "execution.completed": (insert(LATER_RESULT, ExecutionCompleted, unless=_DECISION, sequence=SEQUENCE),),
    }
