"""`vibe web`: the pages and the API, on running servers or on the data folder's own."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from streams.roles import WEB
from vibe.app.clock import Clock
from vibe.app.demo import log_time
from vibe.app.http_endpoints import child_endpoints, endpoints
from vibe.app.observability import of_this_process
from vibe.app.settings import Settings, settings
from vibe.app.worker_process import SUPERVISED, Parent, stop_on_signals
from vibe.cli.command import finish
from vibe.cli.connections import open_connections, open_servers
from vibe.cli.errors import CommandError
from vibe.web.running import fresh_link, served
from vibe.web.site import open_site


def web(
    *,
    host: str | None = None,
    port: Annotated[int | None, Parameter(validator=Number(gte=0, lte=65535))] = None,
    link: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """The pages and the HTTP API. `vibe up` and `vibe demo` run them too.

    Example: vibe web --port 8080

    The first line printed is the address with a one-time link that signs in as admin from this machine. Stop with
    Ctrl-C.

    Parameters
    ----------
    host
        where to listen; 127.0.0.1, or VIBE_WEB_HOST
    port
        8080, or a free port when that is taken; VIBE_WEB_PORT; 0 takes a free one
    link
        print a new one-time link of the running server, and exit
    """
    chosen = {name: value for name, value in (("web_host", host), ("web_port", port)) if value is not None}
    known = settings().model_copy(update=chosen)
    finish(print_link(known) if link else run_web(known), quiet=True)


async def print_link(known: Settings) -> int:
    """Raises CommandError when no server has run on this Postgres."""
    async with open_servers(known, json=True) as at:
        found = await fresh_link(at.postgres_dsn)
    if found is None:
        raise CommandError("no `vibe web` has run here yet; start it, and it prints a link")
    Console().print(found, markup=False, highlight=False, soft_wrap=True)
    return 0


async def run_web(known: Settings) -> int:
    """Serve until SIGTERM or Ctrl-C. Raises PortTakenError."""
    if os.environ.get(SUPERVISED):
        await _supervised(known)
        return 0
    stop = stop_on_signals(terminal=True)
    async with open_connections(known, role=WEB) as at, endpoints(known, of_this_process(_well)):
        clock = Clock(log_time(known) - Clock()())
        async with (
            open_site(known, at.addresses.nats_url, at.addresses.postgres_dsn, clock) as site,
            served(site) as server,
        ):
            Console().print(server.link or server.address, markup=False, highlight=False, soft_wrap=True)
            await stop.wait()
    return 0


def _well() -> dict[str, object]:
    """It serves: what it needs of the servers, it answers for on its own pages."""
    return {"ok": True, "ready": True, "problems": []}


async def _supervised(known: Settings) -> None:
    """A child of `vibe up` or `vibe demo`: serves once the parent sends its clock."""
    assert known.nats_url is not None
    assert known.dsn is not None
    stop = stop_on_signals(terminal=False)
    parent = Parent()
    clock = Clock()
    async with open_site(known, known.nats_url, known.dsn, clock) as site:
        parent.report("prepared")
        offset = await parent.go(stop)
        if offset is None:
            return
        clock.offset_ns = offset
        async with child_endpoints(of_this_process(_well), parent.report), served(site):
            parent.report("ready")
            await stop.wait()
