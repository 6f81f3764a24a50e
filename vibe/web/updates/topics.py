"""The topics of live updates: which events become rows, under which key, and which read models hold them too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from domain.events import (
    BreakerReset,
    BreakerTripped,
    CopyDecided,
    ExitEnded,
    ExitOwed,
    PositionChanged,
    SignalRecorded,
)
from streams.topology import EXECUTIONS, SIGNALS, Stream

Row = dict[str, Any]


@dataclass(frozen=True)
class Topic:
    """`row` makes a row of an event, `key` its key. A row is sent once each of `read_models` holds its event.

    Rows with the same `identity` replace each other where a client is slow; None = each row counts, and a client that
    is too slow has to read the read models again.
    """

    name: str
    stream: Stream
    patterns: tuple[str, ...]
    types: frozenset[str]
    read_models: tuple[str, ...]
    key: Callable[[Any], str]
    row: Callable[[Any], Row]
    identity: Callable[[Any], str] | None = None


def _decision(event: CopyDecided) -> Row:
    return {
        "attempt_id": event.attempt_id,
        "subscription_id": event.subscription_id,
        "subscriber_id": event.subscriber_id,
        "influencer_id": event.influencer_id,
        "group_id": event.group_id,
        "mode": event.mode,
        "venue": event.venue,
        "asset": event.asset,
        "market": event.market,
        "action": event.action,
        "trade_side": event.trade_side,
        "decision": event.decision,
        "reasons": event.reasons,
        "share_micros": event.share_micros,
        "exit_try": event.exit_try,
        "decided_at": event.decided_at,
    }


def _trade(event: SignalRecorded) -> Row:
    return {
        "signal_id": event.signal_id,
        "influencer_id": event.influencer_id,
        "venue": event.venue,
        "asset": event.asset,
        "market": event.market,
        "action": event.action,
        "trade_side": event.trade_side,
        "before_micros": event.before_micros,
        "after_micros": event.after_micros,
        "price_micros": event.price_micros,
        "notional_micros": event.notional_micros,
        "position_state": event.position_state,
        "event_time": event.event_time,
        "detect_time": event.detect_time,
    }


def _position(event: PositionChanged) -> Row:
    return {
        "subscriber_id": event.subscriber_id,
        "venue": event.venue,
        "asset": event.asset,
        "share_micros": event.share_micros,
        "cost_micros": event.cost_micros,
        "average_price_micros": event.average_price_micros,
        "realized_micros": event.realized_micros,
        "changed_at": event.changed_at,
    }


def _exit(event: ExitOwed | ExitEnded) -> Row:
    owed = isinstance(event, ExitOwed)
    return {
        "exit_id": event.exit_id,
        "subscription_id": event.subscription_id,
        "subscriber_id": event.subscriber_id,
        "influencer_id": event.influencer_id,
        "venue": event.venue,
        "asset": event.asset,
        "trade_side": event.trade_side,
        "owed_micros": event.share_micros if isinstance(event, ExitOwed) else 0,
        "tries": event.tries,
        "reasons": event.reasons,
        "owed_since": event.owed_since,
        "due_at": event.due_at if isinstance(event, ExitOwed) else None,
        "how": None if owed else event.how,  # type: ignore[union-attr]
    }


def _alert(event: BreakerTripped | BreakerReset) -> Row:
    tripped = isinstance(event, BreakerTripped)
    return {
        "kind": "breaker.tripped" if tripped else "breaker.reset",
        "subscriber_id": event.subscriber_id,
        "limit": event.limit,
    }


_EXECUTIONS = ("executions.>",)

TOPICS = {
    topic.name: topic
    for topic in (
        Topic(
            "decisions",
            EXECUTIONS,
            _EXECUTIONS,
            frozenset({"copy.decided"}),
            ("copy_attempt",),
            lambda event: event.subscriber_id,
            _decision,
        ),
        Topic(
            "trades",
            SIGNALS,
            ("signals.>",),
            frozenset({"signal.recorded"}),
            ("trade_event",),
            lambda event: event.influencer_id,
            _trade,
        ),
        Topic(
            "positions",
            EXECUTIONS,
            _EXECUTIONS,
            frozenset({"position.changed"}),
            ("position",),
            lambda event: event.subscriber_id,
            _position,
            lambda event: f"{event.subscriber_id} {event.venue.value} {event.asset}",
        ),
        Topic(
            "exits",
            EXECUTIONS,
            _EXECUTIONS,
            frozenset({"exit.owed", "exit.ended"}),
            ("owed_exit",),
            lambda event: event.subscriber_id,
            _exit,
            lambda event: event.exit_id,
        ),
        Topic(
            "alerts",
            EXECUTIONS,
            _EXECUTIONS,
            frozenset({"breaker.tripped", "breaker.reset"}),
            ("subscriber",),
            lambda event: event.subscriber_id,
            _alert,
        ),
    )
}
"""Every topic of a stream. `lag`, the state of all consumers, is sent as it is every few seconds."""

LAG = "lag"
