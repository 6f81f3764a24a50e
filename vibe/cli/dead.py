"""`vibe dead`: what an operator does about events that a stage could not handle."""

import getpass
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from handlers.live.event_codec import codec
from streams import dead_letters, topology
from streams.connection import Connection
from streams.dead_letters import DeadLetter, payload_of
from streams.errors import RefusedError
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.app.wiring import FOLDS
from vibe.cli.connections import open_connections
from vibe.cli.output import print_json, show, table


async def run_list(settings: Settings, stage: str | None, everything: bool, json: bool) -> int:
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        found = await dead_letters.letters(at.connection, codec(), stage)
    shown = [letter for letter in found if everything or letter.state == "open"]
    if json:
        print_json([_summary(letter) for letter in shown])
        return 0
    if not shown:
        Console().print(f"no {'' if everything else 'open '}dead letters")
        return 0
    made = table("letter", "time", "stage", "event", "why", "state", text=("why",))
    for letter in shown:
        facts = letter.facts
        made.add_row(
            str(letter.sequence),
            letter.time[:19],
            facts.stage,
            f"{facts.stream}:{facts.sequence}",
            escape(facts.error),
            letter.state,
        )
    show(made)
    Console().print("vibe dead show LETTER tells more; vibe dead retry LETTER runs it again", style="dim")
    return 0


async def run_show(settings: Settings, number: int, json: bool) -> int:
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        letter = await _letter(at.connection, number)
    if json:
        print_json({**_summary(letter), "payload": letter.facts.payload, "encoding": letter.facts.encoding})
        return 0
    console = Console()
    for name, value in _summary(letter).items():
        console.print(f"{name:<10} {value}", markup=False, highlight=False, soft_wrap=True)
    console.print(payload_of(letter.facts).decode(errors="replace"), markup=False, highlight=False, soft_wrap=True)
    return 0


async def run_retry(settings: Settings, numbers: Sequence[int], everything: bool, stage: str | None, json: bool) -> int:
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        chosen = await _chosen(at.connection, numbers, everything, stage)
        done: list[dict[str, Any]] = []
        for letter in chosen:
            try:
                sequence = await dead_letters.retry(
                    at.connection, codec(), letter, frozenset(FOLDS), actor=getpass.getuser(), now=Clock()
                )
                done.append({"letter": letter.sequence, "retry": sequence, "error": None})
            except RefusedError as error:
                done.append({"letter": letter.sequence, "retry": None, "error": str(error)})
    return _report(done, json, "retried; running stages take it up at once, others when they start")


async def run_drop(settings: Settings, numbers: Sequence[int], why: str, json: bool) -> int:
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        done: list[dict[str, Any]] = []
        if not numbers:
            raise RefusedError("name the letters to drop, each by its number; see: vibe dead list")
        for letter in await _chosen(at.connection, numbers, False, None):
            try:
                sequence = await dead_letters.drop(
                    at.connection, codec(), letter, why=why, actor=getpass.getuser(), now=Clock()
                )
                done.append({"letter": letter.sequence, "drop": sequence, "error": None})
            except RefusedError as error:
                done.append({"letter": letter.sequence, "drop": None, "error": str(error)})
    return _report(done, json, "dropped")


async def _chosen(
    connection: Connection, numbers: Sequence[int], everything: bool, stage: str | None
) -> list[DeadLetter]:
    if everything == bool(numbers):
        raise RefusedError("name the letters, or say --all")
    found = {letter.sequence: letter for letter in await dead_letters.letters(connection, codec(), stage)}
    if everything:
        return [letter for letter in found.values() if letter.state == "open"]
    missing = [number for number in numbers if number not in found]
    if missing:
        raise RefusedError(f"there is no letter {', '.join(map(str, missing))}; see: vibe dead list --all")
    return [found[number] for number in numbers]


async def _letter(connection: Connection, number: int) -> DeadLetter:
    return (await _chosen(connection, [number], False, None))[0]


def _summary(letter: DeadLetter) -> dict[str, Any]:
    facts = letter.facts
    return {
        "letter": letter.sequence,
        "id": facts.dead_id,
        "state": letter.state,
        "time": letter.time,
        "stage": facts.stage,
        "event": f"{facts.stream}:{facts.sequence}",
        "subject": facts.subject,
        "error": facts.error,
    }


def _report(done: list[dict[str, Any]], json: bool, what: str) -> int:
    failed = [row for row in done if row["error"]]
    if json:
        print_json(done)
    else:
        for row in failed:
            Console(stderr=True).print(row["error"], style="red", markup=False, soft_wrap=True)
        count = len(done) - len(failed)
        Console().print(f"{count} letter{'' if count == 1 else 's'} {what}")
    return 1 if failed else 0
