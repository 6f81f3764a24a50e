"""`vibe subscriber show`: one subscriber's portfolio, loaded from the log as of any moment."""

import asyncio
from typing import Any

from rich.console import Console

from domain.mark_prices import MarkPrices
from domain.micros import decimal_text
from domain.portfolio import equity, price_of, realized
from handlers.live.event_codec import codec
from handlers.live.mark_prices import all_marks
from streams.envelope import rfc3339
from streams.eventsourcing import Subscriber, load_subscriber
from vibe.app.settings import Settings
from vibe.cli.connections import open_connections
from vibe.cli.output import print_json, show, table
from vibe.cli.time_arguments import time_argument


async def run_subscriber_show(settings: Settings, subscriber_id: str, at: str | None, json: bool) -> int:
    sequence, time_ns = time_argument(at) if at else (None, None)
    async with open_connections(settings) as open_ends:
        found = await asyncio.to_thread(
            load_subscriber, open_ends.nats_url, subscriber_id, at_sequence=sequence, at_time_ns=time_ns
        )
        until = found.time_ns if at and found.events else None
        marks = await all_marks(open_ends.connection, codec(), until)
    if not found.events:
        when = f" as of {at}" if at else ""
        Console(stderr=True).print(
            f"vibe subscriber show: nothing is booked for {subscriber_id!r}{when}; the first deposit comes with the "
            "first decision. Who is configured: vibe config export",
            markup=False,
            soft_wrap=True,
        )
        return 1
    if json:
        print_json(_facts(found, marks))
    else:
        _show(found, marks)
    return 0


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
        "equity_micros": equity(portfolio, marks.mark),
        "breakers_tripped": sorted(portfolio.breakers.tripped),
        "positions": [
            {
                "venue": venue,
                "asset": asset,
                "share_micros": position.share_micros,
                "cost_micros": position.cost_micros,
                "average_price_micros": position.average_price_micros,
                "realized_micros": position.realized_micros,
                "mark_micros": price_of(portfolio, (venue, asset), marks.mark),
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
        "orders_on_their_way": sorted(portfolio.pending),
    }


def _show(found: Subscriber, marks: MarkPrices) -> None:
    console, portfolio = Console(), found.portfolio
    console.print(
        f"{found.id} as of EXECUTIONS:{found.version}, {rfc3339(found.time_ns)} ({found.events:,} events)",
        markup=False,
        highlight=False,
    )
    for name, value in (
        ("deposits", portfolio.deposits_micros),
        ("cash", portfolio.cash_micros),
        ("fees", portfolio.fees_micros),
        ("realized", realized(portfolio)),
        ("equity", equity(portfolio, marks.mark)),
    ):
        console.print(f"{name:<10} {decimal_text(value)} USD", highlight=False)
    for limit in sorted(portfolio.breakers.tripped):
        console.print(f"{limit.value} breaker is tripped: nothing new is opened", style="red")
    made = table("asset", "size", "average", "mark", "realized")
    for key, position in sorted(portfolio.positions.items()):
        made.add_row(
            key[1],
            *(
                decimal_text(value)
                for value in (
                    position.share_micros,
                    position.average_price_micros,
                    price_of(portfolio, key, marks.mark),
                    position.realized_micros,
                )
            ),
        )
    show(made, console)
