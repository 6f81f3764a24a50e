"""Effects: stored intents are carried out in the background, many at once, and their outcomes go back to the lane."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from streams.processing.stage import Output

log = structlog.get_logger()

Effect = Callable[[], Awaitable[list[Output]]]

_RETRY_SECONDS = 1.0


class EffectRunner:
    """Runs one effect per open intent. An intent is open until its outcome is folded; an effect that fails runs again.

    `wake` is set when an effect has ended.
    """

    def __init__(self, wake: asyncio.Event) -> None:
        self._wake = wake
        self._running: dict[str, asyncio.Task[None]] = {}
        self._outcomes: list[list[Output]] = []

    @property
    def has_outcomes(self) -> bool:
        return bool(self._outcomes)

    def start(self, intents: Mapping[str, Effect]) -> None:
        """Start the effect of every open intent that has none running, and forget those whose intents are closed."""
        for key in [key for key, task in self._running.items() if task.done() and key not in intents]:
            del self._running[key]
        for key, effect in intents.items():
            if key not in self._running:
                self._running[key] = asyncio.create_task(self._run(key, effect))

    def take(self) -> list[list[Output]]:
        """The outcomes since the last call."""
        taken, self._outcomes = self._outcomes, []
        return taken

    async def cancel(self) -> None:
        """Stop every effect. The intents are in the log: the next owner of the lane starts their effects again."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._running.clear()
        self._outcomes.clear()

    async def _run(self, key: str, effect: Effect) -> None:
        try:
            outcome = await effect()
        except Exception:
            log.exception("effect.failed", intent=key)
            # Not a backoff: the stage's own effect retries with backoff; this only prevents a busy loop.
            await asyncio.sleep(_RETRY_SECONDS)
            self._running.pop(key, None)
        else:
            self._outcomes.append(outcome)
        self._wake.set()
