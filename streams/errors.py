"""The errors of the log.

LogError
├── UnavailableError     no answer, or the server cannot serve now: try again later
├── UnknownOutcomeError  an append was sent and not answered: it may have landed; read back before retrying
├── ConflictError        another writer was first; carries the expected and the actual version
├── DuplicateError       an event id of the batch is in the log already
├── RefusedError         the server will never take this: too large, no such stream, bad configuration
├── DataLossError        a hole in a stream's sequences
└── TopologyError        a stream is missing or differs from the table in topology.py

UnprocessableError       an event that a stage cannot handle; it goes to DEAD with this reason
"""


class LogError(Exception):
    """The log did not do what was asked for."""


class UnavailableError(LogError):
    pass


class UnknownOutcomeError(LogError):
    pass


class ConflictError(LogError):
    """`actual` is the subject's last sequence, or None when the server did not report it."""

    def __init__(self, subject: str, expected: int, actual: int | None) -> None:
        super().__init__(f"{subject}: expected last sequence {expected}, the log is at {actual}")
        self.subject = subject
        self.expected = expected
        self.actual = actual


class DuplicateError(LogError):
    pass


class RefusedError(LogError):
    """`code` is the server's error code (nats-server, errors.json)."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class DataLossError(LogError):
    """Events `first`..`last` of a stream are missing."""

    def __init__(self, stream: str, first: int, last: int) -> None:
        super().__init__(
            f"{stream}: sequences {first}..{last} are missing, though the stream forbids deletion; "
            "restore the stream from a backup before going on"
        )
        self.stream = stream
        self.first = first
        self.last = last


class TopologyError(LogError):
    pass


class UnprocessableError(Exception):
    """Raised by a stage's `handle` for an event that it cannot understand or that breaks an invariant."""
