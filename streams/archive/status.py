"""How far each stream is archived, and which unarchived days an age limit is about to remove."""

from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from streams.archive.live_range import live_range
from streams.archive.manifest import load_chain
from streams.archive.store import Archive
from streams.envelope import rfc3339

_DAY = 86_400_000_000_000
WARNING_DAYS = 7
"""A day is at risk when its age limit is reached within this many days."""


class Coverage(NamedTuple):
    """One stream: the extents of its archive and of the log, and the days at risk.

    Sequences are 0 and days empty where there is nothing. `bytes` is the size of the files, `waiting` the number of
    events that are not archived. `days_at_risk` are UTC days by the time of storage, to which age limits apply; `lost`
    are the sequences that they have removed already, (first, last).
    """

    stream: str
    archived_to: int
    archived_to_day: str
    events: int
    bytes: int
    files: int
    oldest: int
    newest: int
    waiting: int
    waiting_since: str
    keeps_days: int
    days_at_risk: list[str]
    lost: list[tuple[int, int]]

    @property
    def at_risk(self) -> bool:
        """Whether days must be archived now, or events were lost since the last run."""
        return bool(self.days_at_risk) or bool(self.lost and self.lost[-1][0] > self.archived_to)


async def coverage(archive: Archive, url: str, stream: str, *, now_ns: int) -> Coverage:
    """The coverage of a stream at `now_ns`. Raises what `archived_replay.replay` raises before its first block."""
    known = await load_chain(archive, stream)
    now = await live_range(url, stream, behind=known.last)
    known.check(archive, now)
    lost = known.lost
    if known.last and now.first > known.last + 1:
        lost = [*lost, (known.last + 1, now.first - 1)]
    waiting = now.last - max(known.last, now.first - 1)
    return Coverage(
        stream=stream,
        archived_to=known.last,
        archived_to_day=known.day,
        events=sum(link.count for link in known.links),
        bytes=sum(link.bytes for link in known.links),
        files=len(known.links),
        oldest=now.first if now.first <= now.last else 0,
        newest=now.last,
        waiting=waiting,
        waiting_since=rfc3339(now.stored_ns)[:10] if now.stored_ns else "",
        keeps_days=now.max_age // _DAY,
        days_at_risk=_days(now.stored_ns, now_ns + WARNING_DAYS * _DAY - now.max_age)
        if now.max_age and now.stored_ns
        else [],
        lost=lost,
    )


def _days(first_ns: int, last_ns: int) -> list[str]:
    """Every UTC day from one time to another; none when the second is earlier."""
    if last_ns < first_ns:
        return []
    first, last = (date.fromisoformat(rfc3339(at)[:10]) for at in (first_ns, last_ns))
    return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]


def write_metrics(found: list[Coverage], file: Path) -> None:
    """Write Prometheus gauges to a file, replacing it, for the textfile collector of a node exporter."""
    registry = CollectorRegistry()
    gauges = {
        name: Gauge(f"vibe_archive_{name}", text, ["stream"], registry=registry)
        for name, text in (
            ("days_at_risk", f"Days whose age limit is reached within {WARNING_DAYS} days and that are not archived"),
            ("archived_sequence", "The last archived sequence"),
            ("waiting_events", "Events of the stream that are not archived"),
            ("lost_events", "Events that an age limit removed before they were archived"),
        )
    }
    for one in found:
        gauges["days_at_risk"].labels(one.stream).set(len(one.days_at_risk))
        gauges["archived_sequence"].labels(one.stream).set(one.archived_to)
        gauges["waiting_events"].labels(one.stream).set(one.waiting)
        gauges["lost_events"].labels(one.stream).set(sum(last - first + 1 for first, last in one.lost))
    write_to_textfile(str(file), registry)
