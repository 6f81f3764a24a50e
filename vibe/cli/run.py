"""`vibe run` and `vibe health`: some stages in one process, and whether it is healthy."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

import aiohttp
from cyclopts import Parameter
from rich.console import Console

from vibe.app.clock import Clock
from vibe.app.demo import refuse_demo
from vibe.app.http_endpoints import DEFAULT_PORT
from vibe.app.servers import open_addresses
from vibe.app.settings import Settings, settings
from vibe.app.wiring import STAGES
from vibe.app.worker_process import SUPERVISED, nothing_beside, run_alone, run_supervised
from vibe.cli.command import finish
from vibe.cli.output import progress_reporter


def run(*stages: str, web: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Run stages in this process: ingest, normalize, group, quote, match, plan, exits, execute, mark, resolve,
    projections.

    Example: vibe run match plan

    Parameters
    ----------
    web
        serve the pages and the HTTP API too
    """
    finish(run_stages(settings(), stages, web=web))


def health(*, url: str | None = None) -> None:
    """Ask a running `vibe up`, `demo`, `run` or `web` whether it is healthy; exit code 0 when it is.

    For health checks of containers.

    Example: vibe health --url http://127.0.0.1:9100/healthz

    Parameters
    ----------
    url
        where it serves its health; 127.0.0.1 on VIBE_HTTP_PORT, else 9464, unless given
    """
    finish(ask_health(settings(), url), quiet=True)


async def run_stages(settings: Settings, stages: tuple[str, ...], *, web: bool = False) -> int:
    """Run stages until SIGTERM or Ctrl-C; returns the exit code. Raises NotADemoError in a demo's folder."""
    unknown = [name for name in stages if name not in STAGES]
    if unknown or not stages:
        problem = f"unknown stage {', '.join(unknown)}" if unknown else "no stage named"
        _complain(f"vibe run: {problem}; use some of: {', '.join(STAGES)}")
        return 2
    if os.environ.get(SUPERVISED):
        assert settings.nats_url is not None
        assert settings.dsn is not None
        beside = partial(_pages, settings, settings.nats_url, settings.dsn) if web else nothing_beside
        await run_supervised(settings, settings.nats_url, settings.dsn, stages, beside)
        return 0
    if not (settings.nats_url and settings.dsn):
        refuse_demo(settings.data_dir)
    async with open_addresses(settings, progress_reporter(False)) as at:
        beside = partial(_pages, settings, at.nats_url, at.postgres_dsn) if web else nothing_beside
        await run_alone(settings, at.nats_url, at.postgres_dsn, stages, beside)
    return 0


@asynccontextmanager
async def _pages(settings: Settings, nats_url: str, dsn: str, clock: Clock) -> AsyncIterator[None]:
    """The pages and the API, imported only where they are served."""
    from vibe.web.running import served
    from vibe.web.site import open_site

    async with open_site(settings, nats_url, dsn, clock) as site, served(site):
        yield


async def ask_health(settings: Settings, url: str | None) -> int:
    """Print what /healthz answers; returns the exit code."""
    if url is None and settings.http_port == 0:
        _complain("vibe health: VIBE_HTTP_PORT is 0, so nothing serves its health; set a port, or give --url")
        return 2
    target = url or f"http://127.0.0.1:{settings.http_port or DEFAULT_PORT}/healthz"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(target) as answer,
        ):
            sys.stdout.write(await answer.text() + "\n")
            return 0 if answer.status == 200 else 1
    except (aiohttp.ClientError, TimeoutError) as error:
        _complain(f"vibe health: {target} does not answer: {error}")
        return 1


def _complain(text: str) -> None:
    Console(stderr=True).print(text, markup=False, soft_wrap=True)
