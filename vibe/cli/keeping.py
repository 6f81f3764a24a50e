"""Keeping history: read models, the cold tier, files for others, benchmarks."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from vibe.app.settings import settings
from vibe.cli.root import Json, app, finish, group

projections_app = group(
    "projections", "The read models: look at them, build them anew from history, prove them equal to it."
)
archive_app = group("archive", "The cold tier: closed days of the log as Parquet files.")
bench_app = group("bench", "How fast it is here, beside the bare limits of the same run.")

Events = Annotated[int, Parameter(validator=Number(gte=1000))]


@archive_app.command(name="run")
def archive_run(*, stream: str | None = None, until: str | None = None, json: Json = False) -> None:
    """Archive every closed UTC day that is not archived yet, each file read back before it counts.

    Example: vibe archive run --stream RAW --until 2026-11-19

    Interrupt it at any time and run it again; a second run does nothing. Exit code 1 when a stream could not be
    archived, or when an age limit was faster.

    Parameters
    ----------
    stream
        only this one
    until
        the last day to archive
    """
    from vibe.cli.archive import run_archive

    finish(run_archive(settings(), stream, until, json), quiet=True)


@archive_app.command(name="status")
def archive_status(*, metrics: Path | None = None, json: Json = False) -> None:
    """How far each stream is archived, and what an age limit is about to drop unarchived; exit code 1 when it is.

    Example: vibe archive status --json

    Parameters
    ----------
    metrics
        also write Prometheus gauges to this file, for the textfile collector of a node exporter
    """
    from vibe.cli.archive import run_status

    finish(run_status(settings(), metrics, json), quiet=True)


@archive_app.command(name="query")
def archive_query(sql: str, /, *, json: Json = False) -> None:
    """One SELECT of DuckDB over views raw, signals, groups, requests, executions, config and dead: cold and hot as one.

    Example: vibe archive query "SELECT type, id FROM executions WHERE data->>'$.subscriber_id' = 'alice'"

    Columns: sequence, subject, time, type, id, source, correlation, causation, data (the event's JSON text), payload.
    """
    from vibe.cli.archive import run_query

    finish(run_query(settings(), sql, json), quiet=True)


@app.command
def export(
    what: Literal["ledger", "attempts", "fills"],
    /,
    *,
    since: str | None = None,
    until: str | None = None,
    format: Literal["parquet", "csv"] | None = None,
    out: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    json: Json = False,
) -> None:
    """Rows of the read models as a file: exact integers of micros, in CSV with the decimal beside each; times in UTC.

    Example: vibe export ledger --since 2026-11-01 --until 2026-12-01 --format csv --out november.csv

    Parameters
    ----------
    since
        the first moment that belongs: a time (UTC unless it says otherwise), or a sequence of EXECUTIONS
    until
        the first moment that does not belong any more
    format
        what the file's name says (.csv, .parquet) unless given; Parquet without a name
    out
        the file, replaced when it is whole; - for CSV on standard output. Else named after what it holds
    """
    from vibe.cli.export import run_export

    finish(run_export(settings(), what, since, until, format, out, json), quiet=True)


@bench_app.command(name="log")
def bench_log(*, json: Json = False, events: Events = 1_000_000) -> None:
    """The event log: append, processor, latency, replay, each with its ratio to the bare limit.

    Example: vibe bench log --json

    Runs on a server of its own under the data folder, never on the log.

    Parameters
    ----------
    events
        how many the replay reads; append and processor run a tenth of it
    """
    from vibe.cli.bench import run_bench_log

    finish(run_bench_log(settings(), json, events), quiet=True)


@projections_app.command(name="list")
def projections_list(*, json: Json = False) -> None:
    """Every read model: version, position, lag, events per second, rows, size, last event, state.

    Example: vibe projections list --json
    """
    from vibe.cli.projections import run_list

    finish(run_list(settings(), json), quiet=True)


@projections_app.command(name="rebuild")
def projections_rebuild(
    *names: str,
    all: bool = False,
    until: str | None = None,
    schema: str | None = None,
    resume: bool = False,
    dead_letter: bool = False,
    archive: bool = False,
    shorten: bool = False,
    json: Json = False,
) -> None:
    """Build read models anew from the whole history, beside the live ones, and swap them in. Nobody notices.

    Example: vibe projections rebuild ledger_entry position

    The live ones are untouched until the swap, so Ctrl-C does no harm; --resume goes on. With --schema nothing is
    swapped: the read models are built there, as of --until or now. Example: vibe projections rebuild --all --schema
    november --until 2026-11-01T00:00:00Z

    Events that an age limit has removed from a stream are read from the archive.

    Parameters
    ----------
    names
        read models, see: vibe projections list
    all
        every one; what they read is read once
    until
        the past: a time (UTC unless it says otherwise), or a sequence where all read the same stream; with --schema
    schema
        build in this schema of Postgres instead
    resume
        go on with an interrupted rebuild
    dead_letter
        dead-letter events that cannot be folded, as running projections do, instead of stopping at the first; slower
    archive
        read whatever is archived from there, even what the streams still hold
    shorten
        where neither stream nor archive has the beginning, build from what there is
    """
    from vibe.cli.projections import run_rebuild

    finish(run_rebuild(settings(), names, all, until, schema, resume, dead_letter, archive, shorten, json), quiet=True)


@projections_app.command(name="verify")
def projections_verify(*names: str, all: bool = False, archive: bool = False, json: Json = False) -> None:
    """Replay history beside the live read models and compare every row. Nothing has to stop meanwhile.

    Example: vibe projections verify --all

    Exit code 1 when something differs; the first row and column that do are named.

    Parameters
    ----------
    names
        read models, see: vibe projections list
    archive
        read whatever is archived from there, even what the streams still hold
    """
    from vibe.cli.projections import run_verify

    finish(run_verify(settings(), names, all, archive, json), quiet=True)


@bench_app.command(name="projections")
def bench_projections(*, json: Json = False, events: Events = 1_000_000) -> None:
    """Read models: rebuild, verify and live lag, beside the bare reader, bare COPY and the eventsourcing library.

    Example: vibe bench projections --json

    Runs on servers of its own under the data folder, never on the log.

    Parameters
    ----------
    events
        how many events of EXECUTIONS the rebuild reads
    """
    from vibe.cli.bench import run_bench_projections

    finish(run_bench_projections(settings(), json, events), quiet=True)
