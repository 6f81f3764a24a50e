"""`vibe influencer show`: an influencer's own trading as a portfolio, from the log as of any time."""

from collections.abc import Mapping
from typing import Any

from cyclopts import App
from rich.console import Console

from domain.events import Venue
from domain.influencer_portfolio import InfluencerPortfolio, equity
from domain.mark_prices import MarkPrices
from domain.micros import decimal_text
from handlers.live.configuration import directory_at
from handlers.live.event_codec import codec
from handlers.live.mark_prices import marks_at
from handlers.services.influencer_portfolio import InfluencerPortfolios, load_influencer_portfolios
from vibe.app.demo import log_time
from vibe.app.settings import Settings
from vibe.cli.asset_names import names_of
from vibe.cli.command import Json, run_command
from vibe.cli.connections import BEGIN, open_connections
from vibe.cli.errors import CommandError
from vibe.cli.output import print_json, show, table
from vibe.cli.time_arguments import ago

app = App(name="influencer", help="One influencer's own portfolio, from the log.")


@app.command(name="show")
def influencer_show(influencer: str, /, *, at: str | None = None, json: Json = False) -> None:
    """An influencer's own trading as a portfolio (SHADOW_USER): cash, positions, profit since it is followed.

    Example: vibe influencer show whale-1 --at 2026-11-01T00:00Z

    Parameters
    ----------
    influencer
        its id
    at
        as of this time, or that long ago (24h); without it, now
    """
    run_command(run_influencer_show, influencer, at, json)


async def run_influencer_show(settings: Settings, influencer_id: str, at: str | None, json: bool) -> int:
    """Raises CommandError for an influencer that is not configured."""
    until = ago(at, log_time(settings), "--at") if at else None
    async with open_connections(settings, json=json) as servers:
        configuration, _ = await directory_at(servers.connection, codec())
        influencer = configuration.influencers.get(influencer_id)
        if influencer is None:
            hint = "vibe config show lists every influencer" if configuration.influencers else BEGIN
            raise CommandError(f"influencer {influencer_id!r} is not configured. {hint}")
        found = await load_influencer_portfolios(servers.connection, influencer, until)
        marks = await marks_at(servers.connection, codec(), until)
        held = (asset for one in found.of.values() for _, asset in one.positions)
        names = await names_of(servers.database, held)
    if json:
        print_json(_facts(influencer_id, influencer.venue, found, marks))
    else:
        _show(influencer_id, found, marks, names)
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


def _show(influencer_id: str, found: InfluencerPortfolios, marks: MarkPrices, names: Mapping[str, str]) -> None:
    console = Console()
    console.print(f"{influencer_id}, SHADOW_USER as of SIGNALS:{found.sequence}", markup=False, highlight=False)
    for address, one in found.of.items():
        console.print(address, markup=False, highlight=False)
        worth = equity(one, marks.mark)
        for name, value in (
            ("started with", one.deposits_micros),
            ("cash", one.cash_micros),
            ("fees", one.fees_micros),
            ("equity", worth),
            ("profit", worth - one.deposits_micros),
        ):
            console.print(f"  {name:<12} {decimal_text(value)} USD", highlight=False)
        made = table("asset", "size", "average", "cost", text=("asset",))
        for (_, asset), held in sorted(one.positions.items()):
            figures = (held.share_micros, held.average_price_micros, held.cost_micros)
            made.add_row(names.get(asset, asset), *map(decimal_text, figures))
        if made.rows:
            console.print()
            show(made, console)
