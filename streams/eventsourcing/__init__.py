"""Recorders of the library `eventsourcing` (9.5) over JetStream, and the subscribers of this system as its aggregates.

An application of the library keeps its events in the log with

    PERSISTENCE_MODULE=streams.eventsourcing
    NATS_URL         where the servers are, nats://127.0.0.1:4222 unless set
    NATS_STREAM      prefix of the stream names: <NATS_STREAM>_<application>_<purpose>, no prefix unless set
    NATS_REPLICAS    replicas of each created stream, 1 unless set; 3 in a cluster
    CREATE_TABLE     'n' = do not create streams, they exist

each of which may be prefixed with the application's name, as all variables of that library: ORDERS_NATS_STREAM. The
purposes are `events` (of an application or process, with its tracking rows), `snapshots` and `tracking`.

It serves tools that load one aggregate at a version; the stages do not use it (docs/design.md, eventsourcing library).
The library is synchronous: its calls wait for an asyncio loop in a background thread. No other package imports it.
"""

from streams.eventsourcing.events import JetStreamAggregateRecorder
from streams.eventsourcing.factory import Factory
from streams.eventsourcing.notifications import JetStreamApplicationRecorder, JetStreamSubscription
from streams.eventsourcing.subscribers import Subscriber, load_subscriber
from streams.eventsourcing.tracking import JetStreamProcessRecorder, JetStreamTrackingRecorder

__all__ = [
    "Factory",
    "JetStreamAggregateRecorder",
    "JetStreamApplicationRecorder",
    "JetStreamProcessRecorder",
    "JetStreamSubscription",
    "JetStreamTrackingRecorder",
    "Subscriber",
    "load_subscriber",
]
