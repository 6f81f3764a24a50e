"""Creates the recorders of an application from its environment; the variables are in the package's docstring."""

import re
from functools import partial
from typing import Any

from eventsourcing.persistence import InfrastructureFactory
from eventsourcing.utils import Environment, EnvType, resolve_topic, strtobool

from streams import topology
from streams.errors import TopologyError
from streams.eventsourcing.events import JetStreamAggregateRecorder
from streams.eventsourcing.notifications import JetStreamApplicationRecorder
from streams.eventsourcing.sync_bridge import SyncBridge
from streams.eventsourcing.tracking import JetStreamProcessRecorder, JetStreamTrackingRecorder
from streams.retry import retry_until_available
from streams.topology import Stream


class Factory(InfrastructureFactory[JetStreamTrackingRecorder]):
    """Connects with the first recorder, and creates streams that do not exist yet.

    Creating a recorder raises ProgrammingError for a stream with another configuration than needed.
    """

    NATS_URL = "NATS_URL"
    NATS_STREAM = "NATS_STREAM"
    NATS_REPLICAS = "NATS_REPLICAS"
    CREATE_TABLE = "CREATE_TABLE"

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._bridge: SyncBridge | None = None
        replicas = self.env.get(self.NATS_REPLICAS, "1")
        if replicas not in ("1", "2", "3", "4", "5"):
            raise OSError(f"{self.NATS_REPLICAS} is {replicas!r}; expected the number of copies of a stream, 1 to 5")
        self._replicas = int(replicas)

    def aggregate_recorder(self, purpose: str = "events") -> JetStreamAggregateRecorder:
        """A recorder over the stream of a purpose, such as 'snapshots'."""
        return JetStreamAggregateRecorder(*self._stream(purpose))

    def application_recorder(self) -> JetStreamApplicationRecorder:
        """The application recorder, or the one that APPLICATION_RECORDER_TOPIC names."""
        topic = self.env.get(self.APPLICATION_RECORDER_TOPIC)
        made: type[JetStreamApplicationRecorder] = resolve_topic(topic) if topic else JetStreamApplicationRecorder
        return made(*self._stream("events"))

    def tracking_recorder(
        self, tracking_recorder_class: type[JetStreamTrackingRecorder] | None = None
    ) -> JetStreamTrackingRecorder:
        """The tracking recorder, or one of the given class, or the one that TRACKING_RECORDER_TOPIC names."""
        topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
        made = tracking_recorder_class or (resolve_topic(topic) if topic else JetStreamTrackingRecorder)
        return made(*self._stream("tracking"))

    def process_recorder(self) -> JetStreamProcessRecorder:
        """The process recorder, or the one that PROCESS_RECORDER_TOPIC names."""
        topic = self.env.get(self.PROCESS_RECORDER_TOPIC)
        made: type[JetStreamProcessRecorder] = resolve_topic(topic) if topic else JetStreamProcessRecorder
        return made(*self._stream("events"))

    def close(self) -> None:
        """Close the connection; the recorders made here raise InterfaceError from now on."""
        if self._bridge is not None:
            self._bridge.close()

    def _stream(self, purpose: str) -> tuple[SyncBridge, str]:
        if self._bridge is None:
            self._bridge = SyncBridge(self.env.get(self.NATS_URL, "nats://127.0.0.1:4222"))
        parts = [self.env.get(self.NATS_STREAM, ""), self.env.name.lower(), purpose]
        name = re.sub(r"[^A-Za-z0-9_-]", "_", "_".join(part for part in parts if part))
        make = strtobool(self.env.get(self.CREATE_TABLE, "yes"))
        self._bridge.run(retry_until_available(partial(self._find, self._bridge, name, purpose, make)))
        return self._bridge, name

    async def _find(self, bridge: SyncBridge, name: str, purpose: str, make: bool) -> None:
        stream = Stream(name, (f"es.{name}.>",), 0, f"eventsourcing: {purpose} of {self.env.name or 'an application'}")
        wanted: dict[str, Any] = stream.config(self._replicas)
        if purpose == "tracking":  # positions, not history
            wanted["max_msgs_per_subject"] = 1

        found = await topology.info(bridge.connection, name)
        if found is None and not make:
            raise TopologyError(f"stream {name} does not exist; set {self.CREATE_TABLE}=y to create it")
        if found is None:
            await bridge.connection.api(f"STREAM.CREATE.{name}", wanted, timeout=30)
        elif make:
            choices = {key: found["config"].get(key) for key in ("num_replicas", "description")}
            if wrong := topology.differences({**wanted, **choices}, found["config"]):
                raise TopologyError(f"stream {name}: {'; '.join(wrong)}")
