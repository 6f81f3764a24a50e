"""`vibe bench`: benchmarks, on servers of their own in a folder of the data folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from gateways.embedded import servers
from vibe.app.settings import Settings, nats_conf
from vibe.bench import decisions, log, pipeline, projections, quotes
from vibe.cli.command import AtLeastOne, Json, run_command
from vibe.cli.errors import UsageError
from vibe.cli.output import print_json, progress_reporter, show, table

app = App(name="bench", help="How fast this machine is, beside the bare limits of the same run.")

Events = Annotated[int, Parameter(validator=Number(gte=1000))]
Positive = Annotated[float, Parameter(validator=Number(gt=0))]


@app.command(name="decisions")
def bench_decisions(*, json: Json = False) -> None:
    """What a decision costs with 0 to 5,000 held positions and with 1,000 pending orders, in CPU time.

    Example: vibe bench decisions --json
    """
    run_command(run_bench_decisions, json)


@app.command(name="log")
def bench_log(*, json: Json = False, events: Events = 1_000_000) -> None:
    """The event log: append, processor, latency, replay, each with its ratio to the bare limit.

    Example: vibe bench log --json

    Parameters
    ----------
    events
        how many the replay reads; append and processor run a tenth of it
    """
    run_command(run_bench_log, json, events)


@app.command(name="projections")
def bench_projections(*, json: Json = False, events: Events = 1_000_000) -> None:
    """Read models: rebuild, verify and live lag, beside the bare reader, bare COPY and the eventsourcing library.

    Example: vibe bench projections --json

    Parameters
    ----------
    events
        how many events of EXECUTIONS the rebuild reads
    """
    run_command(run_bench_projections, json, events)


@app.command(name="pipeline")
def bench_pipeline(
    *,
    rate: Positive = 20.0,
    fanout: AtLeastOne = 40,
    influencers: AtLeastOne = 50,
    subscribers: AtLeastOne = 200,
    seconds: Positive = 30.0,
    venue_limits: bool = False,
    json: Json = False,
) -> None:
    """The whole pipeline under a steady load, from a venue's trade to the committed ledger entry.

    Example: vibe bench pipeline --rate 20 --fanout 40 --json

    Exits with 1 when anything was lost, doubled or not drained. CPU per request is the figure to compare between
    runs on a shared machine; the venue of the load runs in a process of its own and is not counted.

    Parameters
    ----------
    rate
        trades a second
    fanout
        subscriptions of each influencer
    influencers
        how many are followed
    subscribers
        how many copy; the fan-out is spread over them
    seconds
        how long the load lasts
    venue_limits
        enforce the request weight of Hyperliquid; it lets 400 influencers' positions be known in time
    """
    if fanout > subscribers:
        raise UsageError(f"--fanout {fanout} needs at least as many --subscribers, not {subscribers}")
    run_command(run_bench_pipeline, pipeline.Load(rate, fanout, influencers, subscribers, seconds, venue_limits), json)


@app.command(name="quotes")
def bench_quotes(
    *, rate: Positive = 100.0, coins: AtLeastOne = 100, seconds: Positive = 10.0, json: Json = False
) -> None:
    """Order books for a steady load of groups, while a sandbox enforces the limits of Hyperliquid.

    Example: vibe bench quotes --rate 100 --coins 100 --json

    Exits with 1 when a group got no book, or when the venue refused a request.

    Parameters
    ----------
    rate
        groups a second
    coins
        how many coins the groups are spread over
    seconds
        how long the load lasts
    """
    run_command(run_bench_quotes, quotes.QuoteLoad(rate, coins, seconds), json)


async def run_bench_decisions(settings: Settings, json: bool) -> int:
    figures = decisions.measure()
    print_json(figures) if json else _show(figures)
    return 0


async def run_bench_log(settings: Settings, json: bool, events: int) -> int:
    report = progress_reporter(json)
    async with servers(settings.data_dir / "bench", nats_conf(), postgres_dsn=settings.dsn, progress=report) as at:
        figures = await log.measure(at.nats_url, events=events, progress=report)
    print_json(figures) if json else _show(figures)
    return 0


async def run_bench_projections(settings: Settings, json: bool, events: int) -> int:
    report = progress_reporter(json)
    async with servers(settings.data_dir / "bench", nats_conf(), postgres_dsn=settings.dsn, progress=report) as at:
        figures = await projections.measure(at.nats_url, at.postgres_dsn, events=events, progress=report)
    print_json(figures) if json else _show(figures)
    return 0


async def run_bench_pipeline(settings: Settings, load: pipeline.Load, json: bool) -> int:
    figures = await pipeline.measure(settings, load, progress=progress_reporter(json))
    print_json(figures) if json else _show(figures)
    return 1 if figures["lost"] or figures["doubled"] or figures["lag"] else 0


async def run_bench_quotes(settings: Settings, load: quotes.QuoteLoad, json: bool) -> int:
    figures = await quotes.measure(load, progress=progress_reporter(json))
    print_json(figures) if json else _show(figures)
    return 1 if figures["quoted"] < figures["groups"] or figures["requests_refused"] else 0


def _show(figures: Mapping[str, object]) -> None:
    made = table("figure", "value")
    for name, value in _flat(figures):
        made.add_row(name, f"{value:,}")
    show(made)


def _flat(figures: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, int | float):
            yield f"{prefix}{name}", value
        elif isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
