"""`vibe influencer show`: an influencer's own trading as a portfolio, from the log as of any moment."""

from typing import Any

from rich.console import Console

from domain.events import Venue
from domain.influencer_portfolio import InfluencerPortfolio, equity
from domain.mark_prices import MarkPrices
from domain.micros import decimal_text
from handlers.live.configuration import directory_at
from handlers.live.event_codec import codec
from handlers.live.mark_prices import all_marks
from handlers.services.influencer_portfolio import InfluencerPortfolios, influencer_portfolios
from streams import topology
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.cli.connections import open_connections
from vibe.cli.output import print_json, show, table
from vibe.cli.time_arguments import ago


async def run_influencer_show(settings: Settings, influencer_id: str, at: str | None, json: bool) -> int:
    """Exit code 1 for an influencer who is not configured."""
    until = ago(at, Clock()()) if at else None
    async with open_connections(settings) as open_ends:
        await topology.verify(open_ends.connection)
        directory, _ = await directory_at(open_ends.connection, codec())
        influencer = directory.influencers.get(influencer_id)
        if influencer is None:
            Console(stderr=True).print(
                f"vibe influencer show: {influencer_id!r} is not configured; `vibe config show` lists who is",
                markup=False,
            )
            return 1
        found = await influencer_portfolios(open_ends.connection, influencer, until)
        marks = await all_marks(open_ends.connection, codec(), until)
    if json:
        facts = _facts(influencer_id, influencer.venue, found, marks)
        print_json(facts)
    else:
        _show(influencer_id, found, marks)
    return 0


def _facts(influencer_id: str, venue: Venue, found: InfluencerPortfolios, marks: MarkPrices) -> dict[str, Any]:
    return {
        "influencer_id": influencer_id,
        "venue": venue.value,
        "portfolio": "SHADOW_USER",
        "sequence": found.sequence,
        "addresses": {address: _portfolio(one, marks) for address, one in found.of.items()},
    }


def _portfolio(one: InfluencerPortfolio, marks: MarkPrices) -> dict[str, Any]:
    worth = equity(one, marks.mark)
    return {
        "deposits_micros": one.deposits_micros,
        "cash_micros": one.cash_micros,
        "fees_micros": one.fees_micros,
        "equity_micros": worth,
        "profit_micros": worth - one.deposits_micros,
        "realized_micros": one.realized_micros + sum(held.realized_micros for held in one.positions.values()),
        "positions": [
            {
                "venue": venue,
                "asset": asset,
                "market": held.market,
                "share_micros": held.share_micros,
                "cost_micros": held.cost_micros,
                "average_price_micros": held.average_price_micros,
            }
            for (venue, asset), held in sorted(one.positions.items())
        ],
    }


def _show(influencer_id: str, found: InfluencerPortfolios, marks: MarkPrices) -> None:
    console = Console()
    console.print(f"{influencer_id}, SHADOW_USER as of SIGNALS:{found.sequence}", markup=False, highlight=False)
    for address, one in found.of.items():
        console.print(address, markup=False, highlight=False)
        worth = equity(one, marks.mark)
        for name, value in (
            ("came with", one.deposits_micros),
            ("cash", one.cash_micros),
            ("fees", one.fees_micros),
            ("equity", worth),
            ("profit", worth - one.deposits_micros),
        ):
            console.print(f"  {name:<10} {decimal_text(value)} USD", highlight=False)
        made = table("asset", "size", "average", "cost")
        for (_, asset), held in sorted(one.positions.items()):
            values = (held.share_micros, held.average_price_micros, held.cost_micros)
            made.add_row(asset, *(decimal_text(value) for value in values))
        show(made, console)
