"""The clock of a process: nanoseconds UTC, shifted by an offset in a demo, whose scenario has a time of its own."""

import time


class Clock:
    """`clock()` is now in ns. A shifted clock runs as fast as the real one."""

    def __init__(self, offset_ns: int = 0) -> None:
        self.offset_ns = offset_ns

    def __call__(self) -> int:
        return time.time_ns() + self.offset_ns
