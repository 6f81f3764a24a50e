"""`vibe subscriber show`: one subscriber's portfolio, loaded from the log as of any time."""

import asyncio
from collections.abc import Mapping
from typing import Any

from cyclopts import App
from rich.console import Console

from domain.mark_prices import MarkPrices
from domain.micros import decimal_text
from domain.portfolio import equity, realized
from domain.valuation import price_of
from handlers.live.configuration import directory_at
from handlers.live.event_codec import codec
from handlers.live.mark_prices import marks_at
from streams.envelope import rfc3339
from streams.eventsourcing import Subscriber, load_subscriber
from vibe.app.settings import Settings
from vibe.cli.asset_names import names_of
from vibe.cli.command import Json, run_command
from vibe.cli.connections import BEGIN, Connections, open_connections
from vibe.cli.errors import CommandError
from vibe.cli.output import print_json, show, table
from vibe.cli.time_arguments import time_argument

app = App(name="subscriber", help="One subscriber's portfolio, from the log.")


@app.command(name="show")
def subscriber_show(subscriber: str, /, *, at: str | None = None, json: Json = False) -> None:
    """A subscriber's cash and positions, folded from its events as of now or any earlier time.

    Example: vibe subscriber show alice --at 2026-11-01T12:00:00Z

    Parameters
    ----------
    subscriber
        its id
    at
        a sequence of EXECUTIONS, or a time (UTC unless it has an offset)
    """
    run_command(run_subscriber_show, subscriber, at, json)


async def run_subscriber_show(settings: Settings, subscriber_id: str, at: str | None, json: bool) -> int:
    """Raises CommandError for a subscriber without a booking."""
    sequence, time_ns = time_argument(at) if at else (None, None)
    async with open_connections(settings, json=json) as servers:
        found = await asyncio.to_thread(
            load_subscriber, servers.addresses.nats_url, subscriber_id, at_sequence=sequence, at_time_ns=time_ns
        )
        if not found.events:
            raise CommandError(await _why_nothing_is_booked(servers, subscriber_id, at))
        marks = await marks_at(servers.connection, codec(), found.time_ns if at else None)
        names = await names_of(servers.database, (asset for _, asset in found.portfolio.positions))
    if json:
        print_json(_facts(found, marks) | {"marks": rfc3339(found.time_ns) if at else "newest"})
    else:
        _show(found, marks, names, f"at the marks of {rfc3339(found.time_ns)[:19]}Z" if at else "at the newest marks")
    return 0


async def _why_nothing_is_booked(at: Connections, subscriber_id: str, as_of: str | None) -> str:
    configuration, _ = await directory_at(at.connection, codec())
    if not configuration.subscribers:
        return f"nothing is booked for {subscriber_id!r}, and no subscriber is configured yet. {BEGIN}"
    if subscriber_id not in configuration.subscribers:
        return f"subscriber {subscriber_id!r} is not configured; vibe config show lists every subscriber"
    when = f" as of {as_of}" if as_of else ""
    return f"nothing is booked for {subscriber_id!r}{when}; the first deposit is booked with the first decision"


def _facts(found: Subscriber, marks: MarkPrices) -> dict[str, Any]:
    portfolio = found.portfolio
    return {
        "subscriber_id": found.id,
        "events": found.events,
        "sequence": found.version,
        "time": rfc3339(found.time_ns),
        "deposits_micros": portfolio.deposits_micros,
        "cash_micros": portfolio.cash_micros,
        "fees_micros": portfolio.fees_micros,
        "realized_micros": realized(portfolio),
        "equity_micros": equity(portfolio, marks),
        "breakers_tripped": sorted(portfolio.breakers.tripped),
        "positions": [
            {
                "venue": venue,
                "asset": asset,
                "share_micros": position.share_micros,
                "cost_micros": position.cost_micros,
                "average_price_micros": position.average_price_micros,
                "realized_micros": position.realized_micros,
                "mark_micros": price_of(position, marks.mark((venue, asset))),
            }
            for (venue, asset), position in sorted(portfolio.positions.items())
        ],
        "waiting": [
            {
                "subscription_id": subscription_id,
                "asset": asset,
                "notional_micros": residual.notional_micros,
                "share_micros": residual.share_micros,
            }
            for (subscription_id, (_, asset)), residual in sorted(portfolio.residuals.items())
        ],
        "orders_on_their_way": sorted(attempt for holding in portfolio.holdings.values() for attempt in holding.orders),
    }


def _show(found: Subscriber, marks: MarkPrices, names: Mapping[str, str], valued: str) -> None:
    console, portfolio = Console(), found.portfolio
    console.print(
        f"{found.id} as of EXECUTIONS:{found.version}, {rfc3339(found.time_ns)[:19]}Z ({found.events:,} events)",
        markup=False,
        highlight=False,
    )
    for name, value in (
        ("deposits", portfolio.deposits_micros),
        ("cash", portfolio.cash_micros),
        ("fees", portfolio.fees_micros),
        ("realized", realized(portfolio)),
    ):
        console.print(f"{name:<10} {decimal_text(value)} USD", highlight=False)
    console.print(f"{'equity':<10} {decimal_text(equity(portfolio, marks))} USD, {valued}", highlight=False)
    for limit in sorted(portfolio.breakers.tripped):
        console.print(f"the {limit.value} breaker is tripped: nothing new is opened", style="red")
    made = table("asset", "size", "average", "mark", "realized", text=("asset",))
    for key, position in sorted(portfolio.positions.items()):
        figures = (
            position.share_micros,
            position.average_price_micros,
            price_of(position, marks.mark(key)),
            position.realized_micros,
        )
        made.add_row(names.get(key[1], key[1]), *map(decimal_text, figures))
    if made.rows:
        console.print()
        show(made, console)
