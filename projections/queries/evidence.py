"""The leaderboard by evidence: followed influencers by the evidence score (domain/evidence_score.py).

A round trip that was under way when the span began is left out, because its capital is not known. Capital is the
largest notional of the trip. A trip averaged down when it added to the position at a worse price than its first.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date

from msgspec import Struct

from domain.evidence_score import Confidence, Evidence, floors_of, measured, ranked
from domain.trader_record import Record, Trip
from projections.queries.fetch import Reader, many
from projections.queries.round_trips import FIRST, LAST, TRIPS, midnight


class EvidenceRow(Struct, frozen=True, kw_only=True):
    """A row of the leaderboard. `rank` and `score_micros` are None, and `parts` (percentiles in micros) is empty, with
    too little evidence: `evidence.missing` names what is missing."""

    rank: int | None
    score_micros: int | None
    parts: dict[str, int]
    confidence: Confidence
    influencer_id: str
    label: str
    venue: str
    addresses: tuple[str, ...]
    evidence: Evidence


class _Known(Struct, frozen=True, kw_only=True):
    influencer_id: str
    label: str
    venue: str
    addresses: tuple[str, ...]
    equity_micros: int | None
    first_seen: int | None
    gaps: int


class _Row(Struct, frozen=True, kw_only=True):
    influencer_id: str
    asset: str
    opened: int
    ended: int
    net_micros: int
    capital_micros: int
    averaged_down: bool


async def evidence_board(
    db: Reader, now: int, since: date = FIRST, until: date = LAST, *, window_days: int | None = None
) -> list[EvidenceRow]:
    """Every active influencer with a round trip detected in the days [since, until), the best first; those with too
    little evidence at `now` (ns) follow. Reads all rows of shadow_entry of those days: limit the time span, and cache
    the result if it is needed often."""
    known = {one.influencer_id: one for one in await many(db, _Known, _KNOWN, since, until)}
    trips: defaultdict[str, list[Trip]] = defaultdict(list)
    for row in await many(db, _Row, _TRIPS, midnight(since), midnight(until)):
        trips[row.influencer_id].append(
            Trip(
                asset=row.asset,
                opened=row.opened,
                ended=row.ended,
                net_micros=row.net_micros,
                capital_micros=row.capital_micros,
                averaged_down=row.averaged_down,
            )
        )
    floors = floors_of(window_days)
    found = [
        measured(
            Record(
                trader=name,
                trips=trips[name],
                equity_micros=one.equity_micros,
                first_seen=one.first_seen,
                gaps=one.gaps,
            ),
            now,
            floors,
        )
        for name, one in known.items()
        if name in trips
    ]
    return [
        EvidenceRow(
            rank=row.rank,
            score_micros=row.score_micros,
            parts=row.parts,
            confidence=row.confidence,
            influencer_id=row.evidence.trader,
            label=known[row.evidence.trader].label,
            venue=known[row.evidence.trader].venue,
            addresses=known[row.evidence.trader].addresses,
            evidence=row.evidence,
        )
        for row in ranked(found)
    ]


_KNOWN = """
SELECT i.influencer_id, i.label, i.venue, i.addresses::text AS addresses, r.equity_micros,
    (extract(epoch FROM m.first_day)::bigint * 1000000000) AS first_seen, coalesce(m.gaps, 0) AS gaps
FROM influencer i
LEFT JOIN (
    SELECT influencer_id, sum(equity_micros) AS equity_micros FROM influencer_report
    WHERE equity_micros IS NOT NULL GROUP BY influencer_id
) r USING (influencer_id)
LEFT JOIN (
    SELECT influencer_id, min(day) AS first_day, sum(gaps) FILTER (WHERE day >= $1 AND day < $2) AS gaps
    FROM influencer_metrics GROUP BY influencer_id
) m USING (influencer_id)
WHERE i.status = 'active' ORDER BY i.influencer_id
"""

_TRIPS = f"""
WITH {TRIPS.format(which="detect_time >= $1 AND detect_time < $2")}
SELECT influencer_id, asset, profit AS net_micros, capital AS capital_micros,
    (extract(epoch FROM opened) * 1000000)::bigint * 1000 AS opened,
    (extract(epoch FROM ended) * 1000000)::bigint * 1000 AS ended,
    coalesce(CASE WHEN long THEN lowest_added < first_price ELSE highest_added > first_price END, false)
        AS averaged_down
FROM trip JOIN influencer USING (influencer_id)
WHERE NOT censored AND capital > 0 AND influencer.status = 'active' ORDER BY influencer_id, place, asset
"""
