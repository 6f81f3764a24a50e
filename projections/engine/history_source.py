"""Where the history of a stream is read from: the log, or first its archive when an age limit has shortened the log.

A rebuild from the log alone would lose the rows of all events that an age limit has removed, so the archive is used
automatically when the log does not begin at sequence 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog

from projections.engine.errors import RebuildError
from projections.engine.status import Extent

log = structlog.get_logger()


class HistorySource(NamedTuple):
    """The source of one stream: all sequences from `begins` on can be read, the first from `archive` if it is set."""

    begins: int
    archive: str | None


async def find_sources(
    nats_url: str, archive: str | None, extents: Mapping[str, Extent], *, prefer_archive: bool
) -> dict[str, HistorySource]:
    """The source of each stream, by name.

    `archive` is the archive's URL or folder, if there is one; `prefer_archive`: read all archived days from it, even
    those that the log still holds. Raises AnotherLogError, BrokenChainError or ArchiveError for an archive that cannot
    be used, DataLossError when the log ends before the archive does.
    """
    return {
        stream: await _find_source(nats_url, archive, stream, extent, prefer_archive)
        for stream, extent in extents.items()
    }


async def _find_source(
    nats_url: str, archive: str | None, stream: str, extent: Extent, prefer_archive: bool
) -> HistorySource:
    begins = extent.first
    if archive is None or (begins == 1 and not prefer_archive):
        return HistorySource(begins, None)
    # Imported here because most processes never read an archive.
    from streams.archive.live_range import live_range
    from streams.archive.manifest import load_chain
    from streams.archive.store import Archive

    store = Archive(archive)
    known = await load_chain(store, stream)
    if not known.links or known.last < begins - 1:  # events between the archive and the log are missing
        return HistorySource(begins, archive if prefer_archive else None)
    known.check(store, await live_range(nats_url, stream))
    return HistorySource(known.lost[-1][1] + 1 if known.lost else known.links[0].first, archive)


def check_complete(found: Mapping[str, HistorySource], name: str, streams: Iterable[str], *, shorten: bool) -> None:
    """Raises RebuildError when a read model would lack events that an age limit removed; with `shorten` only logs
    it."""
    for stream in streams:
        if found[stream].begins > 1:
            missing = (
                f"{stream} begins at sequence {found[stream].begins:,}; the events that an age limit removed are not "
                f"in the archive, and the rows of {name} that were built from them would be missing"
            )
            if not shorten:
                raise RebuildError(f"{missing}; --shorten accepts that")
            log.warning("rebuild.shortened", projection=name, why=missing)


def check_not_truncated(found: Mapping[str, HistorySource], extents: Mapping[str, Extent]) -> None:
    """Raises RebuildError when an age limit began to remove events of a stream that was read from the log alone."""
    for stream, extent in extents.items():
        if stream in found and found[stream] == HistorySource(1, None) and extent.first > 1:
            raise RebuildError(
                f"an age limit began to remove events of {stream} while they were read; start again, and archived "
                "events will be read from the archive"
            )
