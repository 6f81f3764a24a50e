"""Where the history of a stream is read from: the log, or its archive first where an age limit has cut the log short.

A rebuild that read only what the log still holds would lose the rows of everything older, so the archive is looked
into by itself where the log does not begin at sequence 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog

from projections.engine.errors import RebuildError
from projections.engine.status import Extent

log = structlog.get_logger()


class History(NamedTuple):
    """One stream's: everything from sequence `begins` on can be read, through `archive` when it is given."""

    begins: int
    archive: str | None


async def histories(
    nats_url: str, archive: str | None, extents: Mapping[str, Extent], *, cold: bool
) -> dict[str, History]:
    """By stream. `archive` is where closed days are, if there is one; `cold`: read them from there in any case.

    Raises AnotherLogError, BrokenChainError or ArchiveError for an archive that cannot be used, DataLossError when
    the log ends before it.
    """
    return {stream: await _history(nats_url, archive, stream, extent, cold) for stream, extent in extents.items()}


async def _history(nats_url: str, archive: str | None, stream: str, extent: Extent, cold: bool) -> History:
    begins = extent.first
    if archive is None or (begins == 1 and not cold):
        return History(begins, None)
    # Only now, because most processes never read an archive.
    from streams.archive.live_range import live_range
    from streams.archive.manifest import chain
    from streams.archive.store import Archive

    store = Archive(archive)
    known = await chain(store, stream)
    if not known.links or known.last < begins - 1:  # between archive and log something is missing
        return History(begins, archive if cold else None)
    known.check(store, await live_range(nats_url, stream))
    return History(known.lost[-1][1] + 1 if known.lost else known.links[0].first, archive)


def check_whole(found: Mapping[str, History], name: str, streams: Iterable[str], *, shorten: bool) -> None:
    """Raises RebuildError when a read model would lack what an age limit removed; with `shorten` it is only logged."""
    for stream in streams:
        if found[stream].begins > 1:
            lost = (
                f"{stream} begins at sequence {found[stream].begins:,}; what an age limit removed is not in the "
                f"archive, and rows of {name} that were built from it would not be there"
            )
            if not shorten:
                raise RebuildError(f"{lost}; --shorten builds it from what there is")
            log.warning("rebuild.shortened", projection=name, why=lost)


def check_front(found: Mapping[str, History], extents: Mapping[str, Extent]) -> None:
    """Raises RebuildError when an age limit began to remove what was being read from the log alone."""
    for stream, extent in extents.items():
        if stream in found and found[stream] == History(1, None) and extent.first > 1:
            raise RebuildError(
                f"an age limit began to remove events of {stream} while they were read; begin again, and what is "
                "archived will be read from the archive"
            )
