"""The errors of the archive.

ArchiveError (a LogError)
├── AnotherLogError     the archive holds the streams of another log
├── BrokenChainError    its files do not follow each other, or one is missing
├── DamagedError        a file does not hold what its manifest says
├── OverlappedError     another run exported the same events meanwhile, in other files
├── OvertakenError      an age limit removed events while they were read
└── QueryError          DuckDB rejects or fails a query
"""

from streams.errors import LogError


class ArchiveError(LogError):
    """The archive cannot be read or written; the text names the place and what to check."""


class AnotherLogError(ArchiveError):
    """`archived` and `found` are when the archived stream and the log's stream of that name were created."""

    def __init__(self, url: str, stream: str, archived: str, found: str) -> None:
        super().__init__(
            f"the archive {url} holds stream {stream} of a log that was created at {archived}, this log's was created "
            f"at {found}; they must not be mixed: set VIBE_ARCHIVE_URL to an empty location, or use the old log again"
        )
        self.archived = archived
        self.found = found


class BrokenChainError(ArchiveError):
    pass


class DamagedError(ArchiveError):
    pass


class OverlappedError(ArchiveError):
    pass


class OvertakenError(ArchiveError):
    """Events `first`..`last` are gone from the stream and not in the archive."""

    def __init__(self, stream: str, first: int, last: int) -> None:
        super().__init__(
            f"{stream}: sequences {first}..{last} were removed by the stream's age limit while they were read; "
            "run `vibe archive run` again: it continues after them and records the loss"
        )
        self.first = first
        self.last = last


class QueryError(ArchiveError):
    pass
