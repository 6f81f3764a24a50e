"""The command line: `vibe --help` lists it, `vibe COMMAND --help` shows an example of each."""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
import uvloop
from cyclopts import App, Parameter
from rich.console import Console

from gateways.servers import ServerError
from projections.errors import ProjectionError
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
    ProjectionError,
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
influencer_app = App(name="influencer", help="One influencer, from the log.\n\nExample: vibe influencer show whale-1")
app.command(influencer_app)
control_app = App(
    name="control",
    help="Switches for operators, in force from the next decision on.\n\nExample: vibe control disable market DOGE",
)
app.command(control_app)
app.command(config_app)
archive_app = App(
    name="archive", help="The cold tier: closed days of the log as Parquet files.\n\nExample: vibe archive run"
)
app.command(archive_app)
projections_app = App(
    name="projections",
    help="The read models: look at them, build them anew from history, prove them equal to it.\n\n"
    "Example: vibe projections list",
)
app.command(projections_app)

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
    """Run stages in this process: ingest, normalize, group, quote, match, plan, execute, mark, projections.

    Example: vibe run plan execute
    """
    from vibe.commands import run_stages

    _run(run_stages(settings(), stages))


@app.command
def sandbox(
    *,
    host: str = "127.0.0.1",
    port: int = 8800,
    polymarket_port: int = 8801,
    seed: int = 7,
    seconds: float | None = None,
    frames: Path | None = None,
    pages: Path | None = None,
    speed: float = 1.0,
    origin_ns: Annotated[int | None, Parameter(show=False)] = None,
) -> None:
    """Both venues on this machine, with the real wire formats: a Hyperliquid and, on a port of its own, a Polymarket.

    Example: vibe sandbox --port 8800 --polymarket-port 8801 --seed 7

    It prints the settings (VIBE_...) that make `vibe up` use it.

    Parameters
    ----------
    port: Hyperliquid's: ws://HOST:PORT/ws and http://HOST:PORT/info
    polymarket_port: Polymarket's Data API, Gamma, CLOB and Polygon node; 0 = no Polymarket
    seed: the order flow is a function of it
    seconds: play no trade after this time; the venues go on answering
    frames: replay a recording of Hyperliquid's WebSocket frames (JSON lines) instead of the model
    pages: serve recorded pages of a Polymarket wallet (a folder of trades_page*.json) instead of the model
    speed: how much faster than recorded
    """
    from vibe.commands import run_sandbox

    _run(run_sandbox(host, port, polymarket_port, seed, seconds, frames, pages, speed, origin_ns))


@app.command
def trace(
    wanted: Annotated[str, Parameter(name="ID")], /, *, json: Json = False, limit: int = 5, verify: bool = False
) -> None:
    """Where something came from and what it led to: any id of ours, a venue's trade id or hash, or STREAM:SEQUENCE.

    Example: vibe trace att_nf3hxq5d2k6zt7yqkl2e

    Exit code 1 when nothing has the id.

    Parameters
    ----------
    limit: decisions shown in full when the id belongs to many
    verify: make each decision again from the log alone, and say whether it comes out equal; exit code 1 when not
    """
    from vibe.commands import run_trace

    _run(run_trace(settings(), wanted, json, limit, verify), quiet=True)


@app.command(name="verify-decisions")
def verify_decisions(*, since: str | None = None, json: Json = False) -> None:
    """Make every decision again from the log alone and compare: equal in every field, or the first difference.

    Example: vibe verify-decisions --since 24h

    Exit code 1 when one comes out different.

    Parameters
    ----------
    since: a span such as 24h or 7d, or a time; without it, everything
    """
    from vibe.verify_command import run_verify

    _run(run_verify(settings(), since, json), quiet=True)


@app.command
def whatif(*, config: Path, since: str = "24h", json: Json = False) -> None:
    """What another configuration would have made of the recorded groups and quotes, beside what happened.

    Example: vibe whatif --config bolder.jsonl --since 24h

    The file's lines are laid over the present configuration; nothing is written.

    Parameters
    ----------
    config: JSON lines as in `vibe config import`
    since: a span such as 24h or 7d, or a time
    """
    from vibe.whatif_command import run_whatif

    _run(run_whatif(settings(), config, since, json), quiet=True)


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


@influencer_app.command(name="show")
def influencer_show(influencer: str, /, *, at: str | None = None, json: Json = False) -> None:
    """An influencer's own trading as a portfolio (SHADOW_USER): cash, positions, profit since it is followed.

    Example: vibe influencer show whale-1 --at 2026-11-01T00:00Z

    Parameters
    ----------
    at: as of this time, or that long ago (24h); without it, now
    """
    from vibe.influencer_command import run_influencer_show

    _run(run_influencer_show(settings(), influencer, at, json), quiet=True)


@app.command(name="leaderboard")
def leaderboard(*, since: str | None = None, min_trips: int = 1, limit: int = 20, json: Json = False) -> None:
    """Whom to follow: influencers by score (win rate, volume, drawdown, risk ratio, best round trip).

    Example: vibe leaderboard --since 30d --min-trips 5

    Parameters
    ----------
    since: trades of this span (30d) or from this time on; without it, all
    min_trips: leave out who ended fewer round trips, from flat to flat
    """
    from vibe.leaderboard_command import run_leaderboard

    _run(run_leaderboard(settings(), since, min_trips, limit, json), quiet=True)


@app.command(name="metrics")
def metrics(
    what: Literal["influencer", "subscriber"],
    name: Annotated[str, Parameter(name="ID")],
    /,
    *,
    since: str | None = None,
    json: Json = False,
) -> None:
    """How an influencer trades and is copied, or how copying goes for a subscriber: profit, rates, slippage, lags.

    Example: vibe metrics subscriber alice --since 7d

    Parameters
    ----------
    since: of this span (24h, 7d) or from this time on; without it, all. A subscriber's profit is always all
    """
    from vibe.leaderboard_command import run_metrics

    _run(run_metrics(settings(), what, name, since, json), quiet=True)


Note = Annotated[str, Parameter(help="why, for whoever reads the log")]
Actor = Annotated[str | None, Parameter(help="who; without it, the user of this process")]


def _control(target: str, key: str, state: str, note: str, actor: str | None, json: bool) -> None:
    from domain.events import ControlState, ControlTarget
    from vibe.clock import Clock
    from vibe.control_commands import run_control

    work = run_control(settings(), ControlTarget(target), key, ControlState(state), note, actor, json, Clock())
    _run(work, quiet=True)


@control_app.command(name="show")
def control_show(*, json: Json = False) -> None:
    """What is switched otherwise than usual.

    Example: vibe control show
    """
    from vibe.control_commands import run_show

    _run(run_show(settings(), json), quiet=True)


@control_app.command(name="pause")
def control_pause(*, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Pause the engine: everything is recorded, nothing is copied, and nothing of it is copied later.

    Example: vibe control pause --note "venue maintenance"
    """
    _control("engine", "", "paused", note, actor, json)


@control_app.command(name="resume")
def control_resume(*, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Let the engine copy again what is detected from now on.

    Example: vibe control resume
    """
    _control("engine", "", "running", note, actor, json)


@control_app.command(name="record-only")
def control_record_only(*, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Decide everything and execute nothing: decisions say what they would have been refused for.

    Example: vibe control record-only
    """
    _control("engine", "", "record_only", note, actor, json)


@control_app.command(name="disable")
def control_disable(
    what: Literal["influencer", "subscriber", "market"],
    name: str,
    /,
    *,
    note: Note = "",
    actor: Actor = None,
    json: Json = False,
) -> None:
    """Open nothing new for an influencer, a subscriber or a market; reductions go through.

    Example: vibe control disable market DOGE --note "delisting"
    """
    _control(what, name, "disabled", note, actor, json)


@control_app.command(name="enable")
def control_enable(
    what: Literal["influencer", "subscriber", "market"],
    name: str,
    /,
    *,
    note: Note = "",
    actor: Actor = None,
    json: Json = False,
) -> None:
    """Take a disabling back.

    Example: vibe control enable market DOGE
    """
    _control(what, name, "enabled", note, actor, json)


@control_app.command(name="reset-breakers")
def control_reset_breakers(subscriber: str, /, *, note: Note = "", actor: Actor = None, json: Json = False) -> None:
    """Reset the tripped breakers of a subscriber; they look back to its equity at that moment.

    Example: vibe control reset-breakers alice
    """
    _control("breakers", subscriber, "reset", note, actor, json)


@archive_app.command(name="run")
def archive_run(*, stream: str | None = None, until: str | None = None, json: Json = False) -> None:
    """Archive every closed UTC day that is not archived yet, each file read back before it counts.

    Example: vibe archive run --stream RAW --until 2026-11-19

    Interrupt it at any time and run it again; a second run does nothing. Exit code 1 when a stream could not be
    archived, or when an age limit was faster.

    Parameters
    ----------
    stream: only this one
    until: the last day to archive
    """
    from vibe.archive_commands import run_archive

    _run(run_archive(settings(), stream, until, json), quiet=True)


@archive_app.command(name="status")
def archive_status(*, metrics: Path | None = None, json: Json = False) -> None:
    """How far each stream is archived, and what an age limit is about to drop unarchived; exit code 1 when it is.

    Example: vibe archive status --json

    Parameters
    ----------
    metrics: also write Prometheus gauges to this file, for the textfile collector of a node exporter
    """
    from vibe.archive_commands import run_status

    _run(run_status(settings(), metrics, json), quiet=True)


@archive_app.command(name="query")
def archive_query(sql: str, /, *, json: Json = False) -> None:
    """One SELECT of DuckDB over views raw, signals, groups, requests, executions, config and dead: cold and hot as one.

    Example: vibe archive query "SELECT type, id FROM executions WHERE data->>'$.subscriber_id' = 'alice'"

    Columns: sequence, subject, time, type, id, source, correlation, causation, data (the event's JSON text), payload.
    """
    from vibe.archive_commands import run_query

    _run(run_query(settings(), sql, json), quiet=True)


@app.command
def export(
    what: Literal["ledger", "attempts", "fills"],
    /,
    *,
    since: str | None = None,
    until: str | None = None,
    format: Literal["parquet", "csv"] = "parquet",
    out: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    json: Json = False,
) -> None:
    """Rows of the read models as a file: exact integers of micros, in CSV with the decimal beside each; times in UTC.

    Example: vibe export ledger --since 2026-11-01 --until 2026-12-01 --format csv --out november.csv

    Parameters
    ----------
    since: the first moment that belongs: a time (UTC unless it says otherwise), or a sequence of EXECUTIONS
    until: the first moment that does not belong any more
    out: the file, replaced when it is whole; - for CSV on standard output. Else named after what it holds
    """
    from vibe.export_command import run_export

    _run(run_export(settings(), what, since, until, format, out, json), quiet=True)


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


@projections_app.command(name="list")
def projections_list(*, json: Json = False) -> None:
    """Every read model: version, position, lag, events per second, rows, size, last event, state.

    Example: vibe projections list --json
    """
    from vibe.projections_commands import run_list

    _run(run_list(settings(), json), quiet=True)


@projections_app.command(name="rebuild")
def projections_rebuild(
    *names: str,
    all: bool = False,
    until: str | None = None,
    schema: str | None = None,
    resume: bool = False,
    bury: bool = False,
    json: Json = False,
) -> None:
    """Build read models anew from the whole history, beside the live ones, and swap them in. Nobody notices.

    Example: vibe projections rebuild ledger_entry position

    The live ones are untouched until the swap, so Ctrl-C does no harm; --resume goes on. With --schema nothing is
    swapped: the read models are built there, as of --until or now. Example: vibe projections rebuild --all --schema
    november --until 2026-11-01T00:00:00Z

    Parameters
    ----------
    names: read models, see: vibe projections list
    all: every one; what they read is read once
    until: the past: a time (UTC unless it says otherwise), or a sequence where all read the same stream; with --schema
    schema: build in this schema of Postgres instead
    resume: go on with an interrupted rebuild
    bury: let events that cannot be folded go to DEAD, as when live, rather than stop at the first; slower
    """
    from vibe.projections_commands import run_rebuild

    _run(run_rebuild(settings(), names, all, until, schema, resume, bury, json), quiet=True)


@projections_app.command(name="verify")
def projections_verify(*names: str, all: bool = False, json: Json = False) -> None:
    """Replay history beside the live read models and compare every row. Nothing has to stop meanwhile.

    Example: vibe projections verify --all

    Exit code 1 when something differs; the first row and column that do are named.

    Parameters
    ----------
    names: read models, see: vibe projections list
    """
    from vibe.projections_commands import run_verify

    _run(run_verify(settings(), names, all, json), quiet=True)


@bench_app.command(name="projections")
def bench_projections(*, json: Json = False, events: int = 1_000_000) -> None:
    """Read models: rebuild, verify and live lag, beside the bare reader, bare COPY and the eventsourcing library.

    Example: vibe bench projections --json

    Runs on servers of its own under the data folder, never on the log.

    Parameters
    ----------
    events: how many events of EXECUTIONS the rebuild reads
    """
    from vibe.projections_commands import run_bench

    _run(run_bench(settings(), json, events), quiet=True)


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
