"""The health of a process whose stage is refused: red with the stage's name, and green again by itself."""

import asyncio

import aiohttp

from gateways.embedded import Addresses
from streams import topology
from streams.connection import Connection
from vibe.app.clock import Clock
from vibe.app.observability import serve_health
from vibe.app.settings import Settings
from vibe.app.wiring import Process
from vibe.app.worker_process import health_of


async def answers(url: str, seconds: float = 20.0, **wanted: int) -> str:
    """The body of /healthz once every path answers with the wanted status."""
    found: dict[str, int] = {}
    async with aiohttp.ClientSession() as http, asyncio.timeout(seconds):
        while True:
            for path in wanted:
                async with http.get(f"{url}/{path}") as response:
                    found[path], body = response.status, await response.text()
            if found == wanted:
                return body
            await asyncio.sleep(0.05)


async def test_a_stage_that_is_refused_its_lease_turns_health_and_readiness_red(
    running: Addresses, log: Connection
) -> None:
    stop, stages = asyncio.Event(), ("match",)
    settings = Settings(_env_file=None)
    async with Process(settings, running.nats_url, running.postgres_dsn, stages) as process:
        served = await serve_health("127.0.0.1", 0, lambda: health_of(process, stages))
        url = f"http://127.0.0.1:{served.addresses[0][1]}"
        working = asyncio.create_task(process.run(Clock(), stop))
        try:
            await answers(url, livez=200, readyz=200, healthz=200)
            await log.api("STREAM.DELETE.LEASES")
            body = await answers(url, livez=200, readyz=503, healthz=503)
            assert "match: the log refuses its lease" in body
            await topology.apply(log)
            await answers(url, livez=200, readyz=200, healthz=200)
        finally:
            stop.set()
            await asyncio.wait_for(working, 20)
            await served.cleanup()
