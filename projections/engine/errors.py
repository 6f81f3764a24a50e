"""What can go wrong with read models.

ProjectionError
├── LostPlaceError   somebody else moved a position, or swapped the tables: load the positions again
├── OtherLogError    the log is not the one that the read models were built from
├── PoisonError      a rebuild met an event that cannot be folded or stored; it names the event
└── RebuildError     a rebuild or a check that cannot be done as asked; it says what to do
"""

from __future__ import annotations

import asyncpg

from streams.archive.errors import AnotherLogError, BrokenChainError, DamagedError
from streams.errors import DataLossError, LogError, RefusedError, TopologyError


class ProjectionError(Exception):
    """Anything that building read models may end with."""


class LostPositionError(ProjectionError):
    pass


class OtherLogError(ProjectionError):
    def __init__(self, stream: str, created: object, built_from: object) -> None:
        super().__init__(
            f"{stream} was created at {created}, but the read models were built from a {stream} that was created at "
            f"{built_from}: this is another log. To build them from this one: vibe projections rebuild --all"
        )
        self.stream = stream


class UnprocessableRowError(ProjectionError):
    """`projection` cannot take the event at `stream`:`sequence`."""

    def __init__(self, projection: str, stream: str, sequence: int, event: str, reason: str) -> None:
        super().__init__(
            f"{projection}: the event {stream}:{sequence} ({event}) cannot be folded: {reason}. Mend the fold and "
            "rebuild again with --resume, or let such events go to DEAD: vibe projections rebuild "
            f"{projection} --bury"
        )
        self.projection = projection
        self.stream = stream
        self.sequence = sequence
        self.event = event
        self.reason = reason


class RebuildError(ProjectionError):
    pass


LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    LogError,
)
"""What a lost database or log raises; the client is in a state of its own when a backend dies under it."""

BAD_ARCHIVE = (AnotherLogError, BrokenChainError, DamagedError)
"""What an archive raises that somebody has to mend."""

FINAL = (DataLossError, RefusedError, TopologyError, asyncpg.InsufficientPrivilegeError, *BAD_ARCHIVE)
"""Of those, what trying again does not cure."""

BAD_ROW = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What a row that does not fit its table raises: a number above bigint, a key that exists, a text with a NUL."""


def passing(error: BaseException) -> bool:
    """Whether an error says that a server is away for a moment, and waiting helps."""
    if isinstance(error, FINAL) or not isinstance(error, LOST):
        return False
    if isinstance(error, asyncpg.PostgresError):
        # 08 connection, 40 rolled back, 53 out of resources, 55P03 lock not available, 57 operator (shutdown, crash)
        state = error.sqlstate or ""
        return state[:2] in ("08", "40", "53", "57") or state == "55P03"
    return True
