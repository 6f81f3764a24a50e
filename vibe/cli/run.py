"""`vibe run`, `vibe sandbox` and `vibe health`: one process of the house by itself."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from rich.console import Console

from gateways.embedded import servers
from gateways.sandbox import hyperliquid, polymarket
from vibe.app.clock import Clock
from vibe.app.session import progress_reporter
from vibe.app.settings import Settings, nats_conf, polymarket_settings
from vibe.app.wiring import STAGES
from vibe.app.worker_process import Parent, run_alone, run_supervised, stop_on_signals


async def run_stages(settings: Settings, stages: tuple[str, ...]) -> int:
    unknown = [name for name in stages if name not in STAGES]
    if unknown or not stages:
        what = f"unknown stage {', '.join(unknown)}" if unknown else "no stage named"
        Console(stderr=True).print(f"vibe run: {what}; use some of: {', '.join(STAGES)}", markup=False)
        return 2
    if os.environ.get("VIBE_SUPERVISED"):
        assert settings.nats_url is not None
        assert settings.dsn is not None
        await run_supervised(settings, settings.nats_url, settings.dsn, stages)
        return 0
    async with servers(
        settings.data_dir,
        nats_conf(),
        nats_url=settings.nats_url,
        postgres_dsn=settings.dsn,
        progress=progress_reporter(False),
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
            played.append(outcomes.collected)
        if parent is not None:
            parent.say("ready")
            ended: asyncio.Future[object] = asyncio.ensure_future(stop.wait())
            over: asyncio.Future[object] = asyncio.ensure_future(_all(played))
            await asyncio.wait({ended, over}, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                parent.say("done")
        else:
            progress_reporter(False)(
                f"sandbox on ports {port} and {polymarket_port or '-'}; Ctrl-C stops it; to use it:"
            )
            for name, value in addresses.items():
                sys.stdout.write(f"export {name}={value}\n")
            sys.stdout.flush()
        await stop.wait()
    return 0


async def run_health(settings: Settings, url: str | None) -> int:
    if url is None and not settings.http_port:
        what = "which process? `vibe run` tells its health on VIBE_HTTP_PORT, which is not set; set it, or give --url"
        Console(stderr=True).print(f"vibe health: {what}", markup=False, soft_wrap=True)
        return 2
    target = url or f"http://127.0.0.1:{settings.http_port}/healthz"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(target) as answer,
        ):
            sys.stdout.write(await answer.text() + "\n")
            return 0 if answer.status == 200 else 1
    except (aiohttp.ClientError, TimeoutError) as error:
        Console(stderr=True).print(f"vibe health: {target} does not answer: {error}", markup=False, soft_wrap=True)
        return 1
