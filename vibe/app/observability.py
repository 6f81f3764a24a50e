"""Logs, health and metrics of a process."""

import logging
import sys
from collections.abc import Callable

import prometheus_client
import structlog
from aiohttp import web

Health = Callable[[], dict[str, object]]
"""Returns the body of /healthz: `ok` decides between 200 and 503, `ready` does so for /readyz."""


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


async def serve_health(host: str, port: int, health: Health) -> web.AppRunner:
    """GET /livez, /readyz, /healthz and /metrics on a port; the caller cleans the runner up.

    Liveness asks for nothing but an answer: a server that is away must not restart every process that waits for it.
    Readiness is that the stages have loaded and their servers answer, and health that nothing is wrong with them.
    """

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def healthz(_: web.Request) -> web.Response:
        state = health()
        return web.json_response(state, status=200 if state["ok"] else 503)

    async def readyz(_: web.Request) -> web.Response:
        ready = health()["ready"]
        return web.json_response({"ok": ready}, status=200 if ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        body = prometheus_client.generate_latest()
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
    await web.TCPSite(runner, host, port).start()
    return runner
