"""`vibe discover`: the traders that the public feeds name, followed or not."""

import asyncpg
from cyclopts import App
from rich.console import Console

from domain.events import Venue
from projections.queries.discovered import DiscoveredTrader, discovered_traders
from vibe.app.settings import Settings
from vibe.cli.command import AtLeastOne, Json, run_command
from vibe.cli.connections import BEGIN, open_connections
from vibe.cli.errors import CommandError
from vibe.cli.output import print_json, show, table

app = App(name="discover", help="Traders that the public feeds name: whom to look at, and whom to follow.")


@app.command(name="list")
def discover_list(*, venue: Venue | None = None, limit: AtLeastOne = 50, json: Json = False) -> None:
    """Every trader seen in public trades, the largest traded notional first.

    Example: vibe discover list --limit 20

    `vibe up` and `vibe demo` count all of Hyperliquid's trades by the minute; no trader is ever forgotten.

    Parameters
    ----------
    venue
        only traders of this venue
    limit
        at most so many
    """
    run_command(run_list, venue, limit, json)


@app.command(name="show")
def discover_show(address: str, /, *, json: Json = False) -> None:
    """What one address traded in public, and whether it is followed.

    Example: vibe discover show 0x7fdafde5cfb5465924316eced2d3715494c517d1

    Parameters
    ----------
    address
        the address at the venue
    """
    run_command(run_show, address, json)


async def run_list(settings: Settings, venue: Venue | None, limit: int, json: bool) -> int:
    """Raises CommandError while the read models are not built."""
    found = await _traders(settings, json, venue.value if venue else None, None, limit)
    if json:
        print_json({"traders": found})
    elif found:
        _show(found)
    else:
        Console().print(f"no trader was seen yet. {BEGIN}", markup=False, highlight=False)
    return 0


async def run_show(settings: Settings, address: str, json: bool) -> int:
    """Raises CommandError for an address that was never seen."""
    found = await _traders(settings, json, None, address, 10)
    if not found:
        raise CommandError(f"{address!r} was not seen in public trades; `vibe discover list` lists who was")
    if json:
        print_json({"traders": found})
    else:
        _show(found)
    return 0


async def _traders(
    settings: Settings, json: bool, venue: str | None, address: str | None, limit: int
) -> list[DiscoveredTrader]:
    async with open_connections(settings, json=json) as at:
        try:
            return await discovered_traders(at.database, venue=venue, address=address, limit=limit)
        except asyncpg.UndefinedTableError:
            raise CommandError(f"the read models hold no event yet. {BEGIN}") from None


def _show(found: list[DiscoveredTrader]) -> None:
    made = table(
        "address", "venue", "traded USD", "trades", "with itself", "minutes", "first day", "last day", "followed as"
    )
    for one in found:
        made.add_row(
            one.address,
            one.venue,
            f"{one.notional_micros / 1_000_000:,.0f}",
            f"{one.trades:,}",
            f"{one.self_trades:,}",
            f"{one.active_minutes:,}",
            one.first_day.isoformat(),
            one.last_day.isoformat(),
            one.influencer_id or "",
        )
    show(made)
