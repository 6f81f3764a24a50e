"""The durable consumer that shows operators how far a reader is: its lag is in `nats consumer report` and `vibe lag`.

No message is delivered through it. The reader moves it to the last message that it has acknowledged.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from streams.connection import Connection
from streams.errors import LogError

log = structlog.get_logger()

_MOVE_SECONDS = 1.0


class LagConsumer:
    """Keeps the consumer `name` behind the messages that were acknowledged, and makes it again when it was deleted."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        name: str,
        filters: Sequence[str],
        description: str,
        metadata: dict[str, str],
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._config: dict[str, Any] = {
            "name": name,
            "durable_name": name,
            "description": description,
            "metadata": metadata,
            "deliver_policy": "all",
            "ack_policy": "all",
        }
        if filters:
            self._config["filter_subjects"] = list(filters)
        self._name = name
        self._stored = -1
        self._moved_at = 0.0
        self.acknowledged = 0

    @property
    def is_due(self) -> bool:
        """True when the consumer was last moved a second ago or longer."""
        return _now() - self._moved_at >= _MOVE_SECONDS

    async def move(self) -> None:
        """Move the consumer to `acknowledged`; when that fails it is only logged, and the next move repeats it."""
        if self.acknowledged == self._stored:
            return
        reached, self._moved_at = self.acknowledged, _now()
        try:
            subject = f"CONSUMER.CREATE.{self._stream}.{self._name}"
            await self._connection.api(subject, {"stream_name": self._stream, "config": self._config}, timeout=1)
            subject = f"CONSUMER.RESET.{self._stream}.{self._name}"
            await self._connection.api(subject, {"seq": reached + 1}, timeout=1)
            self._stored = reached
        except LogError as error:  # it only informs operators, so it can wait
            log.debug("lag_consumer.not_moved", stream=self._stream, consumer=self._name, error=str(error))


def _now() -> float:
    return asyncio.get_running_loop().time()
