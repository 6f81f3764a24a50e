"""A session of `vibe up` or `vibe demo`: start everything, run until it ends, work everything off, report."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateways.keys.sources import has_keys, password_of
from handlers.services.config_import import import_lines
from streams.login import shown
from vibe.app import demo, demo_live, pipeline_lag
from vibe.app.daily_jobs import DailyJobs, in_a_process
from vibe.app.folder_lock import exclusive
from vibe.app.settings import Settings, polymarket_settings
from vibe.app.supervisor import Supervisor
from vibe.app.system import (
    NotDrainedError,
    RunningSystem,
    drain,
    prepared,
    ready,
    running_system,
    start_stages,
    usual_processes,
)
from vibe.app.web_process import WEB, WebChild
from vibe.app.worker_process import stop_on_signals, unless_stopped

SANDBOX = "sandbox"
_LAST_STORED_SECONDS = 2.0

Progress = Callable[[str], None]
"""Gets a line of text for the operator."""
Watch = Callable[[RunningSystem, str, asyncio.Event], Awaitable[None]]
"""Shows the running system under a title; returns once the event is set."""


class BadConfigError(Exception):
    """A configuration file with bad lines; nothing of it was applied."""


@dataclass(frozen=True)
class Ended:
    """How a session ended: the counts of the whole log, whether everything was drained (True when that was not
    asked for), and the logs of processes that were never ready."""

    report: dict[str, Any]
    complete: bool
    never_ready: dict[str, Path] = field(default_factory=dict)


async def run_up(
    settings: Settings,
    config: Path | None,
    seconds: float | None,
    processes: int | None,
    progress: Progress,
    watch: Watch,
) -> Ended:
    """All stages on the configured venues until a signal, or for `seconds` and then until everything is drained.

    `processes` is how many run the stages; None leaves it to the profile.

    Raises NotADemoError, FolderBusyError, BadConfigError, PortTakenError, ServerError, KeysError when the keystore has
    no password, and TimeoutError when a process does not start.
    """
    if not (settings.nats_url and settings.dsn):
        demo.refuse_demo(settings.data_dir)
    if settings.keystore_path.exists():
        password_of(settings)
    with exclusive(settings.data_dir):
        stop = stop_on_signals(terminal=True)
        web = WebChild(settings)
        progress(_starting(settings))
        async with AsyncExitStack() as stack:
            stack.callback(web.close)
            system = await unless_stopped(
                stop, stack.enter_async_context(running_system(settings, progress, web.environment, (web.descriptor,)))
            )
            if config is not None:
                await unless_stopped(stop, _configure(system, config))
            start_stages(system.supervisor, processes or usual_processes(settings), live=has_keys(settings))
            await unless_stopped(stop, prepared(system.supervisor, progress))
            system.supervisor.go(0)
            await unless_stopped(stop, _serving(system.supervisor))
            progress(web.line())
            progress(_addresses(system))
            jobs = _daily_jobs(system)
            stack.callback(jobs.cancel)
            over = asyncio.create_task(_never() if seconds is None else asyncio.sleep(seconds))
            await _watch(system, f"vibe up on {settings.hyperliquid_api_url}", stop, over, watch)
            late = {
                name: settings.data_dir / "logs" / f"{name}.log"
                for name, child in system.supervisor.children.items()
                if child.essential and not child.ready.is_set()
            }
            ended = await _end(system, progress, drained=seconds is not None and not stop.is_set())
            complete = ended.complete and not (late and seconds is not None)
            return replace(ended, complete=complete, never_ready=late)


async def run_demo(
    settings: Settings, seed: int, seconds: float | None, progress: Progress, watch: Watch, *, live: bool = False
) -> Ended:
    """The scenario of `seed` until a signal, or for `seconds` of its time and then until everything is drained.

    With `live` one more subscriber trades on an account of the sandbox with signed orders.

    Raises NotADemoError, FolderBusyError, PortTakenError, ServerError, and TimeoutError when a process does not start.
    """
    with exclusive(settings.data_dir):
        stop = stop_on_signals(terminal=True)
        scenario = demo.scenario(settings, seed, live=live)
        trading = demo_live.LiveDemo() if live else None
        web = WebChild(settings)
        port, polymarket_port = _free_port(), _free_port()
        environment = {
            "VIBE_HYPERLIQUID_WS_URL": f"ws://127.0.0.1:{port}/ws",
            "VIBE_HYPERLIQUID_API_URL": f"http://127.0.0.1:{port}",
            **polymarket_settings(f"http://127.0.0.1:{polymarket_port}"),
            **web.environment,
            **(trading.environment if trading else {}),
        }
        arguments = [SANDBOX, "--port", str(port), "--polymarket-port", str(polymarket_port)]
        arguments += ["--seed", str(seed), "--origin-ns", str(demo.EPOCH_NS)]
        arguments += trading.arguments if trading else []
        if seconds is not None:
            arguments += ["--seconds", str(scenario.played_seconds + seconds)]
        progress(_starting(settings))
        async with AsyncExitStack() as stack:
            stack.callback(web.close)
            clock = await stack.enter_async_context(demo.ScenarioClock(settings.data_dir, scenario))
            system = await unless_stopped(
                stop, stack.enter_async_context(running_system(settings, progress, environment, (web.descriptor,)))
            )
            supervisor = system.supervisor
            supervisor.start(SANDBOX, arguments)
            start_stages(supervisor, usual_processes(settings), live=live or has_keys(settings))
            await unless_stopped(stop, prepared(supervisor, progress))
            offset = clock.start()
            imported = await import_lines(
                system.connection,
                [*demo.configuration(), *(demo_live.configuration() if live else ())],
                actor="vibe demo",
                now=clock.now(),
                bankroll_micros=settings.bankroll_micros,
            )
            assert not imported.bad, imported.bad
            supervisor.go(offset)
            await unless_stopped(stop, ready(supervisor, progress))
            await unless_stopped(stop, _serving(supervisor))
            progress(web.line())
            progress(_addresses(system))
            progress(f"seed {seed}, sandbox Hyperliquid on port {port} and Polymarket on port {polymarket_port}")
            over = asyncio.create_task(_never() if seconds is None else _played(supervisor))
            await _watch(system, f"vibe demo, seed {seed}", stop, over, watch)
            scenario.finished = seconds is not None and not stop.is_set()
            return await _end(system, progress, drained=scenario.finished)


async def _configure(system: RunningSystem, config: Path) -> None:
    with config.open(encoding="utf-8") as lines:
        imported = await import_lines(
            system.connection,
            lines,
            actor="vibe up --config",
            now=time.time_ns(),
            bankroll_micros=system.settings.bankroll_micros,
        )
    if imported.bad:
        raise BadConfigError(
            f"{config}: nothing was applied; {len(imported.bad)} bad lines\n" + "\n".join(map(str, imported.bad))
        )


def _daily_jobs(system: RunningSystem) -> asyncio.Task[None]:
    settings = system.settings
    servers = {"VIBE_NATS_URL": system.addresses.nats_url, "VIBE_POSTGRES_DSN": system.addresses.postgres_dsn}
    run = in_a_process(servers, settings.data_dir / "logs")
    return asyncio.create_task(DailyJobs(settings.data_dir, settings.daily_jobs_at, run).run())


async def _serving(supervisor: Supervisor) -> None:
    """Returns when the web process serves, or after five seconds: the stages do not need it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await (supervisor.children.get(WEB) or supervisor.children["stages"]).ready.wait()


async def _never() -> None:
    await asyncio.Event().wait()


async def _played(supervisor: Supervisor) -> None:
    """Returns when the venues have played everything, ingest has asked for it and has had the time to store it."""
    await supervisor.children[SANDBOX].done.wait()
    await asyncio.sleep(_LAST_STORED_SECONDS)


async def _watch(
    system: RunningSystem, title: str, stop: asyncio.Event, over: "asyncio.Task[None]", watch: Watch
) -> None:
    """Show the system until a signal, or until `over` is done."""
    ended = asyncio.Event()
    stopped = asyncio.create_task(stop.wait())
    watching = asyncio.ensure_future(watch(system, title, ended))
    try:
        await asyncio.wait({stopped, over, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.set()
        stopped.cancel()
        over.cancel()
        await asyncio.gather(stopped, over, return_exceptions=True)
        await watching


async def _end(system: RunningSystem, progress: Progress, *, drained: bool) -> Ended:
    complete = True
    if drained:
        try:
            await drain(system, progress)
        except NotDrainedError as error:
            progress(str(error))
            complete = False
    report = await pipeline_lag.closing(system.connection, system.database, demo.log_time(system.settings))
    undecided = report["requests"] - sum(report["decisions"].values())
    if drained and (undecided or report["lag"]):
        complete = False
    return Ended(report, complete)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _starting(settings: Settings) -> str:
    own = [name for name, url in (("nats-server", settings.nats_url), ("Postgres", settings.dsn)) if not url]
    return f"starting {' and '.join(own)} in {settings.data_dir}" if own else "connecting to NATS and Postgres"


def _addresses(system: RunningSystem) -> str:
    metrics = f", metrics http://{system.settings.http_host}:{system.http_port}/metrics" if system.http_port else ""
    return f"event log {shown(system.addresses.nats_url)}, read models and logs in {system.settings.data_dir}{metrics}"
