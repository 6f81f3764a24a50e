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
    """Keeps the consumer `name` behind the messages that were acknowledged, and makes it again when it was deleted.

    It moves once a second at most: each move makes the server count anew what is unread.
    """

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
        self._is_made = False
        self._stored = -1
        self._moving: asyncio.Task[None] | None = None
        self.acknowledged = 0

    async def open(self, acknowledged: int) -> None:
        """Make or update the consumer, and keep it behind `acknowledged` from now on."""
        self.acknowledged = acknowledged
        await self._move()
        self._moving = asyncio.create_task(self._keep_moving())

    async def close(self) -> None:
        """Move the consumer once more; it stays."""
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.gather(self._moving, return_exceptions=True)
            await self._move()

    async def _keep_moving(self) -> None:
        while True:
            await asyncio.sleep(_MOVE_SECONDS)
            await self._move()

    async def _move(self) -> None:
        """Move the consumer to `acknowledged`; when that fails it is only logged, and the next move repeats it."""
        reached = self.acknowledged
        if reached == self._stored:
            return
        try:
            if not self._is_made:
                subject = f"CONSUMER.CREATE.{self._stream}.{self._name}"
                await self._connection.api(subject, {"stream_name": self._stream, "config": self._config}, timeout=1)
                self._is_made = True
            subject = f"CONSUMER.RESET.{self._stream}.{self._name}"
            await self._connection.api(subject, {"seq": reached + 1}, timeout=1)
            self._stored = reached
        except LogError as error:  # it only informs operators, so it can wait
            # The server does not answer a reset of a consumer that was deleted.
            self._is_made = False
            log.debug("lag_consumer.not_moved", stream=self._stream, consumer=self._name, error=str(error))
