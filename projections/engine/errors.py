"""The errors of the projection engine, and which errors of Postgres, the log and the archive it handles.

ProjectionError
├── LostPositionError      another writer moved a position or swapped the tables: load the positions again
├── OtherLogError          the log is not the one that the read models were built from
├── UnprocessableRowError  a rebuild met an event that cannot be folded or stored; it names the event
└── RebuildError           a rebuild, a build or a verification cannot be done as asked; the text states what to do
"""

from __future__ import annotations

import asyncpg

from streams.archive.errors import AnotherLogError, BrokenChainError, DamagedError
from streams.errors import DataLossError, LogError, RefusedError, TopologyError
from streams.retry import RetryPolicy

RETRIES = RetryPolicy(first_delay=0.2, longest_delay=5.0)
"""How the engine, rebuilds and loads wait for a server that is unreachable."""


class ProjectionError(Exception):
    """The base of this package's errors."""


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
    """`projection` cannot fold or store the event at `stream`:`sequence`."""

    def __init__(self, projection: str, stream: str, sequence: int, event: str, reason: str) -> None:
        super().__init__(
            f"{projection}: the event {stream}:{sequence} ({event}) cannot be folded: {reason}. Fix the fold and "
            "rebuild again with --resume, or dead-letter such events: vibe projections rebuild "
            f"{projection} --dead-letter"
        )
        self.projection = projection
        self.stream = stream
        self.sequence = sequence
        self.event = event
        self.reason = reason


class RebuildError(ProjectionError):
    pass


UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    LogError,
)
"""What the clients raise when Postgres or the log is unreachable, asyncpg's internal errors of a killed backend
included."""

ARCHIVE_ERRORS = (AnotherLogError, BrokenChainError, DamagedError)
"""Errors of the archive that an operator has to fix."""

PERMANENT = (DataLossError, RefusedError, TopologyError, asyncpg.InsufficientPrivilegeError, *ARCHIVE_ERRORS)
"""Those of `UNAVAILABLE` for which a retry does not help."""

ROW_ERRORS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What writing a row raises that does not fit its table: a number above bigint, an existing key, a text with a NUL."""


def is_transient(error: BaseException) -> bool:
    """Whether an error means that a server is unreachable for a while, so that a retry with backoff helps."""
    if isinstance(error, PERMANENT) or not isinstance(error, UNAVAILABLE):
        return False
    if isinstance(error, asyncpg.PostgresError):
        # 08 connection, 40 rolled back, 53 out of resources, 55P03 lock not available, 57 operator (shutdown, crash)
        state = error.sqlstate or ""
        return state[:2] in ("08", "40", "53", "57") or state == "55P03"
    return True
