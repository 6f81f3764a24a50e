"""market_description, outcome_asset and outcome_payout: markets with their names, outcomes and payouts. On them:
market, the descriptions with the time of the resolution.

A market is described in GROUPS when a followed address first trades one of its tokens, on venues whose markets have
names and ends (Polymarket). Tick, minimum and fee rate are micros; `closes_at` is the listed end. A payout is the final
value of one share of an asset; a market is resolved when its assets have one. Descriptions and payouts are in separate
tables, because a market may be described again after its resolution.
"""

from collections.abc import Iterator

from domain.events import MarketDescribed, MarketResolved
from projections.engine.projection import Projection
from projections.engine.table import Change, Table, Upsert, View, timestamp
from streams.envelope import Recorded
from streams.topology import GROUPS

MARKET_DESCRIPTION = Table(
    "market_description",
    key=("venue", "market"),
    columns={
        "venue": "text",
        "market": "text",
        "question": "text",
        "slug": "text",
        "tick_micros": "bigint",
        "min_share_micros": "bigint",
        "fee_rate_micros": "bigint",
        "accepting": "boolean",
        "closes_at": "timestamptz NULL",
        "sequence": "bigint",
        "described_at": "timestamptz",
    },
)
OUTCOME_ASSET = Table(
    "outcome_asset",
    key=("venue", "asset"),
    columns={
        "venue": "text",
        "asset": "text",
        "market": "text",
        "number": "bigint",
        "label": "text",
        "sequence": "bigint",
    },
    indexes=("market, venue",),
)
OUTCOME_PAYOUT = Table(
    "outcome_payout",
    key=("venue", "asset"),
    columns={
        "venue": "text",
        "asset": "text",
        "market": "text",
        "price_micros": "bigint",
        "resolution_id": "text",
        "sequence": "bigint",
        "resolved_at": "timestamptz",
        "detect_time": "timestamptz",
    },
)


MARKET = View(
    "market",
    key=("venue", "market"),
    columns={**MARKET_DESCRIPTION.columns, "resolved_at": "timestamptz NULL"},
    query="""
        SELECT d.*, (
            SELECT max(p.resolved_at) FROM {schema}.outcome_asset a JOIN {schema}.outcome_payout p USING (venue, asset)
            WHERE a.venue = d.venue AND a.market = d.market
        ) AS resolved_at
        FROM {schema}.market_description d
    """,
)


class Markets(Projection):
    name = "market"
    version = 2
    reads = (GROUPS,)
    types = frozenset({"market.described", "market.resolved"})
    tables = (MARKET_DESCRIPTION, OUTCOME_ASSET, OUTCOME_PAYOUT)
    views = (MARKET,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.data:
            case MarketDescribed() as described:
                of = {"venue": described.venue.value, "market": described.market, "sequence": event.sequence}
                yield Upsert(
                    MARKET_DESCRIPTION,
                    {
                        **of,
                        "question": described.question,
                        "slug": described.slug,
                        "tick_micros": described.tick_micros,
                        "min_share_micros": described.min_share_micros,
                        "fee_rate_micros": described.fee_rate_micros,
                        "accepting": described.accepting,
                        "closes_at": timestamp(described.closes_at) if described.closes_at is not None else None,
                        "described_at": timestamp(described.described_at),
                    },
                )
                for number, outcome in enumerate(described.outcomes):
                    yield Upsert(
                        OUTCOME_ASSET, {**of, "asset": outcome.asset, "number": number, "label": outcome.label}
                    )
            case MarketResolved() as resolved:
                for payout in resolved.payouts:
                    yield Upsert(
                        OUTCOME_PAYOUT,
                        {
                            "venue": resolved.venue.value,
                            "asset": payout.asset,
                            "market": resolved.market,
                            "price_micros": payout.price_micros,
                            "resolution_id": resolved.resolution_id,
                            "sequence": event.sequence,
                            "resolved_at": timestamp(resolved.resolved_at),
                            "detect_time": timestamp(resolved.detect_time),
                        },
                    )
