"""`vibe subscriber show`: one subscriber's portfolio, loaded from the log as of any moment."""

import asyncio
import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from domain.micros import decimal_text
from domain.portfolio import equity
from streams.envelope import rfc3339
from streams.eventsourcing import Subscriber, load_subscriber
from vibe.commands import ends
from vibe.moments import moment
from vibe.settings import Settings


async def run_subscriber_show(settings: Settings, subscriber_id: str, at: str | None, json: bool) -> int:
    sequence, time_ns = moment(at) if at else (None, None)
    async with ends(settings) as open_ends:
        found = await asyncio.to_thread(
            load_subscriber, open_ends.nats_url, subscriber_id, at_sequence=sequence, at_time_ns=time_ns
        )
    if not found.events:
        when = f" as of {at}" if at else ""
        Console(stderr=True).print(
            f"vibe subscriber show: the log holds nothing of {subscriber_id!r}{when}; "
            "see `vibe config show` for who is configured",
            markup=False,
        )
        return 1
    if json:
        sys.stdout.write(msgspec.json.encode(_facts(found)).decode() + "\n")
    else:
        _show(found)
    return 0


def _facts(found: Subscriber) -> dict[str, Any]:
    portfolio = found.portfolio
    return {
        "subscriber_id": found.id,
        "events": found.events,
        "sequence": found.version,
        "time": rfc3339(found.time_ns),
        "deposits_micros": portfolio.deposits_micros,
        "cash_micros": portfolio.cash_micros,
        "fees_micros": portfolio.fees_micros,
        "equity_micros": equity(portfolio),
        "positions": [
            {
                "venue": venue,
                "asset": asset,
                "share_micros": position.share_micros,
                "cost_micros": position.cost_micros,
                "average_price_micros": position.average_price_micros,
                "realized_micros": position.realized_micros,
                "mark_micros": position.mark_micros,
            }
            for (venue, asset), position in sorted(portfolio.positions.items())
            if position.share_micros or position.realized_micros
        ],
        "orders_on_their_way": sorted(portfolio.pending),
    }


def _show(found: Subscriber) -> None:
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
        ("equity", equity(portfolio)),
    ):
        console.print(f"{name:<10} {decimal_text(value)} USD", highlight=False)
    table = Table("asset", "size", "average", "mark", "realized")
    for (_, asset), position in sorted(portfolio.positions.items()):
        if not position.share_micros and not position.realized_micros:
            continue
        table.add_row(
            asset,
            *(
                decimal_text(value)
                for value in (
                    position.share_micros,
                    position.average_price_micros,
                    position.mark_micros,
                    position.realized_micros,
                )
            ),
        )
    console.print(table)
