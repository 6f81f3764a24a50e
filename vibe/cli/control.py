"""`vibe control`: what operators switch while everything runs. Each switch is an event with its actor."""

import getpass

from rich.console import Console

from domain.events import ControlState, ControlTarget
from handlers.live.configuration import directory_at
from handlers.live.event_codec import codec
from handlers.services.config_import import control
from streams import topology
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.cli.connections import open_connections
from vibe.cli.output import print_json, show, table


async def run_control(
    settings: Settings,
    target: ControlTarget,
    key: str,
    state: ControlState,
    note: str,
    actor: str | None,
    json: bool,
    clock: Clock,
) -> int:
    """Store one switch; exit code 1 for somebody whom nobody knows."""
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        directory, _ = await directory_at(at.connection, codec())
        known = {
            ControlTarget.INFLUENCER: set(directory.influencers),
            ControlTarget.SUBSCRIBER: set(directory.subscribers),
            ControlTarget.BREAKERS: set(directory.subscribers),
        }
        if target in known and key not in known[target]:
            name = "subscriber" if target is ControlTarget.BREAKERS else target.value
            Console(stderr=True).print(
                f"vibe control: {name} {key!r} is not configured; `vibe config show` lists who is", markup=False
            )
            return 1
        who = actor or getpass.getuser()
        sequence = await control(at.connection, target, key, state, actor=who, note=note, now=clock())
    if json:
        facts = {"target": target.value, "id": key, "state": state.value, "actor": who, "config_sequence": sequence}
        print_json(facts)
    else:
        what = f"{target.value} {key}".strip()
        Console().print(f"{what} is {state.value} from CONFIG:{sequence} on", markup=False, highlight=False)
    return 0


async def run_show(settings: Settings, json: bool) -> int:
    """What is switched otherwise than usual."""
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        directory, sequence = await directory_at(at.connection, codec())
    switched = directory.controls.now()
    if json:
        print_json({"config_sequence": sequence, "switched": switched})
        return 0
    if not switched:
        Console().print(f"the engine runs and nobody is disabled, as of CONFIG:{sequence}", highlight=False)
        return 0
    made = table("switched", "state")
    for name, state in switched.items():
        made.add_row(name, state)
    show(made)
    return 0
