"""The command line: `vibe --help` lists it, `vibe COMMAND --help` shows an example of each."""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import uvloop
from cyclopts import App, Parameter
from rich.console import Console

from gateways.servers import ServerError
from streams.errors import LogError, UnprocessableError
from vibe.demo import NotADemoError
from vibe.folder_lock import FolderBusyError
from vibe.moments import BadMomentError
from vibe.play import BadConfigError, run_demo, run_up
from vibe.settings import Settings, settings
from vibe.telemetry import configure_logging

EXPECTED = (
    BadConfigError,
    BadMomentError,
    FileNotFoundError,
    FolderBusyError,
    LogError,
    NotADemoError,
    ServerError,
    TimeoutError,
    UnprocessableError,
)
"""Errors that explain themselves: shown without a traceback, exit code 1."""

app = App(name="vibe", help="Copy trading on one event log.", version_flags=["--version"])
streams_app = App(name="streams", help="The streams of the event log.")
config_app = App(name="config", help="Influencers, subscribers, subscriptions and guardrails.")
dead_app = App(name="dead", help="Events that a stage could not handle: look, run again, or drop.")
app.command(streams_app)
app.command(dead_app)
bench_app = App(name="bench", help="How fast it is here, beside the bare limits of the same run.")
app.command(bench_app)
subscriber_app = App(name="subscriber", help="One subscriber, from the log.")
app.command(subscriber_app)
app.command(config_app)

Json = Annotated[bool, Parameter(name="--json", negative=(), help="one JSON object on stdout")]


def _run(work: Coroutine[Any, Any, int | None], *, quiet: bool = False) -> None:
    known = settings()
    configure_logging("WARNING" if quiet and known.log_level == "INFO" else known.log_level, known.log_format)
    sys.exit(uvloop.run(work) or 0)


@app.command
def demo(*, seconds: float | None = None, json: Json = False, seed: int = 7) -> None:
    """Watch trades being copied: a sandbox venue, a demo configuration and all stages in one terminal.

    Example: vibe demo --seconds 20 --json --seed 7

    The scenario plays on its own clock from 2026-01-01, so one seed always gives the same signals and decisions.
    Ctrl-C or a crash interrupts it, and the next `vibe demo` goes on; after --seconds it is over, and the next one
    starts from an empty log. Counts cover the whole log.

    Parameters
    ----------
    seconds: stop the venue after this much time, work everything off, report, and exit 0 only if nothing is left
    seed: another seed, another flow of trades
    """
    _run(run_demo(settings(), seed, seconds, json), quiet=True)


@app.command
def up(*, config: Path | None = None, seconds: float | None = None, json: Json = False) -> None:
    """Servers, all stages and the read models against the configured venue, in one supervised process group.

    Example: vibe up --config config.jsonl

    Parameters
    ----------
    config: JSON lines to import first (see: vibe config import --help)
    seconds: take input for this long, work everything off, report, and exit 0 only if nothing is left
    """
    _run(run_up(settings(), config, seconds, json), quiet=True)


@app.command
def run(*stages: str) -> None:
    """Run stages in this process: ingest, normalize, group, quote, match, plan, execute, projections.

    Example: vibe run plan execute
    """
    from vibe.commands import run_stages

    _run(run_stages(settings(), stages))


@app.command
def sandbox(
    *,
    host: str = "127.0.0.1",
    port: int = 8800,
    seed: int = 7,
    seconds: float | None = None,
    frames: Path | None = None,
    speed: float = 1.0,
    origin_ns: Annotated[int | None, Parameter(show=False)] = None,
) -> None:
    """A local Hyperliquid that speaks the real wire formats: ws://HOST:PORT/ws and http://HOST:PORT/info.

    Example: vibe sandbox --port 8800 --seed 7
    Then: VIBE_HYPERLIQUID_WS_URL=ws://127.0.0.1:8800/ws VIBE_HYPERLIQUID_API_URL=http://127.0.0.1:8800 vibe up

    Parameters
    ----------
    seed: the order flow is a function of it
    seconds: play no trade after this time; the venue goes on answering
    frames: replay a recording of WebSocket frames (JSON lines) instead of the model
    speed: how much faster than recorded
    """
    from vibe.commands import run_sandbox

    _run(run_sandbox(host, port, seed, seconds, frames, speed, origin_ns))


@app.command
def trace(wanted: Annotated[str, Parameter(name="ID")], /, *, json: Json = False, limit: int = 5) -> None:
    """Where something came from and what it led to: any id of ours, a venue's trade id or hash, or STREAM:SEQUENCE.

    Example: vibe trace att_nf3hxq5d2k6zt7yqkl2e

    Exit code 1 when nothing has the id.

    Parameters
    ----------
    limit: decisions shown in full when the id belongs to many
    """
    from vibe.commands import run_trace

    _run(run_trace(settings(), wanted, json, limit), quiet=True)


@app.command
def lag(*, json: Json = False) -> None:
    """What every consumer has not finished yet: unprocessed + ack pending, as `nats consumer report` counts it.

    Example: vibe lag --json
    """
    from vibe.commands import run_lag

    _run(run_lag(settings(), json), quiet=True)


@app.command
def health(*, url: str | None = None) -> None:
    """Ask a running `vibe run` whether it is well; exit code 0 when it is. For container health checks.

    Example: vibe health --url http://127.0.0.1:9100/healthz
    """
    from vibe.commands import run_health

    _run(run_health(settings(), url), quiet=True)


@streams_app.command(name="apply")
def streams_apply(*, json: Json = False) -> None:
    """Create or update every stream.

    Example: vibe streams apply
    """
    from vibe.commands import run_streams_apply

    _run(run_streams_apply(settings(), json), quiet=True)


@streams_app.command(name="show")
def streams_show(*, json: Json = False) -> None:
    """Every stream: subjects, events, size, age limit, and whether it is as it should be.

    Example: vibe streams show --json
    """
    from vibe.commands import run_streams_show

    _run(run_streams_show(settings(), json), quiet=True)


@config_app.command(name="import")
def config_import(file: Path, /, *, json: Json = False, actor: str = "vibe config import") -> None:
    """Import JSON lines. Running services follow at once. One bad line and nothing of the file is applied.

    Example: vibe config import config.jsonl

    A line: {"kind":"influencer","id":"whale-1","venue":"hyperliquid","addresses":["0x..."],"status":"active"}
    A line: {"kind":"subscriber","id":"alice","mode":"paper","deposit_usd":"10000","status":"active"}
    A line: {"kind":"subscription","id":"alice-whale-1","subscriber_id":"alice","influencer_id":"whale-1",
    "sizing":{"mode":"copy_percent","percent":"1"},"limits":{},"filters":{},"status":"active"}
    A line: {"kind":"guardrail","scope":"global","values":{"spread_bps":20}}

    Parameters
    ----------
    file: the file, or - for standard input
    actor: who is named in the events
    """
    from vibe.commands import run_config_import

    _run(run_config_import(settings(), file, actor, json), quiet=True)


@config_app.command(name="export")
def config_export() -> None:
    """Print the whole configuration as JSON lines; importing them again changes nothing.

    Example: vibe config export > config.jsonl
    """
    from vibe.commands import run_config_export

    _run(run_config_export(settings()), quiet=True)


@config_app.command(name="show")
def config_show(*, json: Json = False) -> None:
    """Who is followed, who copies whom, and the guardrails in force.

    Example: vibe config show
    """
    from vibe.commands import run_config_show

    _run(run_config_show(settings(), json), quiet=True)


@dead_app.command(name="list")
def dead_list(*, stage: str | None = None, all: bool = False, json: Json = False) -> None:
    """Dead letters that need somebody: open ones, or all of them with what became of each.

    Example: vibe dead list --stage normalize

    Parameters
    ----------
    stage: only letters of this stage
    all: retried and dropped ones too
    """
    from vibe.dead_commands import run_list

    _run(run_list(settings(), stage, all, json), quiet=True)


@dead_app.command(name="show")
def dead_show(letter: int, /, *, json: Json = False) -> None:
    """One letter whole: where it came from, why it died, and the event itself.

    Example: vibe dead show 12

    Parameters
    ----------
    letter: its number in `vibe dead list`, the sequence in DEAD
    """
    from vibe.dead_commands import run_show

    _run(run_show(settings(), letter, json), quiet=True)


@dead_app.command(name="retry")
def dead_retry(*letters: int, all: bool = False, stage: str | None = None, json: Json = False) -> None:
    """Run letters through their stage once more, after the cause was mended. One that fails again is a new letter.

    Example: vibe dead retry 12 13

    Parameters
    ----------
    letters: numbers from `vibe dead list`
    all: every open letter (with --stage: of that stage)
    """
    from vibe.dead_commands import run_retry

    _run(run_retry(settings(), letters, all, stage, json), quiet=True)


@dead_app.command(name="drop")
def dead_drop(*letters: int, why: str, json: Json = False) -> None:
    """Close letters that need nothing more. They stay in the log, with the reason and who said it.

    Example: vibe dead drop 12 --why "test frame"

    Parameters
    ----------
    letters: numbers from `vibe dead list`
    why: kept with the letter
    """
    from vibe.dead_commands import run_drop

    _run(run_drop(settings(), letters, why, json), quiet=True)


@subscriber_app.command(name="show")
def subscriber_show(subscriber: str, /, *, at: str | None = None, json: Json = False) -> None:
    """A subscriber's cash and positions, folded from its events as of now or any earlier moment.

    Example: vibe subscriber show alice --at 2026-11-01T12:00:00Z

    Parameters
    ----------
    subscriber: its id
    at: a sequence of EXECUTIONS, or a time (UTC unless it says otherwise)
    """
    from vibe.subscriber_command import run_subscriber_show

    _run(run_subscriber_show(settings(), subscriber, at, json), quiet=True)


@bench_app.command(name="log")
def bench_log(*, json: Json = False, events: int = 1_000_000) -> None:
    """The event log: append, processor, latency, replay, each with its ratio to the bare limit.

    Example: vibe bench log --json

    Runs on a server of its own under the data folder, never on the log.

    Parameters
    ----------
    events: how many the replay reads; append and processor run a tenth of it
    """
    from vibe.commands import run_bench_log

    _run(run_bench_log(settings(), json, events), quiet=True)


def main() -> None:
    """The entry point: errors that explain themselves are shown without a traceback."""
    try:
        app()
    except EXPECTED as error:
        Console(stderr=True).print(f"vibe: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


__all__ = ["Settings", "app", "cyclopts", "main"]
