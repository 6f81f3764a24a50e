"""Recorders of the library `eventsourcing` (PyPI, 9.5) over JetStream, and our subscribers as its aggregates.

An application of the library keeps its events in the log with

    PERSISTENCE_MODULE=streams.eventsourcing
    NATS_URL         where the servers are, nats://127.0.0.1:4222 unless set
    NATS_STREAM      prefix of the stream names: <NATS_STREAM>_<application>_<purpose>, no prefix unless set
    NATS_REPLICAS    copies of each stream made, 1 unless set; 3 in a cluster
    CREATE_TABLE     'n' = the streams exist already, do not make them

each of which may carry the application's name in front, as everything in that library may: ORDERS_NATS_STREAM. The
purposes are `events` (of an application or process; tracking rows too), `snapshots` and `tracking`.

This is the side door, for tools that load one aggregate at a version; the stages do not go through it. The library
is synchronous: its calls wait for one asyncio loop in a background thread. No other package imports the library.
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
