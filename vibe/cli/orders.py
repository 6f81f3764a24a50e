"""`vibe orders`: live orders, from the read models, and the events of one of them, from the log."""

from typing import Annotated

import asyncpg
from cyclopts import App, Parameter
from msgspec.structs import asdict
from rich.console import Console

from domain.micros import decimal_text
from domain.reason_codes import Reason
from handlers.services.trace import Attempt, Tracer, is_live, order_id_of
from projections.queries.attempts import LiveOrder, live_orders
from projections.queries.trace_index import PostgresTraceIndex
from streams.envelope import Recorded
from vibe.app.settings import Settings
from vibe.cli.command import AtLeastOne, Json, run_command
from vibe.cli.connections import BEGIN, open_connections
from vibe.cli.errors import CommandError
from vibe.cli.output import print_json, show, table
from vibe.cli.trace_rendering import facts_text

app = App(name="orders", help="Live orders: what was sent to venues, and what became of it.")


@app.command(name="list")
def orders_list(
    *,
    subscriber: str | None = None,
    working: Annotated[bool, Parameter(negative=())] = False,
    limit: AtLeastOne = 50,
    json: Json = False,
) -> None:
    """Live orders, the newest first.

    Example: vibe orders list --subscriber alice --working

    SUBMITTED is an order whose result is not known yet: it is followed until it is, also across restarts.

    Parameters
    ----------
    subscriber
        only those of this subscriber
    working
        only those whose result is not known yet
    limit
        at most so many
    """
    run_command(run_list, subscriber, working, limit, json)


@app.command(name="show")
def orders_show(order: Annotated[str, Parameter(name="ORDER")], /, *, json: Json = False) -> None:
    """What was signed for a live order, every request to the venue with its answer, and what was booked.

    Example: vibe orders show ord_gc5xfzzqggo54tv7dpnm

    Parameters
    ----------
    order
        its id, its client order id, or the id of its decision
    """
    run_command(run_show, order, json)


async def run_list(settings: Settings, subscriber: str | None, working: bool, limit: int, json: bool) -> int:
    """Raises CommandError while the read models are not built."""
    async with open_connections(settings, json=json) as at:
        try:
            found = await live_orders(at.database, subscriber_id=subscriber, working=working, limit=limit)
        except asyncpg.UndefinedTableError:
            raise CommandError(f"the read models hold no event yet. {BEGIN}") from None
    if json:
        print_json({"orders": [asdict(one) for one in found]})
    elif found:
        _show(found)
    else:
        Console().print("no live order is working" if working else "no live order was sent")
    return 0


def _show(found: list[LiveOrder]) -> None:
    made = table(
        "order", "subscriber", "side", "asset", "size", "limit", "status", "filled", "at", "fee", "why", text={"why"}
    )
    for one in found:
        made.add_row(
            one.order_id,
            one.subscriber_id,
            one.trade_side,
            one.asset,
            decimal_text(one.share_micros),
            decimal_text(one.limit_price_micros),
            one.status,
            decimal_text(one.filled_micros),
            decimal_text(one.average_price_micros),
            decimal_text(one.fee_micros),
            "; ".join(Reason(code).text for code in one.reasons or ()),
        )
    show(made)


async def run_show(settings: Settings, order: str, json: bool) -> int:
    """Raises CommandError for an order that is not known, or that is no live one."""
    async with open_connections(settings, json=json) as at:
        try:
            found = await Tracer(at.connection, PostgresTraceIndex(at.database)).trace(order)
        except asyncpg.UndefinedTableError:
            raise CommandError(f"the read models hold no event yet. {BEGIN}") from None
    attempt = (
        next((one for one in found.attempts if any(is_live(hop.data) for hop in one.hops)), None) if found else None
    )
    if attempt is None:
        raise CommandError(f"no live order {order!r} is in the log; vibe orders list shows the newest")
    hops = _of_order(attempt)
    if json:
        events = [{"at": hop.at, "type": hop.type, "time": hop.time, "data": hop.data} for hop in hops]
        print_json({"order_id": next(hop.data.order_id for hop in hops if is_live(hop.data)), "events": events})
        return 0
    console = Console()
    for hop in hops:
        text = f"{hop.time[11:23]}  {hop.at:<18} {hop.type:<20} {facts_text(hop.data)}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0


def _of_order(attempt: Attempt) -> list[Recorded]:
    """The events of an attempt that are about its order."""
    return [hop for hop in attempt.hops if getattr(hop.data, "order_id", None) or order_id_of(hop.data)]
