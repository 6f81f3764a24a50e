"""Waiting for what a lane needs from elsewhere in its process, such as a CONFIG sequence."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from streams.retry import StoppedError

_STOP_CHECK_SECONDS = 0.5
REPORT_SECONDS = 2.0
"""A wait that lasts longer is reported."""


async def wait_unless_stopped(
    needed: Coroutine[Any, Any, None], stop: asyncio.Event, report: Callable[[], None]
) -> None:
    """Wait until `needed` returns; `report` is called once when that takes longer than `REPORT_SECONDS`.

    Raises StoppedError when `stop` is set meanwhile, and what `needed` raises.
    """
    loop = asyncio.get_running_loop()
    report_at: float | None = loop.time() + REPORT_SECONDS
    waiting = asyncio.create_task(needed)
    try:
        while not (await asyncio.wait({waiting}, timeout=_STOP_CHECK_SECONDS))[0]:
            if stop.is_set():
                raise StoppedError
            if report_at is not None and loop.time() >= report_at:
                report()
                report_at = None
        waiting.result()
    finally:
        waiting.cancel()
