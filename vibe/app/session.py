"""Running a house from start to end: what `vibe up` and `vibe demo` share."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.live import Live

from vibe.app import demo, pipeline_lag, system
from vibe.app.folder_lock import exclusive
from vibe.app.settings import Settings, polymarket_settings
from vibe.app.supervisor import Supervisor
from vibe.app.worker_process import stop_on_signals, unless
from vibe.cli.dashboard import Dashboard
from vibe.cli.output import print_json

log = structlog.get_logger()

SANDBOX = "sandbox"
_LAST_STORED_SECONDS = 2.0


class BadConfigError(Exception):
    """A configuration file with bad lines; nothing of it was applied."""


async def run_up(settings: Settings, config: Path | None, seconds: float | None, as_json: bool) -> int:
    """`vibe up`; returns the exit code."""
    if not (settings.nats_url and settings.dsn):
        demo.refuse_demo(settings.data_dir)
    with exclusive(settings.data_dir):
        stop = stop_on_signals(terminal=True)
        say = progress_reporter(as_json)
        async with AsyncExitStack() as stack:
            house = await unless(stop, stack.enter_async_context(system.running_system(settings, say)))
            await unless(stop, _configure(house, config, time.time_ns()))
            system.start_stages(house.supervisor)
            await unless(stop, system.prepared(house.supervisor))
            house.supervisor.go(0)
            say(_where(house))
            await _until(house, stop, seconds, as_json, f"vibe up on {settings.hyperliquid_api_url}")
            late = [name for name, child in house.supervisor.children.items() if not child.ready.is_set()]
            code = await _end(house, say, as_json, drain=seconds is not None and not stop.is_set())
            for name in late:
                words = f"vibe up: {name} was never ready, see {settings.data_dir / 'logs' / name}.log"
                Console(stderr=True).print(words, markup=False, highlight=False, soft_wrap=True)
            return 1 if late and seconds is not None else code


async def run_demo(settings: Settings, seed: int, seconds: float | None, as_json: bool) -> int:
    """`vibe demo`; returns the exit code."""
    with exclusive(settings.data_dir):
        stop = stop_on_signals(terminal=True)
        say = progress_reporter(as_json)
        playing = demo.scenario(settings, seed)
        port, polymarket_port = demo.free_port(), demo.free_port()
        environment = {
            "VIBE_HYPERLIQUID_WS_URL": f"ws://127.0.0.1:{port}/ws",
            "VIBE_HYPERLIQUID_API_URL": f"http://127.0.0.1:{port}",
            **polymarket_settings(f"http://127.0.0.1:{polymarket_port}"),
        }
        async with AsyncExitStack() as stack:
            house = await unless(stop, stack.enter_async_context(system.running_system(settings, say, environment)))
            supervisor = house.supervisor
            arguments = [SANDBOX, "--port", str(port), "--polymarket-port", str(polymarket_port)]
            arguments += ["--seed", str(seed), "--origin-ns", str(demo.EPOCH_NS)]
            if seconds is not None:
                arguments += ["--seconds", str(demo.elapsed_seconds(playing) + seconds)]
            supervisor.start(SANDBOX, arguments)
            system.start_stages(supervisor)
            await unless(stop, system.prepared(supervisor))
            offset = demo.start_clock(settings.data_dir, playing)
            await system.import_demo(house, demo.demo_lines(), demo.log_clock(offset))
            supervisor.go(offset)
            await unless(stop, system.ready(supervisor))
            say(_where(house))
            say(f"seed {seed}, sandbox Hyperliquid on port {port} and Polymarket on port {polymarket_port}")
            say("the scenario's clock starts at 2026-01-01")
            played = None if seconds is None else asyncio.create_task(_played(supervisor))
            await _until(house, stop, None, as_json, "vibe demo", played)
            finished = seconds is not None and not stop.is_set()
            code = await _end(house, say, as_json, drain=finished)
            if finished:
                playing.finished = True
                demo.save(settings.data_dir, playing)
            return code


async def _played(supervisor: Supervisor) -> None:
    """Until the venues have played everything, somebody has asked for it, and had the time to store it."""
    await supervisor.children[SANDBOX].done.wait()
    await asyncio.sleep(_LAST_STORED_SECONDS)


async def _configure(house: system.RunningSystem, config: Path | None, now: int) -> None:
    bankroll = house.settings.bankroll_micros
    imported = await system.configure(house.connection, config, now, "vibe up --config", bankroll)
    if imported is not None and imported.bad:
        raise BadConfigError(
            f"{config}: nothing was applied; {len(imported.bad)} bad lines\n" + "\n".join(map(str, imported.bad))
        )


async def _until(
    house: system.RunningSystem,
    stop: asyncio.Event,
    seconds: float | None,
    as_json: bool,
    title: str,
    played: "asyncio.Task[None] | None" = None,
) -> None:
    """Show what happens until a signal, the end of the time or the end of the play."""
    over = asyncio.Event()
    waits: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait())]
    if seconds is not None:
        waits.append(asyncio.create_task(asyncio.sleep(seconds)))
    if played is not None:
        waits.append(played)
    console = Console()
    watching = None
    if not as_json and console.is_terminal:
        live = Live(console=console, refresh_per_second=4, transient=False)
        live.start()
        watching = asyncio.create_task(Dashboard(house, title).run(live, over))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        over.set()
        for task in waits:
            task.cancel()
        if watching is not None:
            await asyncio.gather(watching, return_exceptions=True)
            live.stop()


async def _end(house: system.RunningSystem, say: Callable[[str], None], as_json: bool, *, drain: bool) -> int:
    code = 0
    if drain:
        try:
            await system.drain(house, say)
        except system.NotDrainedError as error:
            say(str(error))
            code = 1
    closing = await pipeline_lag.closing(house.connection, house.database)
    undecided = closing["requests"] - sum(closing["decisions"].values())
    if drain and (undecided or closing["lag"]):
        code = 1
    if as_json:
        print_json(closing)
        sys.stdout.flush()
    else:
        _print(closing)
    return code


def _print(closing: dict[str, Any]) -> None:
    console = Console()
    decisions = closing["decisions"]
    console.print(
        f"\n{closing['raw_events']:,} raw events → {closing['signals']:,} signals → {closing['groups']:,} groups → "
        f"{closing['requests']:,} requests → {decisions['EXECUTE']:,} EXECUTE + {decisions['SKIP']:,} SKIP → "
        f"{closing['fills']:,} fills → {closing['ledger_entries']:,} ledger entries; "
        f"{closing['dead_letters']:,} dead letters, lag {closing['lag']:,}"
    )
    if closing["sample_attempt_id"]:
        console.print(f"see where one decision came from:  vibe trace {closing['sample_attempt_id']}")


def _where(house: system.RunningSystem) -> str:
    return f"event log {house.addresses.nats_url}, read models and logs in {house.settings.data_dir}"


def progress_reporter(as_json: bool) -> Callable[[str], None]:
    """Progress for people: on stderr, so that stdout stays clean."""
    console = Console(stderr=True)

    def say(text: str) -> None:
        if not as_json or console.is_terminal:
            console.print(f"[dim]{text}[/dim]", highlight=False)

    return say
