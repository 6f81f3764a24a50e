"""A process that runs the counting stage as services do, sharing lanes with others: what the tests stop and kill.

    python -m tests.streams.instance URL LANES NAME [blind] [fixed=PATH] [die=handle|stored|STEP:N]

It prints 'loaded' when it has its lanes. `blind`: the others cannot see its process end. `fixed`: inputs of kind
'unprocessable' are refused until the file exists. `die` ends it on the spot, as `kill -9` would: when it handles a
fixed 'unprocessable', when that is stored, or at the N-th call of `on_step` with STEP. SIGTERM ends it in order.
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from streams.connection import connect
from streams.envelope import Recorded
from streams.errors import UnprocessableError
from streams.processing.processor import no_step
from streams.processing.stage import Output
from streams.processing.stage_runner import StageRunner
from streams.subjects import lanes
from tests.streams.counting import CODEC, Counted, Counting, Counts, Given, output

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


class RefusesUntilFixed(Counting):
    """Refuses 'unprocessable' until its cause is fixed, then counts it; may end the process at it."""

    def __init__(self, fixed: Path, die: str = "") -> None:
        self._mended = fixed
        self._die = die

    def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
        given: Given = event.data
        if given.kind != "unprocessable":
            yield from super().handle(state, event, now)
            return
        if not self._mended.exists():
            raise UnprocessableError(f"number {given.number} is unprocessable")
        if self._die == "handle":
            os._exit(9)
        count = state.counts[given.key] + (given.number != state.newest[given.key])
        yield output(Counted(given.key, given.number, count), f"counted.{given.number}.fixed")

    def stored(self, state: Counts, output: Output, sequence: int) -> None:
        super().stored(state, output, sequence)
        if self._die == "stored" and output.id.endswith(".fixed"):
            os._exit(9)


def dying_at(die: str) -> Callable[[str], None]:
    """Ends the process at the N-th call of one step."""
    chosen, _, count = die.partition(":")
    calls: Counter[str] = Counter()

    def on_step(step: str) -> None:
        calls[step] += 1
        if step == chosen and calls[step] == int(count):
            os._exit(9)

    return on_step


async def main(url: str, lane_count: int, name: str, options: list[str]) -> None:
    given = dict(option.partition("=")[::2] for option in options)
    die = given.get("die", "")
    connection = await connect(url, name)
    stage = RefusesUntilFixed(Path(given.get("fixed", "/nowhere")), die)
    on_step = dying_at(die) if ":" in die else no_step
    host = "another machine" if "blind" in given else None
    instance = StageRunner(
        connection, CODEC, stage, lanes(lane_count), time.time_ns, instance=name, host=host, on_step=on_step
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    running = asyncio.create_task(instance.run(stop))
    ready = asyncio.create_task(instance.ready())
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        sys.stdout.write("loaded\n")
        sys.stdout.flush()
    await running
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
