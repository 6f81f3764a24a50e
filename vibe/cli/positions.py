"""`vibe positions close`: close what a subscriber copied, as an order in the log that names its actor."""

import getpass

from cyclopts import App
from rich.console import Console

from domain.events import ControlState, ControlTarget
from handlers.live.configuration import directory_at
from handlers.live.event_codec import codec
from handlers.services.config_import import store_control
from vibe.app.demo import log_time
from vibe.app.settings import Settings
from vibe.cli.command import Json, run_command
from vibe.cli.connections import open_connections
from vibe.cli.control import Actor, Note
from vibe.cli.errors import CommandError
from vibe.cli.output import print_json

app = App(name="positions", help="Close what a subscriber copied.")


@app.command(name="close")
def positions_close(
    subscriber: str, market: str | None = None, /, *, note: Note = "", actor: Actor = None, json: Json = False
) -> None:
    """Close all positions of a subscriber, or those in one market: everything held becomes an owed exit.

    Example: vibe positions close alice DOGE --note "leaves us"

    What is opened later is not closed; `vibe control disable subscriber ID` opens nothing more. `vibe exits list` shows
    what is not done yet.

    Parameters
    ----------
    subscriber
        its id
    market
        an asset or a market; without it, everything
    """
    run_command(run_close, subscriber, market, note, actor, json)


async def run_close(
    settings: Settings, subscriber: str, market: str | None, note: str, actor: str | None, json: bool
) -> int:
    """Raises CommandError for a subscriber that is not configured."""
    async with open_connections(settings, json=json) as at:
        directory, _ = await directory_at(at.connection, codec())
        if subscriber not in directory.subscribers:
            raise CommandError(f"subscriber {subscriber!r} is not configured; vibe config show lists every subscriber")
        what = f"subscriber:{subscriber}" + (f" {market}" if market else "")
        who = actor or getpass.getuser()
        sequence = await store_control(
            at.connection,
            ControlTarget.POSITIONS,
            what,
            ControlState.CLOSED,
            actor=who,
            note=note,
            now=log_time(settings),
        )
    if json:
        print_json({"subscriber_id": subscriber, "market": market, "actor": who, "config_sequence": sequence})
    else:
        text = f"{subscriber} closes {market or 'everything'} as of CONFIG:{sequence}; see: vibe exits list"
        Console().print(text, markup=False, highlight=False)
    return 0
