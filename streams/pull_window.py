"""Pulls of a consumer in advance: as much as two pulls may bring is always asked for, and never more."""

from msgspec import Struct

from streams.bulk_client import BulkConnection
from streams.errors import RefusedError, UnavailableError
from streams.nats_protocol import Status

_SILENCE_SECONDS = 0.1
_SECOND = 1_000_000_000


class PullSettings(Struct, frozen=True, kw_only=True):
    """How much one pull asks for at most, and after how many seconds it expires."""

    messages: int = 10_000
    max_bytes: int = 8 * 1024 * 1024
    seconds: float = 10.0


DEFAULT_PULL = PullSettings()


class PullWindow:
    """Keeps two pulls of one consumer outstanding. `expired` counts pulls in a row that brought nothing."""

    def __init__(self, connection: BulkConnection, stream: str, consumer: str, settings: PullSettings) -> None:
        self._connection = connection
        self._stream = stream
        self._consumer = consumer
        self._settings = settings
        self._max_bytes = settings.max_bytes
        self._credit = 0
        self.expired = 0

    def request(self, wanted: int | None = None) -> None:
        """Pull again when half of a pull is left at most; only `wanted` messages in all when they are known."""
        # The server takes turns among pulls, so when half a pull's messages are left the pull before it is used up:
        # two are outstanding and both bounds hold.
        messages = self._settings.messages
        if wanted is not None:
            messages = min(messages, wanted - self._credit)
        if messages > 0 and self._credit <= self._settings.messages // 2:
            self._credit += messages
            body = {
                "batch": messages,
                "max_bytes": self._max_bytes,
                "expires": int(self._settings.seconds * _SECOND),
            }
            self._connection.pull(self._stream, self._consumer, body)

    async def wait(self, wanted: int | None = None) -> None:
        """Wait for deliveries or statuses. Raises UnavailableError when the consumer no longer answers."""
        if await self._connection.wait(_SILENCE_SECONDS):
            return
        await self._recount(wanted)
        if not await self._connection.wait(1.2 * self._settings.seconds):
            # A consumer that exists would have reported an expired pull; a deleted one reports nothing.
            raise UnavailableError(f"the pulls of consumer {self._consumer} are not answered")

    def on_delivered(self, messages: int) -> None:
        self._credit -= messages
        self.expired = 0

    def on_status(self, status: Status) -> None:
        """Raises UnavailableError when the server ended a pull for good."""
        self._credit -= status.pending_messages
        if status.code == 408:
            self.expired += 1
        elif status.code == 409 and "MaxBytes" in status.text:
            if status.pending_bytes >= self._max_bytes:
                self._max_bytes *= 2  # the next message is larger than a whole pull
        elif status.code == 409 and status.text != "Batch Completed":
            raise UnavailableError(f"the server ended a pull: {status.code} {status.text}")

    async def _recount(self, wanted: int | None) -> None:
        # When a message uses a pull's bytes to the last one, nats-server 2.15 ends the pull without a status, and the
        # rest of the pull would stay in the credit. So after a silence we ask whether a pull is waiting at all.
        try:
            info = await self._connection.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}")
        except RefusedError as error:
            raise UnavailableError(str(error)) from error
        if not info["num_waiting"] and not self._connection.has_deliveries:
            self._credit = 0
            self.request(wanted)
