"""`vibe config`: who is followed, who copies whom, within which limits; imported and exported as JSON lines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from handlers.live.configuration import directory_at
from handlers.live.event_codec import codec
from handlers.services.config_file import line_of
from handlers.services.config_import import Imported, configured_events, export_lines, import_lines
from streams import topology
from streams.errors import TopologyError
from streams.processing.lost_data import refuse_lost_data
from vibe.app.demo import log_time
from vibe.app.servers import prepare_streams
from vibe.app.settings import Settings
from vibe.cli.command import AtLeastOne, Json, run_command
from vibe.cli.config_rendering import show_configuration
from vibe.cli.connections import open_connections
from vibe.cli.files import read_lines
from vibe.cli.output import bar, print_json

_BAD_LINES_SHOWN = 20

app = App(name="config", help="Influencers, subscribers, subscriptions and guardrails.")


@app.command(name="import")
def config_import(
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    json: Json = False,
    actor: str = "vibe config import",
) -> None:
    """Import JSON lines; running services follow at once. A file is in force whole or not at all: with one bad line,
    nothing of it is applied.

    Example: vibe config import config.jsonl

    A line: {"kind":"influencer","id":"whale-1","venue":"hyperliquid","addresses":["0x..."],"status":"active"}
    A line: {"kind":"subscriber","id":"alice","mode":"paper","deposit_usd":"10000","status":"active"}
    A line: {"kind":"subscription","id":"alice-whale-1","subscriber_id":"alice","influencer_id":"whale-1",
    "sizing":{"mode":"copy_percent","percent":"1"},"limits":{},"filters":{},"status":"active"}
    A line: {"kind":"guardrail","scope":"global","values":{"spread_bps":20}}

    Parameters
    ----------
    file
        the file, or - for standard input
    actor
        who is named in the events
    """
    run_command(run_config_import, file, actor, json)


@app.command(name="export")
def config_export() -> None:
    """Print the whole configuration as JSON lines; importing them again changes nothing.

    Example: vibe config export > config.jsonl
    """
    run_command(run_config_export)


@app.command(name="show")
def config_show(*, limit: AtLeastOne = 200, json: Json = False) -> None:
    """Who is followed, who copies whom and how much, and the guardrails: their values and where they come from.

    Example: vibe config show

    Parameters
    ----------
    limit
        how many influencers and how many subscriptions are listed; `vibe config export` prints all
    """
    run_command(run_config_show, limit, json)


async def run_config_import(settings: Settings, file: Path, actor: str, json: bool) -> int:
    lines = read_lines(file)
    async with open_connections(settings, json=json, create=True) as at:
        await refuse_lost_data(at.connection)
        try:
            await topology.verify(at.connection)
        except TopologyError:
            await prepare_streams(at.addresses.nats_url, settings.replicas)
        with bar("importing", json) as progress:
            imported = await import_lines(
                at.connection,
                lines,
                actor=actor,
                now=log_time(settings),
                bankroll_micros=settings.bankroll_micros,
                progress=progress,
            )
    if json:
        print_json(
            {
                "written": imported.written,
                "unchanged": imported.unchanged,
                "sequence": imported.sequence,
                "bad": [{"line": bad.number, "what": bad.what} for bad in imported.bad],
            }
        )
    elif imported.bad:
        _show_bad_lines(file, imported)
    else:
        wrote = ", ".join(f"{count:,} {kind}" for kind, count in sorted(imported.written.items())) or "nothing"
        Console().print(f"wrote {wrote}; {imported.unchanged:,} lines changed nothing", highlight=False)
    return 1 if imported.bad else 0


def _show_bad_lines(file: Path, imported: Imported) -> None:
    console = Console(stderr=True)
    for bad in imported.bad[:_BAD_LINES_SHOWN]:
        console.print(f"{file}: {bad}", style="red", markup=False, highlight=False, soft_wrap=True)
    hidden = len(imported.bad) - _BAD_LINES_SHOWN
    if hidden > 0:
        console.print(f"... and {hidden:,} more; --json lists all", highlight=False)
    console.print(f"nothing was applied; correct these {len(imported.bad):,} lines", highlight=False)


async def run_config_export(settings: Settings) -> int:
    async with open_connections(settings) as at:
        directory, _ = await directory_at(at.connection, codec())
        for line in export_lines(directory):
            sys.stdout.write(line + "\n")
    return 0


async def run_config_show(settings: Settings, limit: int, json: bool) -> int:
    async with open_connections(settings, json=json) as at:
        directory, sequence = await directory_at(at.connection, codec())
    if json:
        print_json({"sequence": sequence, "lines": [line_of(event) for event in configured_events(directory)]})
    else:
        show_configuration(Console(), directory, sequence, limit)
    return 0
