"""Health and metrics over HTTP: on the port that the settings name, or on one that only the parent learns.

Each child of `vibe up` and `vibe demo` serves on a free port of loopback, and reports it to its parent, which answers
for all on the port of the settings (`vibe/app/group_endpoints.py`).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from vibe.app.observability import Endpoints, serve
from vibe.app.settings import Settings
from vibe.app.web_process import PortTakenError

log = structlog.get_logger()

DEFAULT_PORT = 9464


@asynccontextmanager
async def endpoints(settings: Settings, found: Endpoints) -> AsyncIterator[int | None]:
    """Serve until the context ends; the port, or None where VIBE_HTTP_PORT is 0. Raises PortTakenError when the port
    that was set is taken; without a setting another free one is used then."""
    listener = _listening(settings)
    if listener is None:
        yield None
        return
    port: int = listener.getsockname()[1]
    runner = await serve(listener, found)
    log.info("http.serves", port=port)
    try:
        yield port
    finally:
        await runner.cleanup()
        listener.close()


@asynccontextmanager
async def child_endpoints(found: Endpoints, report: Callable[[str], None]) -> AsyncIterator[None]:
    """Serve on a free port of loopback, which the parent learns."""
    listener = socket.create_server(("127.0.0.1", 0))
    runner = await serve(listener, found)
    report(f"http {listener.getsockname()[1]}")
    try:
        yield
    finally:
        await runner.cleanup()
        listener.close()


def _listening(settings: Settings) -> socket.socket | None:
    if settings.http_port == 0:
        return None
    for port in (settings.http_port,) if settings.http_port is not None else (DEFAULT_PORT, 0):
        try:
            return socket.create_server((settings.http_host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise PortTakenError(
        f"port {settings.http_port} of {settings.http_host} is used by another program; "
        "set VIBE_HTTP_PORT to another one, or to 0 for none"
    )
