"""`vibe demo` and `vibe up`: everything in one terminal, with a live table."""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from vibe.app.session import Ended, Watch, run_demo, run_up
from vibe.app.settings import settings
from vibe.app.system import MOST_PROCESSES, PROCESSES
from vibe.cli.command import Json, finish
from vibe.cli.dashboard import watch_nothing, watch_table
from vibe.cli.errors import UsageError
from vibe.cli.output import print_json, progress_reporter

Seconds = Annotated[float, Parameter(validator=Number(gt=0))]


def demo(*, seconds: Seconds | None = None, json: Json = False, seed: int = 7, live: bool = False) -> None:
    """Watch trades being copied: sandbox venues, a demo configuration and all stages in one terminal.

    Example: vibe demo --seconds 20 --json --seed 7

    The scenario has a clock of its own, which starts at 2026-01-01 and runs only while the demo does, so one seed
    always gives the same signals and decisions. Ctrl-C or a crash interrupts it, and the next `vibe demo` continues
    it; after --seconds it is over, and the next one starts from an empty log. Counts cover the whole log. A demo with
    --live always starts from an empty log, and its books show what the live account took.

    Parameters
    ----------
    seconds
        stop the venues after this much time, process everything, report, and exit 0 only if nothing is left
    seed
        the flow of trades is a function of it
    live
        one more subscriber, frida, who trades with signed orders on an account of the sandbox
    """
    session = run_demo(settings(), seed, seconds, progress_reporter(json), _watch(json), live=live)
    finish(_run(session, json), quiet=True)


def up(
    *,
    config: Path | None = None,
    seconds: Seconds | None = None,
    processes: Annotated[int | None, Parameter(validator=Number(gte=1, lte=MOST_PROCESSES))] = None,
    json: Json = False,
) -> None:
    """Servers, all stages and the read models on the configured venues, in one supervised process group.

    Example: vibe up --config config.jsonl

    Parameters
    ----------
    config
        JSON lines to import first (see: vibe config import --help)
    seconds
        take input for this long, process everything, report, and exit 0 only if nothing is left
    processes
        over how many processes the stages are spread: 4 unless given, 1 with VIBE_PROFILE=small; beyond 4, lanes of
        decisions are shared by several
    """
    known = settings()
    if processes is not None and processes - len(PROCESSES) >= known.lanes:
        raise UsageError(f"{processes} processes need more lanes than {known.lanes}; set VIBE_LANES to 8")
    finish(_run(run_up(known, config, seconds, processes, progress_reporter(json), _watch(json)), json), quiet=True)


def _watch(json: bool) -> Watch:
    return watch_nothing if json or not Console().is_terminal else watch_table


async def _run(session: Coroutine[Any, Any, Ended], json: bool) -> int:
    ended = await session
    if json:
        print_json(ended.report)
        sys.stdout.flush()
    else:
        _print(ended.report)
    for name, log in ended.never_ready.items():
        text = f"vibe up: {name} was never ready, see {log}"
        Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
    return 0 if ended.complete else 1


def _print(report: dict[str, Any]) -> None:
    console = Console()
    decisions = report["decisions"]
    console.print(
        f"\n{report['raw_events']:,} raw events → {report['signals']:,} signals → {report['groups']:,} groups → "
        f"{report['requests']:,} requests → {decisions['EXECUTE']:,} EXECUTE + {decisions['SKIP']:,} SKIP → "
        f"{report['fills']:,} fills → {report['ledger_entries']:,} ledger entries; "
        f"{report['dead_letters']:,} dead letters, lag {report['lag']:,}"
    )
    if report["sample_attempt_id"]:
        console.print(f"see where one decision came from:  vibe trace {report['sample_attempt_id']}")
