"""Couriers carry out stored intents, many at once, and bring their outcomes back to the lane."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from streams.processing.stage import Output

log = structlog.get_logger()

Work = Callable[[], Awaitable[list[Output]]]

_PAUSE_SECONDS = 1.0


class EffectRunner:
    """At most one courier per intent. An intent is open until its outcome is folded; one that fails goes again."""

    def __init__(self, wake: asyncio.Event) -> None:
        self._wake = wake
        self._out: dict[str, asyncio.Task[None]] = {}
        self._back: list[list[Output]] = []

    @property
    def back(self) -> bool:
        """True when an outcome waits to be taken."""
        return bool(self._back)

    def send(self, intents: Mapping[str, Work]) -> None:
        """Send a courier for every open intent that has none, and forget those whose intents are closed."""
        for key in [key for key, task in self._out.items() if task.done() and key not in intents]:
            del self._out[key]
        for key, work in intents.items():
            if key not in self._out:
                self._out[key] = asyncio.create_task(self._carry(key, work))

    def take(self) -> list[list[Output]]:
        """The outcomes that came back since the last call."""
        taken, self._back = self._back, []
        return taken

    async def recall(self) -> None:
        """Stop every courier: their intents stand in the log, and whoever owns the lane next sends others."""
        for task in self._out.values():
            task.cancel()
        await asyncio.gather(*self._out.values(), return_exceptions=True)
        self._out.clear()
        self._back.clear()

    async def _carry(self, key: str, work: Work) -> None:
        try:
            outcome = await work()
        except Exception:
            log.exception("courier.failed", intent=key)
            await asyncio.sleep(_PAUSE_SECONDS)
            self._out.pop(key, None)
        else:
            self._back.append(outcome)
        self._wake.set()
