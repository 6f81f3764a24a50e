"""`vibe config`: who is followed, who copies whom, within which limits; in and out as lines."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from rich.console import Console

from domain.guardrails import GLOBAL, evaluate
from handlers.live.configuration import directory_at
from handlers.live.event_codec import codec
from handlers.services.config_file import line_of
from handlers.services.config_import import current, exported, import_lines
from streams import topology
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.cli.connections import open_connections
from vibe.cli.output import bar, print_json, show, table


async def run_config_import(settings: Settings, file: Path, actor: str, json: bool) -> int:
    lines = sys.stdin if str(file) == "-" else file.open(encoding="utf-8")
    with lines:
        async with open_connections(settings) as at:
            await topology.apply(at.connection, settings.replicas)
            with bar("importing", json) as progress:
                imported = await import_lines(
                    at.connection,
                    lines,
                    actor=actor,
                    now=Clock()(),
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
        console = Console(stderr=True)
        for bad in imported.bad:
            console.print(f"{file}: {bad}", style="red", markup=False, highlight=False, soft_wrap=True)
        console.print(f"nothing was applied; {len(imported.bad)} things to mend", markup=False)
    else:
        wrote = ", ".join(f"{count} {kind}" for kind, count in sorted(imported.written.items())) or "nothing"
        Console().print(f"wrote {wrote}; {imported.unchanged} lines changed nothing", highlight=False)
    return 1 if imported.bad else 0


async def run_config_export(settings: Settings) -> int:
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        directory, _ = await directory_at(at.connection, codec())
        for line in exported(directory):
            sys.stdout.write(line + "\n")
    return 0


async def run_config_show(settings: Settings, json: bool) -> int:
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        directory, sequence = await directory_at(at.connection, codec())
    if json:
        print_json({"sequence": sequence, "lines": [line_of(event) for event in current(directory)]})
        return 0
    console = Console()
    influencers = table("influencer", "venue", "addresses", "subscriptions", "status")
    for known in directory.influencers.values():
        copied = sum(1 for _ in directory.subscriptions_of(known.id))
        influencers.add_row(known.id, known.venue.value, " ".join(known.addresses), f"{copied:,}", known.status.value)
    show(influencers, console)
    modes: dict[str, int] = {}
    for subscriber in directory.subscribers.values():
        key = f"{subscriber.mode.value}, {subscriber.status.value}"
        modes[key] = modes.get(key, 0) + 1
    for key, count in sorted(modes.items()):
        console.print(f"{count:,} subscribers: {key}", highlight=False)
    console.print(f"{len(directory.subscriptions):,} subscriptions, CONFIG sequence {sequence:,}", highlight=False)
    guardrails = table("guardrail", "value", "from")
    configured = directory.guardrails.get(GLOBAL)
    overrides = configured.values if configured else {}
    values = msgspec.structs.asdict(evaluate(overrides))
    for name, value in values.items():
        guardrails.add_row(name, f"{value:,}", "global" if name in overrides else "default")
    show(guardrails, console)
    return 0
