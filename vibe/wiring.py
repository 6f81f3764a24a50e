"""Wiring: stage names become running stages on one connection; `vibe run` and every child of `vibe up` is this."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import structlog

from gateways.hyperliquid.books import VenueBooks
from gateways.hyperliquid.info import Budget, InfoClient
from handlers.catalogue import codec
from handlers.configuration import Configuration
from handlers.execute import Execute
from handlers.group import Group
from handlers.ingest import Ingest
from handlers.match import Match
from handlers.normalize import Normalize
from handlers.plan import Plan
from handlers.quote import Quote
from projections.catalogue import PROJECTIONS
from projections.engine import Engine
from streams import topology
from streams.connection import Connection, connect
from streams.runner import StageRunner
from streams.stage import Stage
from streams.subjects import lanes
from vibe.clock import Clock
from vibe.settings import Settings

log = structlog.get_logger()

FOLDS = ("normalize", "group", "quote", "match", "plan", "execute")
STAGES = ("ingest", *FOLDS, "projections")
"""Everything `vibe run` can run, in the order in which data walks."""

INGEST_WEIGHT, QUOTE_WEIGHT = 400, 800
"""How the venue's request weight per minute is split between the two stages that ask it."""


class Process:
    """Some stages in one process, sharing a connection and the live configuration."""

    def __init__(self, settings: Settings, nats_url: str, postgres_dsn: str, stages: tuple[str, ...]) -> None:
        self._settings = settings
        self._nats_url = nats_url
        self._postgres_dsn = postgres_dsn
        self._stages = stages
        self._resources = AsyncExitStack()
        self._waits: list[Callable[[], Awaitable[object]]] = []
        self.ready = False
        """True once every stage has its lanes, has loaded their state and is working."""

    async def __aenter__(self) -> "Process":
        self._connection: Connection = await connect(self._nats_url, f"vibe {' '.join(self._stages)}")
        self._resources.push_async_callback(self._connection.close)
        await topology.verify(self._connection)
        self._configuration = Configuration(self._connection, codec())
        self._resources.push_async_callback(self._configuration.close)
        await self._configuration.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def run(self, clock: Clock, stop: asyncio.Event, on_ready: Callable[[], None] = lambda: None) -> None:
        """Run every stage until `stop`; the first one that fails for good takes the process with it."""
        works = []
        for name in self._stages:
            works += await self._works(name, clock, stop)
        announcer = asyncio.create_task(self._announce(on_ready))
        tasks = [asyncio.create_task(work) for work in works]
        tasks.append(asyncio.create_task(self._configuration.watch(stop)))
        try:
            await asyncio.gather(*tasks)
        finally:
            announcer.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, announcer, return_exceptions=True)

    async def _announce(self, on_ready: Callable[[], None]) -> None:
        for ready in self._waits:
            await ready()
        self.ready = True
        log.info("process.ready", stages=self._stages)
        on_ready()

    async def _works(self, name: str, clock: Clock, stop: asyncio.Event) -> list[Any]:
        if name == "projections":
            engine = Engine(self._connection, codec(), self._postgres_dsn, PROJECTIONS, clock)
            self._waits.append(engine.ready.wait)
            return [engine.run(stop)]
        if name == "ingest":
            info = await self._info(INGEST_WEIGHT)
            ingest = Ingest(self._connection, self._configuration, info, self._settings.hyperliquid_ws_url, clock)
            self._waits.append(ingest.ready.wait)
            return [ingest.run(stop)]
        stage = await self._stage(name, clock)
        runner = StageRunner(self._connection, codec(), stage, lanes(self._settings.lanes), clock)
        self._waits.append(runner.ready)
        return [runner.run(stop)]

    async def _stage(self, name: str, clock: Clock) -> Stage[Any]:
        match name:
            case "normalize":
                return Normalize()
            case "group":
                return Group()
            case "quote":
                return Quote(self._configuration, VenueBooks(await self._info(QUOTE_WEIGHT)), clock)
            case "match":
                return Match(self._configuration)
            case "plan":
                return Plan(self._configuration)
            case "execute":
                return Execute(self._configuration)
        raise ValueError(f"there is no stage {name!r}; use one of {', '.join(STAGES)}")

    async def _info(self, weight: int) -> InfoClient:
        client = InfoClient(self._settings.hyperliquid_api_url, budget=Budget(weight))
        return await self._resources.enter_async_context(client)
