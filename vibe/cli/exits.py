"""`vibe exits list`: what copies owe, since when, how often it was tried, and why it is not done yet."""

from typing import Any

import asyncpg
from cyclopts import App
from msgspec.structs import asdict
from rich.console import Console

from domain.micros import decimal_text
from domain.reason_codes import Reason
from projections.queries.exits import OwedExit, owed_exits
from vibe.app.demo import log_time
from vibe.app.settings import Settings
from vibe.cli.asset_names import names_of
from vibe.cli.command import AtLeastOne, Json, run_command
from vibe.cli.connections import BEGIN, open_connections
from vibe.cli.errors import CommandError
from vibe.cli.output import print_json, show, table

app = App(name="exits", help="What copies owe: exits that could not be done at once.")


@app.command(name="list")
def exits_list(
    *, subscriber: str | None = None, influencer: str | None = None, limit: AtLeastOne = 200, json: Json = False
) -> None:
    """Shares that an influencer gave up and a copy has not given up yet, the oldest first.

    Example: vibe exits list --subscriber alice

    Each is tried again until it is done; `vibe trace EXIT` shows every try with its checks.

    Parameters
    ----------
    subscriber
        only what this subscriber owes
    influencer
        only what was copied from this influencer
    limit
        at most so many
    """
    run_command(run_list, subscriber, influencer, limit, json)


async def run_list(settings: Settings, subscriber: str | None, influencer: str | None, limit: int, json: bool) -> int:
    """Raises CommandError while the read models are not built."""
    async with open_connections(settings, json=json) as at:
        try:
            found = await owed_exits(at.database, subscriber_id=subscriber, influencer_id=influencer, limit=limit)
        except asyncpg.UndefinedTableError:
            raise CommandError(f"the read models hold no event yet. {BEGIN}") from None
        names = await names_of(at.database, (one.asset for one in found))
    now = log_time(settings) / 1e9
    if json:
        print_json({"exits": [_facts(one, now) for one in found]})
    elif found:
        _show(found, names, now)
    else:
        Console().print("no copy owes an exit")
    return 0


def _facts(one: OwedExit, now: float) -> dict[str, Any]:
    return {**asdict(one), "age_s": _age(one, now), "why": {code: Reason(code).text for code in one.reasons}}


def _age(one: OwedExit, now: float) -> float:
    return round(max(0.0, now - one.since.timestamp()), 1)


def _show(found: list[OwedExit], names: dict[str, str], now: float) -> None:
    made = table("subscription", "asset", "owed", "age", "tries", "next", "why not yet", "exit", text={"why not yet"})
    for one in found:
        made.add_row(
            one.subscription_id,
            names.get(one.asset, one.asset),
            decimal_text(one.share_micros),
            f"{_age(one, now):,.0f} s",
            str(one.tries),
            f"{one.due_at:%H:%M:%S}" if one.due_at else "-",
            "; ".join(Reason(code).text for code in one.reasons),
            one.exit_id,
        )
    show(made)
