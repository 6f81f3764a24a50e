"""What the smaller commands do, each on the servers of the data folder (running ones, or started for their time)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg
import msgspec
from rich.console import Console
from rich.progress import Progress

from domain.policy import GLOBAL, evaluate
from gateways.config_lines import line_of
from gateways.sandbox import hyperliquid, polymarket
from gateways.servers import servers
from handlers.catalogue import codec
from handlers.configuration import directory_at
from handlers.configure import current, exported, import_lines
from streams import topology
from streams.connection import Connection, connect
from vibe import bench_log, report
from vibe.child import Parent, run_alone, run_supervised, stop_on_signals
from vibe.clock import Clock
from vibe.play import speaker
from vibe.settings import Settings, nats_conf, polymarket_settings
from vibe.tables import show, table
from vibe.trace import Tracer
from vibe.trace_verify import verified
from vibe.trace_view import as_json, show_trace
from vibe.wiring import STAGES


class Ends(NamedTuple):
    connection: Connection
    database: asyncpg.Connection[Any]
    nats_url: str


@asynccontextmanager
async def ends(settings: Settings) -> AsyncIterator[Ends]:
    """Connections to the log and to Postgres; streams exist afterwards."""
    async with servers(
        settings.data_dir, nats_conf(), nats_url=settings.nats_url, postgres_dsn=settings.dsn, progress=speaker(False)
    ) as at:
        connection = await connect(at.nats_url, "vibe")
        database = await asyncpg.connect(at.postgres_dsn, timeout=10)
        try:
            yield Ends(connection, database, at.nats_url)
        finally:
            database.terminate()
            await connection.close()


@contextmanager
def bar(what: str, json: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal's stderr, told (done, total); silent elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=json or not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


async def run_stages(settings: Settings, stages: tuple[str, ...]) -> int:
    unknown = [name for name in stages if name not in STAGES]
    if unknown or not stages:
        what = f"unknown stage {', '.join(unknown)}" if unknown else "no stage named"
        Console(stderr=True).print(f"vibe run: {what}; use some of: {', '.join(STAGES)}", markup=False)
        return 2
    import os

    if os.environ.get("VIBE_SUPERVISED"):
        assert settings.nats_url is not None
        assert settings.dsn is not None
        await run_supervised(settings, settings.nats_url, settings.dsn, stages)
        return 0
    async with servers(
        settings.data_dir, nats_conf(), nats_url=settings.nats_url, postgres_dsn=settings.dsn, progress=speaker(False)
    ) as at:
        await run_alone(settings, at.nats_url, at.postgres_dsn, stages)
    return 0


async def _all(events: list[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


async def run_sandbox(
    host: str,
    port: int,
    polymarket_port: int,
    seed: int,
    seconds: float | None,
    frames: Path | None,
    pages: Path | None,
    speed: float,
    origin_ns: int | None,
) -> int:
    import os

    parent = None
    clock = Clock()
    supervised = bool(os.environ.get("VIBE_SUPERVISED"))
    stop = stop_on_signals(terminal=not supervised)
    if supervised:
        parent = Parent()
        parent.say("prepared")
        clock = Clock(await parent.go)
    async with AsyncExitStack() as stack:
        trades = (
            hyperliquid.RecordingSource(frames, speed=speed)
            if frames is not None
            else hyperliquid.FlowSource(seed, origin_ns=origin_ns, horizon_s=seconds)
        )
        perpetuals = await hyperliquid.serve(trades, host=host, port=port, clock=clock)
        stack.push_async_callback(perpetuals.close)
        addresses = {"VIBE_HYPERLIQUID_WS_URL": perpetuals.ws_url, "VIBE_HYPERLIQUID_API_URL": perpetuals.url}
        played = [perpetuals.done]
        if polymarket_port:
            rows = (
                polymarket.RecordingSource(pages, origin_ns=origin_ns, speed=speed)
                if pages is not None
                else polymarket.FlowSource(seed, origin_ns=origin_ns, horizon_s=seconds)
            )
            outcomes = await polymarket.serve(rows, host=host, port=polymarket_port, clock=clock)
            stack.push_async_callback(outcomes.stop)
            addresses |= polymarket_settings(outcomes.url)
            played.append(outcomes.done)
        if parent is not None:
            parent.say("ready")
            ended: asyncio.Future[object] = asyncio.ensure_future(stop.wait())
            over: asyncio.Future[object] = asyncio.ensure_future(_all(played))
            await asyncio.wait({ended, over}, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                parent.say("done")
        else:
            speaker(False)(f"sandbox on ports {port} and {polymarket_port or '-'}; Ctrl-C stops it; to use it:")
            for name, value in addresses.items():
                sys.stdout.write(f"export {name}={value}\n")
            sys.stdout.flush()
        await stop.wait()
    return 0


async def run_trace(settings: Settings, wanted: str, json: bool, limit: int, verify: bool = False) -> int:
    async with ends(settings) as at:
        await topology.verify(at.connection)
        found = await Tracer(at.connection, at.database).trace(wanted)
        if found is None:
            behind = await report.projection_lag(at.connection, at.database)
            note = f"; the read models are {behind:,} events behind the log" if behind else ""
            Console(stderr=True).print(
                f"vibe trace: nothing has the id {wanted!r} (looked among decisions, requests, orders, fills, ledger "
                f"entries, quotes, groups, signals, raw events, venue trade ids and hashes, dead letters){note}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
            return 1
        verdicts = await verified(at.connection, found) if verify else {}
        if json:
            sys.stdout.write(as_json(wanted, found, verdicts).decode() + "\n")
        else:
            show_trace(Console(), wanted, found, limit, verdicts)
    return 1 if any(verdict.difference is not None for verdict in verdicts.values()) else 0


async def run_lag(settings: Settings, json: bool) -> int:
    async with ends(settings) as at:
        lags = await report.lags(at.connection)
        if json:
            _print_json([lag._asdict() for lag in lags])
            return 0
        made = table("stream", "consumer", "waiting")
        for lag in lags:
            made.add_row(lag.stream, lag.consumer, f"{lag.waiting:,}")
        show(made)
    return 0


async def run_health(settings: Settings, url: str | None) -> int:
    target = url or f"http://127.0.0.1:{settings.http_port}/healthz"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(target) as answer,
        ):
            sys.stdout.write(await answer.text() + "\n")
            return 0 if answer.status == 200 else 1
    except (aiohttp.ClientError, TimeoutError) as error:
        Console(stderr=True).print(f"vibe health: {target} does not answer: {error}", markup=False)
        return 1


async def run_streams_apply(settings: Settings, json: bool) -> int:
    async with ends(settings) as at:
        done = await topology.apply(at.connection, settings.replicas)
        if json:
            _print_json(dict(done))
            return 0
        for name, what in done:
            Console().print(f"{name:<12} {what}", highlight=False)
    return 0


async def run_streams_show(settings: Settings, json: bool) -> int:
    shown: list[dict[str, Any]] = []
    async with ends(settings) as at:
        for stream in topology.STREAMS:
            found = await topology.info(at.connection, stream.name)
            if found is None:
                shown.append({"name": stream.name, "state": "missing; run: vibe streams apply"})
                continue
            config, state = found["config"], found["state"]
            wrong = topology.differences(stream.config(config["num_replicas"]), config)
            shown.append(
                {
                    "name": stream.name,
                    "description": stream.description,
                    "subjects": list(stream.subjects),
                    "events": state["messages"],
                    "first_sequence": state["first_seq"],
                    "last_sequence": state["last_seq"],
                    "bytes": state["bytes"],
                    "keeps_days": stream.max_age // 86_400_000_000_000 or None,
                    "replicas": config["num_replicas"],
                    "consumers": state["consumer_count"],
                    "state": "; ".join(wrong) or "ok",
                }
            )
    if json:
        _print_json(shown)
    else:
        made = table(
            "stream", "subjects", "events", "bytes", "keeps", "R", "consumers", "state", text=("subjects", "state")
        )
        for row in shown:
            if "events" not in row:
                made.add_row(row["name"], "", "", "", "", "", "", row["state"])
                continue
            made.add_row(
                row["name"],
                " ".join(row["subjects"]),
                f"{row['events']:,}",
                f"{row['bytes']:,}",
                f"{row['keeps_days']} d" if row["keeps_days"] else "for ever",
                str(row["replicas"]),
                str(row["consumers"]),
                row["state"],
            )
        show(made)
    return 0 if all(row["state"] == "ok" for row in shown) else 1


async def run_config_import(settings: Settings, file: Path, actor: str, json: bool) -> int:
    lines = sys.stdin if str(file) == "-" else file.open(encoding="utf-8")
    with lines:
        async with ends(settings) as at:
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
        _print_json(
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
    async with ends(settings) as at:
        await topology.verify(at.connection)
        directory, _ = await directory_at(at.connection, codec())
        for line in exported(directory):
            sys.stdout.write(line + "\n")
    return 0


async def run_config_show(settings: Settings, json: bool) -> int:
    async with ends(settings) as at:
        await topology.verify(at.connection)
        directory, sequence = await directory_at(at.connection, codec())
    if json:
        _print_json({"sequence": sequence, "lines": [line_of(event) for event in current(directory)]})
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


async def run_bench_log(settings: Settings, json: bool, events: int) -> int:
    folder = settings.data_dir / "bench"
    async with servers(folder, nats_conf(), postgres_dsn=settings.dsn, progress=speaker(json)) as at:
        figures = await bench_log.measure(at.nats_url, events=events, progress=speaker(json))
    if json:
        _print_json(figures)
        return 0
    made = table("figure", "value")
    for name, value in figures.items():
        if isinstance(value, int | float):
            made.add_row(name, f"{value:,}")
    for name, value in figures["replay"].items():
        if isinstance(value, int | float):
            made.add_row(f"replay {name}", f"{value:,}")
    show(made)
    return 0
