"""Wiring: stage names become running stages; `vibe run` and every child of `vibe up` is this."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog

from domain.configuration import ALL_KINDS, Kind
from domain.events import Venue
from gateways.keys.sources import agent_keys
from gateways.live_orders import LiveOrders
from gateways.rate_limit import RateLimiter, SharedRateLimiter
from gateways.registry import ADAPTERS, LIVE_VENUES
from gateways.venue_adapter import Purpose, VenueClients
from gateways.venue_clock import VenueClock
from handlers.execute import Execute
from handlers.exits import Exits
from handlers.group import Group
from handlers.ingest import ingest_of
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from handlers.live.mark_prices import LiveMarkPrices
from handlers.live.quotes import VenueQuotes
from handlers.live.traded_assets import TradedAssets
from handlers.mark import Mark
from handlers.match import Match
from handlers.normalize import Normalize
from handlers.plan import Plan
from handlers.quote import Quote
from handlers.resolve import Resolve
from projections.engine.follow import FOLLOWER
from projections.engine.runner import Engine
from projections.models import PROJECTIONS
from streams import topology
from streams.connection import Connection, connect
from streams.lag_watch import LagLimit, LagWatch
from streams.login import as_role
from streams.processing.lost_data import refuse_lost_data
from streams.processing.stage import Stage
from streams.processing.stage_runner import StageRunner
from streams.roles import PIPELINE, role_of_stage
from streams.shared_bucket import SharedBucket
from streams.subjects import lanes, token
from vibe.app.clock import Clock
from vibe.app.collector import Collector
from vibe.app.dependencies import dependencies_of
from vibe.app.settings import Settings

log = structlog.get_logger()

FOLDS = ("normalize", "group", "quote", "match", "plan", "exits")
EXECUTE = "execute"
"""Sends live orders, in a process of its own, which alone reads the keys; it runs where there are keys."""
STAGES = ("ingest", *FOLDS, EXECUTE, "mark", "resolve", "projections")
"""Everything `vibe run` can run, in the order in which events flow."""
RETRYABLE = frozenset((*FOLDS, EXECUTE))
"""The stages whose dead letters can be handled again."""

_CONFIGURATION_OF: dict[str, frozenset[Kind]] = {
    "ingest": frozenset({Kind.INFLUENCER}),
    "normalize": frozenset({Kind.INFLUENCER}),
    "group": frozenset(),
    "quote": frozenset({Kind.GUARDRAIL}),
    "match": frozenset({Kind.INFLUENCER, Kind.SUBSCRIBER, Kind.SUBSCRIPTION, Kind.ACCOUNT, Kind.GUARDRAIL}),
    "plan": frozenset({Kind.SUBSCRIBER, Kind.GUARDRAIL, Kind.POLICY, Kind.CONTROL}),
    "exits": frozenset({Kind.CONTROL}),
    EXECUTE: frozenset(),
    "mark": frozenset(),
    "resolve": frozenset(),
    "projections": frozenset(),
}
"""What each stage needs of the configuration, by hundreds of thousands of entries; a stage that is not named here needs
all of it."""
_KEPT_BACK = 0.98
"""Of a venue's rate, what is asked for: a request that is late on its way arrives together with later ones."""
_NEED_MARK_PRICES = frozenset({"plan", "mark", "resolve"})
_NEED_TRADED_ASSETS = frozenset({"quote", "exits", "mark", "resolve"})
_NEED_QUOTES = frozenset({"quote", "exits"})


class Process:
    """Some stages in one process, sharing the live configuration, and a connection for each role."""

    def __init__(self, settings: Settings, nats_url: str, postgres_dsn: str, stages: tuple[str, ...]) -> None:
        self._settings = settings
        self._nats_url = nats_url
        self._postgres_dsn = postgres_dsn
        self._stages = stages
        self._lag_limit = LagLimit(settings.lag_events, settings.lag_seconds)
        self._resources = AsyncExitStack()
        self._waits: list[Callable[[], Awaitable[object]]] = []
        self.ready = False
        """True once every stage has its lanes, has loaded their state and is working."""
        self._quotes: dict[Venue, VenueQuotes] = {}
        self._input_over = asyncio.Event()
        self._ingests: list[asyncio.Task[Any]] = []
        self._clocks: list[VenueClock] = []
        self._runners: list[StageRunner[Any]] = []
        self._watches: list[LagWatch] = []

    async def __aenter__(self) -> "Process":
        self._connections = await self._log_in()
        self._connection: Connection = next(iter(self._connections.values()))
        await refuse_lost_data(self._connection)
        await topology.verify(self._connection)
        kinds = frozenset().union(*(_CONFIGURATION_OF.get(name, ALL_KINDS) for name in self._stages))
        self._configuration = LiveConfiguration(self._connection, codec(), kinds)
        self._live: list[LiveConfiguration | LiveMarkPrices | TradedAssets] = [self._configuration] if kinds else []
        self._valuation = LiveMarkPrices(self._connection, codec())
        if _NEED_MARK_PRICES.intersection(self._stages):
            self._live.append(self._valuation)
        self._traded = TradedAssets(self._connection, codec())
        if _NEED_TRADED_ASSETS.intersection(self._stages):
            self._live.append(self._traded)
        for live in self._live:
            self._resources.push_async_callback(live.close)
            await live.start()
        uses_postgres = "projections" in self._stages
        self._dependencies = dependencies_of(self._connection, self._postgres_dsn if uses_postgres else None)
        return self

    async def _log_in(self) -> dict[str, Connection]:
        """The connection of each stage: one for each role, and one for all on a server without roles. The first is of
        the role that reads most, for what the stages share."""
        roles = {name: role_of_stage(name) for name in sorted(self._stages, key=_reads_most)}
        urls = {name: as_role(self._nats_url, role) for name, role in roles.items()}
        made: dict[str, Connection] = {}
        for url in urls.values():
            if url not in made:
                of = [stage for stage in self._stages if urls[stage] == url]
                made[url] = await connect(url, f"vibe {' '.join(of)}")
                self._resources.push_async_callback(made[url].close)
        return {name: made[url] for name, url in urls.items()}

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    @property
    def waits_for(self) -> list[str]:
        """The servers that do not answer, one text each: without them no stage works."""
        return self._dependencies.problems

    @property
    def stuck(self) -> list[str]:
        """The stages that the log refuses or that are behind, one text each: they do not do their work now."""
        stages = [problem for runner in self._runners for problem in runner.problems]
        return stages + [problem for watch in self._watches for problem in watch.problems]

    @property
    def problems(self) -> list[str]:
        """What keeps the process from working as it should, one text each for the operator."""
        found = [quotes.problem for quotes in self._quotes.values()] + [clock.problem for clock in self._clocks]
        return [*self.waits_for, *self.stuck, *dict.fromkeys(problem for problem in found if problem is not None)]

    async def run(self, clock: Clock, stop: asyncio.Event, on_ready: Callable[[], None] = lambda: None) -> None:
        """Run every stage until `stop`; the first one that fails for good takes the process with it."""
        works = []
        for name in self._stages:
            if name != "ingest":
                works += await self._works(name, clock, stop)
        ingests = await self._ingest(clock, self._input_over) if "ingest" in self._stages else []
        collector = Collector()
        announcer = asyncio.create_task(self._announce(on_ready, collector))
        asking = asyncio.create_task(self._dependencies.run())
        self._ingests = [asyncio.create_task(ingest) for ingest in ingests]
        tasks = [*self._ingests, *(asyncio.create_task(work) for work in works)]
        if ingests:
            tasks.append(asyncio.create_task(self._end_with(stop)))
        tasks += [asyncio.create_task(live.watch(stop)) for live in self._live]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in (*tasks, announcer, asking):
                task.cancel()
            await asyncio.gather(*tasks, announcer, asking, return_exceptions=True)
            log.info("process.stopped", longest_collection_ms=round(collector.longest_seconds * 1_000, 1))

    async def end_input(self) -> None:
        """Take nothing more from venues; returns once what was received is stored."""
        self._input_over.set()
        await asyncio.gather(*self._ingests, return_exceptions=True)

    async def _end_with(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._input_over.set()

    async def _announce(self, on_ready: Callable[[], None], collector: Collector) -> None:
        for ready in self._waits:
            await ready()
        collector.start()
        self.ready = True
        log.info("process.ready", stages=self._stages)
        on_ready()
        await collector.run()

    async def _works(self, name: str, clock: Clock, stop: asyncio.Event) -> list[Any]:
        if name == "projections":
            engine = Engine(
                self._connections[name], codec(), self._postgres_dsn, PROJECTIONS, clock, archive=self._settings.archive
            )
            self._waits.append(engine.ready.wait)
            read = {stream.name for projection in PROJECTIONS for stream in projection.reads}
            watch = LagWatch(
                self._connections[name], self._lag_limit, lambda: [(name, FOLLOWER) for name in sorted(read)]
            )
            self._watches.append(watch)
            return [engine.run(stop), _until(stop, watch.run())]
        if name == "mark":
            return [_until(stop, (await self._mark(clock)).run())]
        if name == "resolve":
            return [_until(stop, resolve.run()) for resolve in await self._resolve(clock)]
        feeds = await self._open_quotes(clock, stop) if name in _NEED_QUOTES and not self._quotes else []
        stage = await self._stage(name, clock)
        divided = lanes(self._settings.lanes)
        runner = StageRunner(self._connections[name], codec(), stage, divided, clock, lag_limit=self._lag_limit)
        self._runners.append(runner)
        self._waits.append(runner.ready)
        return [runner.run(stop), *feeds]

    async def _open_quotes(self, clock: Clock, stop: asyncio.Event) -> list[Any]:
        """The quotes that the stages of this process share, and with them the request limit; returns their feeds."""
        for venue, clients in (await self._connect(Purpose.QUOTE)).items():
            quotes = VenueQuotes(venue, clients.books(), clients.live_books(), clock)
            self._quotes[venue] = quotes
            self._resources.push_async_callback(quotes.close)
        self._traded.on_trade(lambda asset: self._quotes[Venue(asset[0])].want(asset[1]))
        return [quotes.run(stop) for quotes in self._quotes.values()]

    async def _ingest(self, clock: Clock, stop: asyncio.Event) -> list[Any]:
        """The ingest of every venue: each waits by itself until one of its addresses is followed."""
        works = []
        for venue, clients in (await self._connect(Purpose.INGEST)).items():
            ingest = ingest_of(venue, clients, self._connections["ingest"], self._configuration, clock)
            self._waits.append(ingest.ready.wait)
            works.append(ingest.run(stop))
        return works

    async def _mark(self, clock: Clock) -> Mark:
        venues = await self._connect(Purpose.MARK)
        prices = {venue: clients.prices(clock) for venue, clients in venues.items()}
        every = self._settings.mark_seconds
        return Mark(self._connections["mark"], self._traded, self._valuation, prices, clock, every_seconds=every)

    async def _resolve(self, clock: Clock) -> list[Resolve]:
        """One for each venue whose markets end."""
        return [
            Resolve(self._connections["resolve"], self._traded, self._valuation, venue, markets, clock)
            for venue, clients in (await self._connect(Purpose.RESOLVE)).items()
            if (markets := clients.markets()) is not None
        ]

    async def _stage(self, name: str, clock: Clock) -> Stage[Any]:
        match name:
            case "normalize":
                return Normalize(self._configuration)
            case "group":
                return Group()
            case "quote":
                return Quote(self._configuration, self._quotes, clock)
            case "exits":
                return Exits(self._configuration, self._quotes, clock)
            case "match":
                return Match(self._configuration)
            case "plan":
                return Plan(self._configuration, self._valuation)
            case "execute":
                return Execute(await self._live_orders(clock), await agent_keys(self._settings), clock)
        raise ValueError(f"there is no stage {name!r}; use one of {', '.join(STAGES)}")

    async def _live_orders(self, clock: Clock) -> dict[Venue, LiveOrders]:
        """The venues that take live orders, each with its list of assets read."""
        found = dict[Venue, LiveOrders]()
        for venue, clients in (await self._connect(Purpose.EXECUTE, LIVE_VENUES)).items():
            orders = clients.live_orders(clock)
            if orders is not None:
                await self._resources.enter_async_context(orders)
                await orders.start()
                found[venue] = orders
        return found

    async def _connect(self, purpose: Purpose, venues: Collection[Venue] = ADAPTERS) -> dict[Venue, VenueClients]:
        opened = {
            venue: await self._resources.enter_async_context(
                ADAPTERS[venue].connect(self._settings, purpose, self.limiter_of)
            )
            for venue in venues
        }
        self._clocks += [clients.clock for clients in opened.values()]
        return opened

    def limiter_of(self, name: str, rate_per_second: float, burst: float) -> RateLimiter:
        """The request budget with this name, over all processes that use the same outgoing address."""
        rate = _KEPT_BACK * rate_per_second
        address = token(self._settings.outgoing_address)
        return SharedRateLimiter(SharedBucket(self._connection, f"{address}.{name}", rate, burst), rate, burst)


def _reads_most(stage: str) -> bool:
    return role_of_stage(stage) != PIPELINE


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run endless work until `stop`; raises what ends it before."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for each in (task, stopped):
            each.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)
