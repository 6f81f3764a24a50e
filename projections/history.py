"""Where the history of a stream is read from: the log, or its archive first where an age limit has cut the log short.

A rebuild that read only what the log still holds would lose the rows of everything older, so the archive is looked
into by itself where the log does not begin at sequence 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from projections.standing import Extent


class History(NamedTuple):
    """One stream's: everything from sequence `begins` on can be read, through `archive` when it is given."""

    begins: int
    archive: str | None


async def histories(archive: str | None, extents: Mapping[str, Extent], *, cold: bool) -> dict[str, History]:
    """By stream. `archive` is where closed days are, if there is one; `cold`: read them from there in any case.

    Raises AnotherLogError, BrokenChainError or ArchiveError for an archive that cannot be used.
    """
    return {stream: await _history(archive, stream, extent, cold=cold) for stream, extent in extents.items()}


async def _history(archive: str | None, stream: str, extent: Extent, *, cold: bool) -> History:
    begins = extent.first
    if archive is None or (begins == 1 and not cold):
        return History(begins, None)
    from streams.archive.manifest import chain
    from streams.archive.store import Archive

    known = await chain(Archive(archive), stream)
    if not known.links or known.last < begins - 1:  # between archive and log something is missing
        return History(begins, archive if cold else None)
    return History(known.lost[-1][1] + 1 if known.lost else known.links[0].first, archive)
