"""Logs, health and metrics of a process."""

import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import prometheus_client
import structlog
from aiohttp import web

Health = Callable[[], dict[str, object]]
"""Returns the body of /healthz: `ok` decides between 200 and 503, `ready` does so for /readyz."""


# When a counter began is no measurement of its own.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


def configure_logging(level: str, form: str) -> None:
    """structlog to stderr: JSON lines, or text for a person at a terminal."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *([structlog.processors.format_exc_info] if form == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


class Endpoints(NamedTuple):
    """What is answered: the body of /healthz, and that of /metrics."""

    health: Callable[[], Awaitable[dict[str, Any]]]
    metrics: Callable[[], Awaitable[bytes]]


def of_this_process(health: Health) -> Endpoints:
    """The health and the metrics of this process alone."""

    async def state() -> dict[str, Any]:
        return health()

    async def metrics() -> bytes:
        return prometheus_client.generate_latest()

    return Endpoints(state, metrics)


async def serve_health(host: str, port: int, health: Health) -> web.AppRunner:
    """Serve the endpoints of this process on a port; the caller cleans the runner up."""
    return await serve(socket.create_server((host, port)), of_this_process(health))


async def serve(listener: socket.socket, endpoints: Endpoints) -> web.AppRunner:
    """GET /livez, /readyz, /healthz and /metrics on a listening socket; the caller cleans the runner up.

    Liveness asks for nothing but an answer: a server that is away must not restart every process that waits for it.
    Readiness is that the stages have loaded and their servers answer, and health that nothing is wrong with them.
    """

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def healthz(_: web.Request) -> web.Response:
        state = await endpoints.health()
        return web.json_response(state, status=200 if state["ok"] else 503)

    async def readyz(_: web.Request) -> web.Response:
        ready = (await endpoints.health())["ready"]
        return web.json_response({"ok": ready}, status=200 if ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        body = await endpoints.metrics()
        return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/healthz", healthz),
            web.get("/metrics", metrics),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner
