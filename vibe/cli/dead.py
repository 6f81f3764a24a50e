"""`vibe dead`: dead letters, the events that a stage could not handle; list them, show one, retry or drop them."""

import getpass
from collections.abc import Sequence
from functools import partial
from typing import Any

from cyclopts import App
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from handlers.live.event_codec import codec
from handlers.services.dropped_dead_letters import completion_of
from streams import dead_letters
from streams.connection import Connection
from streams.dead_letters import DeadLetter, payload_of
from streams.errors import RefusedError
from vibe.app.demo import log_time
from vibe.app.settings import Settings
from vibe.app.wiring import RETRYABLE
from vibe.cli.command import Json, run_command
from vibe.cli.connections import open_connections
from vibe.cli.errors import CommandError, UsageError, complain
from vibe.cli.output import print_json

app = App(name="dead", help="Dead letters: events that a stage could not handle. Look at them, run again, or drop.")


@app.command(name="list")
def dead_list(*, stage: str | None = None, all: bool = False, json: Json = False) -> None:
    """Dead letters that wait for an operator: open ones, or all of them with what became of each.

    Example: vibe dead list --stage normalize

    Parameters
    ----------
    stage
        only dead letters of this stage
    all
        retried and dropped ones too
    """
    run_command(run_list, stage, all, json)


@app.command(name="show")
def dead_show(number: int, /, *, json: Json = False) -> None:
    """One dead letter in full: which event, which stage, the error, and the event itself.

    Example: vibe dead show 12

    Parameters
    ----------
    number
        its number in `vibe dead list`, the sequence in DEAD
    """
    run_command(run_show, number, json)


@app.command(name="retry")
def dead_retry(*numbers: int, all: bool = False, stage: str | None = None, json: Json = False) -> None:
    """Run dead letters through their stage once more, when the cause is fixed. What fails again is dead-lettered anew.

    Example: vibe dead retry 12 13

    Parameters
    ----------
    numbers
        numbers from `vibe dead list`
    all
        every open dead letter (with --stage: of that stage)
    """
    if all == bool(numbers):
        raise UsageError("name the dead letters by their numbers, or give --all; see: vibe dead list")
    run_command(run_retry, numbers, all, stage, json)


@app.command(name="drop")
def dead_drop(*numbers: int, why: str, json: Json = False) -> None:
    """Close dead letters that need nothing more. They stay in the log, with the reason and the user.

    What waits for the event is completed by its stage, at once or when it starts; the command names how.

    Example: vibe dead drop 12 --why "test frame"

    Parameters
    ----------
    numbers
        numbers from `vibe dead list`
    why
        the reason, stored with the dead letter
    """
    if not numbers:
        raise UsageError("name the dead letters by their numbers; see: vibe dead list")
    run_command(run_drop, numbers, why, json)


async def run_list(settings: Settings, stage: str | None, everything: bool, json: bool) -> int:
    async with open_connections(settings, json=json) as at:
        found = await dead_letters.dead_letters(at.connection, codec(), stage)
    shown = [one for one in found if everything or one.state == "open"]
    if json:
        print_json([_summary(one) for one in shown])
        return 0
    console = Console()
    if not shown:
        console.print(f"no {'' if everything else 'open '}dead letters")
        return 0
    _show_list(console, shown)
    return 0


def _show_list(console: Console, shown: list[DeadLetter]) -> None:
    """One line for each dead letter, and its error below."""
    width = len(str(shown[-1].sequence))
    for one in shown:
        facts = one.facts
        line = Text.assemble(
            (f"{one.sequence:>{width}}", "bold"),
            f"  {one.time[:19].replace('T', ' ')}  {facts.stage}  {facts.origin}  ",
            (one.state, "red" if one.state == "open" else "dim"),
        )
        console.print(line, highlight=False)
        console.print(Padding(Text(facts.error, overflow="fold"), (0, 0, 0, width + 2)), highlight=False)
    count = len(shown)
    console.print(
        f"{count:,} dead letter{'' if count == 1 else 's'}; vibe dead show NUMBER, retry NUMBER, or drop NUMBER --why",
        style="dim",
        highlight=False,
    )


async def run_show(settings: Settings, number: int, json: bool) -> int:
    async with open_connections(settings, json=json) as at:
        (one,) = await _named(at.connection, [number])
    if json:
        print_json({**_summary(one), "payload": one.facts.payload, "encoding": one.facts.encoding})
        return 0
    console = Console()
    for name, value in _summary(one).items():
        console.print(f"{name:<10} {value}", markup=False, highlight=False, soft_wrap=True)
    console.print(payload_of(one.facts).decode(errors="replace"), markup=False, highlight=False, soft_wrap=True)
    return 0


async def run_retry(settings: Settings, numbers: Sequence[int], everything: bool, stage: str | None, json: bool) -> int:
    """Exit code 1 when one of them cannot be retried; the others are."""
    now = partial(log_time, settings)
    async with open_connections(settings, json=json) as at:
        if everything:
            found = await dead_letters.dead_letters(at.connection, codec(), stage)
            chosen = [one for one in found if one.state == "open"]
        else:
            chosen = await _named(at.connection, numbers, stage)
        done: list[dict[str, Any]] = []
        for one in chosen:
            try:
                sequence = await dead_letters.retry(
                    at.connection,
                    codec(),
                    one,
                    RETRYABLE,
                    actor=getpass.getuser(),
                    now=now,
                )
                done.append({"number": one.sequence, "retry": sequence, "error": None})
            except RefusedError as error:
                done.append({"number": one.sequence, "retry": None, "error": str(error)})
    return _report(done, json, "retried; running stages process them at once, others when they start")


async def run_drop(settings: Settings, numbers: Sequence[int], why: str, json: bool) -> int:
    """Exit code 1 when one of them cannot be dropped; the others are."""
    async with open_connections(settings, json=json) as at:
        done: list[dict[str, Any]] = []
        for one in await _named(at.connection, numbers):
            try:
                completion = completion_of(one.facts, codec())
                sequence = await dead_letters.drop(
                    at.connection,
                    codec(),
                    one,
                    why=why,
                    actor=getpass.getuser(),
                    now=partial(log_time, settings),
                    completes=bool(completion.appends),
                )
                completes = {"appends": list(completion.appends), "text": completion.text}
                done.append({"number": one.sequence, "drop": sequence, "completes": completes, "error": None})
            except RefusedError as error:
                done.append({"number": one.sequence, "drop": None, "completes": None, "error": str(error)})
    if not json:
        for row in done:
            if row["completes"] is not None:
                Console().print(f"{row['number']}: {row['completes']['text']}", markup=False, highlight=False)
    return _report(done, json, "dropped")


async def _named(connection: Connection, numbers: Sequence[int], stage: str | None = None) -> list[DeadLetter]:
    found = {one.sequence: one for one in await dead_letters.dead_letters(connection, codec(), stage)}
    missing = [number for number in numbers if number not in found]
    if missing:
        raise CommandError(f"there is no dead letter {', '.join(map(str, missing))}; see: vibe dead list --all")
    return [found[number] for number in numbers]


def _summary(one: DeadLetter) -> dict[str, Any]:
    facts = one.facts
    return {
        "number": one.sequence,
        "id": facts.dead_id,
        "state": one.state,
        "time": one.time,
        "stage": facts.stage,
        "event": facts.origin,
        "subject": facts.subject,
        "error": facts.error,
    }


def _report(done: list[dict[str, Any]], json: bool, what: str) -> int:
    failed = [row for row in done if row["error"]]
    if json:
        print_json(done)
    else:
        for row in failed:
            complain(row["error"])
        count = len(done) - len(failed)
        Console().print(f"{count} dead letter{'' if count == 1 else 's'} {what}", highlight=False)
    return 1 if failed else 0
