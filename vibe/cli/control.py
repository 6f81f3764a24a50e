"""`vibe control`: switches of the operator, while everything runs. Each switch is an event that names its actor."""

import getpass
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console

from domain.events import ControlState, ControlTarget
from handlers.live.configuration import directory_at
from handlers.live.event_codec import codec
from handlers.services.config_import import store_control
from vibe.app.demo import log_time
from vibe.app.settings import Settings
from vibe.cli.command import Json, run_command
from vibe.cli.connections import open_connections
from vibe.cli.errors import CommandError
from vibe.cli.output import print_json, show, table

app = App(name="control", help="Switches for operators, in force from the next decision on.")

Note = Annotated[str, Parameter(help="the reason, stored with the event")]
Actor = Annotated[str | None, Parameter(help="who switches; without it, the user of this process")]
Target = Literal["influencer", "subscriber", "market"]


@app.command(name="show")
def control_show(*, json: Json = False) -> None:
    """Every switch that is not in its normal state.

    Example: vibe control show
    """
    run_command(run_show, json)


@app.command(name="pause")
def control_pause(*, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Pause the engine: everything is recorded, nothing is copied, and nothing of it is copied later.

    Example: vibe control pause --note "venue maintenance"
    """
    run_command(run_control, ControlTarget.ENGINE, "", ControlState.PAUSED, note, actor, json)


@app.command(name="resume")
def control_resume(*, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Let the engine copy again what is detected from now on.

    Example: vibe control resume
    """
    run_command(run_control, ControlTarget.ENGINE, "", ControlState.RUNNING, note, actor, json)


@app.command(name="record-only")
def control_record_only(*, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Decide everything and execute nothing: each decision records what else it would have been refused for.

    Example: vibe control record-only
    """
    run_command(run_control, ControlTarget.ENGINE, "", ControlState.RECORD_ONLY, note, actor, json)


@app.command(name="disable")
def control_disable(what: Target, name: str, /, *, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Open nothing new for an influencer, a subscriber or a market; reductions go through.

    Example: vibe control disable market DOGE --note "delisting"
    """
    run_command(run_control, ControlTarget(what), name, ControlState.DISABLED, note, actor, json)


@app.command(name="enable")
def control_enable(what: Target, name: str, /, *, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Enable an influencer, a subscriber or a market again.

    Example: vibe control enable market DOGE
    """
    run_command(run_control, ControlTarget(what), name, ControlState.ENABLED, note, actor, json)


@app.command(name="reset-breakers")
def control_reset_breakers(subscriber: str, /, *, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Reset the tripped breakers of a subscriber; from then on they measure from its equity at the reset.

    Example: vibe control reset-breakers alice
    """
    run_command(run_control, ControlTarget.BREAKERS, subscriber, ControlState.RESET, note, actor, json)


async def run_control(
    settings: Settings,
    target: ControlTarget,
    key: str,
    state: ControlState,
    note: str,
    actor: str | None,
    json: bool,
) -> int:
    """Store one switch. Raises CommandError for an influencer or a subscriber that is not configured."""
    async with open_connections(settings, json=json) as at:
        directory, _ = await directory_at(at.connection, codec())
        known = {
            ControlTarget.INFLUENCER: directory.influencers.keys(),
            ControlTarget.SUBSCRIBER: directory.subscribers.keys(),
            ControlTarget.BREAKERS: directory.subscribers.keys(),
        }
        if target in known and key not in known[target]:
            name = "subscriber" if target is ControlTarget.BREAKERS else target.value
            raise CommandError(f"{name} {key!r} is not configured; vibe config show lists every {name}")
        who = actor or getpass.getuser()
        sequence = await store_control(at.connection, target, key, state, actor=who, note=note, now=log_time(settings))
    if json:
        print_json({"target": target.value, "id": key, "state": state.value, "actor": who, "config_sequence": sequence})
    else:
        what = f"{target.value} {key}".strip()
        Console().print(f"{what} is {state.value} from CONFIG:{sequence} on", markup=False, highlight=False)
    return 0


async def run_show(settings: Settings, json: bool) -> int:
    async with open_connections(settings, json=json) as at:
        directory, sequence = await directory_at(at.connection, codec())
    switched = directory.controls.now()
    if json:
        print_json({"config_sequence": sequence, "switched": switched})
        return 0
    if not switched:
        Console().print(f"the engine runs and nothing is disabled, as of CONFIG:{sequence}", highlight=False)
        return 0
    made = table("switched", "state")
    for name, state in switched.items():
        made.add_row(name, state)
    show(made)
    return 0
