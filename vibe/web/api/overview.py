"""Health, and what an operator sees first: what needs attention, the books of each mode, the state of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from domain.events import ControlState, ControlTarget
from handlers.live.event_codec import codec
from projections.engine.errors import is_transient
from projections.queries.accounts import Account, Earlier, Trips, accounts, copy_trips, equity_curve
from projections.queries.copies import Filters, counted
from projections.queries.exits import OwedExit, owed_exits
from streams import dead_letters, topology
from streams.dead_letters import DeadLetter
from vibe.app import pipeline_lag
from vibe.app.stage_health import reported_problems
from vibe.web.routing import Call, Role, Routes
from vibe.web.site import Site

routes = Routes("overview")

_HEALTH_SECONDS = 3.0
_BEHIND = 10_000
"""Events that a consumer may be behind before an operator should look at it."""
_SUBSCRIBERS_IN_A_CURVE = 20


class Health(Struct, frozen=True, kw_only=True):
    """`ok` decides between 200 and 503. Each part is ok, or a sentence that says what is wrong."""

    ok: bool
    event_log: str
    read_models: str
    projections: str
    stages: str


class Engine(Struct, frozen=True, kw_only=True):
    """The switch of the engine: running, paused or record_only, since when and by whom ('' from the beginning)."""

    state: str
    since: datetime | None
    actor: str


class Attention(Struct, frozen=True, kw_only=True):
    """One thing that an operator should look at (`warn`) or act on (`crit`), with the page that leads to its cause."""

    tone: str
    title: str
    text: str
    mode: str | None
    since: datetime | None
    link: str
    action: str


class Book(Struct, frozen=True, kw_only=True):
    """The portfolios of one mode that belong together. Modes are never added up.

    `name` is exec-global or subscribers; today's, seven days' and thirty days' profits are differences of equity less
    deposits. `peak_micros` is the highest equity of the last 90 days, sampled.
    """

    name: str
    mode: str
    portfolios: tuple[str, ...]
    accounts: int
    equity_micros: int
    day_micros: int
    week_micros: int
    month_micros: int
    peak_micros: int
    drawdown_limit_micros: int
    exposure_micros: int
    exposure_limit_micros: int
    open_positions: int
    trips: int
    won: int
    exits_owed: int
    oldest_exit: datetime | None
    marked_at: datetime | None


class Overview(Struct, frozen=True, kw_only=True):
    engine: Engine
    attention: tuple[Attention, ...]
    books: tuple[Book, ...]
    positions: dict[str, int]
    """How far the read models of this answer are, by stream."""


@routes.get("/health", "getHealth", role=Role.PUBLIC)
async def get_health(call: Call) -> Health:
    """Whether the event log and the read models answer and every stage works; status 503 when one does not."""
    log, models, projections, stages = await asyncio.gather(
        _answers(_event_log(call.site)),
        _answers(_read_models(call.site)),
        _answers(_projections(call.site)),
        _answers(_stages(call.site)),
    )
    ok = log == models == projections == stages == "ok"
    call.answer.status = 200 if ok else 503
    return Health(ok=ok, event_log=log, read_models=models, projections=projections, stages=stages)


async def _answers(work: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(_HEALTH_SECONDS):
            return await work
    except Exception as error:
        if not is_transient(error):
            raise
        return f"does not answer: {error or type(error).__name__}"


async def _event_log(site: Site) -> str:
    await topology.info(site.connection, topology.CONFIG.name)
    return "ok"


async def _read_models(site: Site) -> str:
    await site.pool.fetchval("SELECT 1")
    return "ok"


async def _projections(site: Site) -> str:
    behind = await pipeline_lag.projection_lag(site.connection, site.pool)
    return "ok" if behind < _BEHIND else f"{behind:,} events behind the log"


async def _stages(site: Site) -> str:
    """What the instances of the stages report; a stage that was stopped, or never started, has nothing to report."""
    return "; ".join(await reported_problems(site.connection)) or "ok"


@routes.get(
    "/overview",
    "getOverview",
    reads=("ledger_entry", "position", "portfolio_snapshot", "guardrail", "subscriber", "market_price_snapshot"),
    minutely=True,
)
async def get_overview(call: Call) -> Overview:
    """What needs attention, the books of each mode, and the engine's switch."""
    site = call.site
    books, owed, attention = await asyncio.gather(
        site.cached("books", 5, lambda: _books(site)),
        site.cached("owed", 5, lambda: owed_exits(site.pool)),
        site.cached("attention", 10, lambda: _attention(site)),
    )
    return Overview(
        engine=engine_of(site),
        attention=(*_exits(owed), *attention),
        books=tuple(books),
        positions=site.freshness.of(("ledger_entry", "guardrail", "copy_attempt")),
    )


def engine_of(site: Site) -> Engine:
    """The engine's switch as the log has it."""
    switch = site.configuration.directory.controls.last(ControlTarget.ENGINE, "", site.configuration.sequence)
    if switch is None:
        return Engine(state=ControlState.RUNNING.value, since=None, actor="")
    return Engine(state=switch.state.value, since=_time(switch.at), actor=switch.actor)


def _time(nanoseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)


async def _books(site: Site) -> list[Book]:
    now = site.now()
    found = await accounts(site.pool, scopes=("EXEC_GLOBAL", "SUBSCRIBER"), limit=100_000, earlier=Earlier.of(now))
    of: dict[tuple[str, str], list[Account]] = {}
    for account in found:
        name = "exec-global" if account.scope == "EXEC_GLOBAL" else "subscribers"
        of.setdefault((account.mode, name), []).append(account)
    owed = await owed_exits(site.pool, scopes=("EXEC_GLOBAL", "SUBSCRIBER"), limit=10_000)
    return [await _book(site, mode, name, members, owed) for (mode, name), members in sorted(of.items())]


async def _book(site: Site, mode: str, name: str, members: list[Account], owed: list[OwedExit]) -> Book:
    ids = tuple(account.subscriber_id for account in members)
    now = site.now()
    curve = []
    if len(ids) <= _SUBSCRIBERS_IN_A_CURVE:
        curve = await equity_curve(site.pool, ids, now - timedelta(days=90), now, 180)
    trips: list[Trips] = await site.cached(
        ("trips", mode, name), 120, lambda: copy_trips(site.pool, ids, now - timedelta(days=30))
    )
    equity = sum(account.equity_micros for account in members)
    profit = sum(account.profit_micros for account in members)
    exits = [exit for exit in owed if exit.subscriber_id in set(ids)]
    policy = site.configuration.directory.subscriber_policy(ids[0] if len(ids) == 1 else "")
    return Book(
        name=name,
        mode=mode,
        portfolios=ids[:_SUBSCRIBERS_IN_A_CURVE],
        accounts=len(ids),
        equity_micros=equity,
        day_micros=profit - sum(account.day_then_micros for account in members),
        week_micros=profit - sum(account.week_then_micros for account in members),
        month_micros=profit - sum(account.month_then_micros for account in members),
        peak_micros=max((point.equity_micros for point in curve if point.equity_micros is not None), default=equity),
        drawdown_limit_micros=policy.drawdown_micros,
        exposure_micros=sum(account.exposure_micros for account in members),
        exposure_limit_micros=policy.total_exposure_micros,
        open_positions=sum(account.open_positions for account in members),
        trips=sum(each.trips for each in trips),
        won=sum(each.won for each in trips),
        exits_owed=len(exits),
        oldest_exit=min((exit.since for exit in exits), default=None),
        marked_at=max((account.marked_at for account in members if account.marked_at is not None), default=None),
    )


def _exits(owed: list[OwedExit]) -> list[Attention]:
    found = [
        Attention(
            tone="crit",
            title="Exit owed",
            text=f"{exit.subscriber_id} still holds {exit.asset[:40]}, which {exit.influencer_id} has given up",
            mode=exit.mode,
            since=exit.since,
            link=f"#/audit/{exit.attempt_id}" if exit.attempt_id else f"#/subscriber/{exit.subscriber_id}",
            action="Trace the last try" if exit.attempt_id else "Open subscriber",
        )
        for exit in owed[:5]
    ]
    if len(owed) > len(found):
        found.append(
            Attention(
                tone="crit",
                title=f"{len(owed) - len(found)} more exits owed",
                text="copies that are open although their influencers hold nothing",
                mode=None,
                since=owed[len(found)].since,
                link="#/portfolio",
                action="See all",
            )
        )
    return found


async def _attention(site: Site) -> list[Attention]:
    breakers, dead, lags = await asyncio.gather(_breakers(site), open_dead_letters(site), stage_lags(site))
    found = [*breakers]
    if dead:
        newest = dead[-1].facts
        found.append(
            Attention(
                tone="warn",
                title=f"{len(dead)} dead letter{'' if len(dead) == 1 else 's'}",
                text=f"newest: {newest.stage}, {newest.stream}:{newest.sequence}, {newest.error[:120]}",
                mode=None,
                since=_time(newest.dead_at),
                link="#/system",
                action="Review",
            )
        )
    found += [
        Attention(
            tone="warn",
            title=f"{lag.consumer} is behind",
            text=f"{lag.waiting:,} events of {lag.stream} are not processed yet",
            mode=None,
            since=None,
            link="#/system",
            action="Open stages",
        )
        for lag in lags
        if lag.waiting > _BEHIND
    ]
    return found


async def _breakers(site: Site) -> list[Attention]:
    counts = await counted(site.pool, Filters(decision="SKIP", since=site.now() - timedelta(days=1)))
    return [
        Attention(
            tone="warn",
            title="Breaker tripped",
            text=f"{number:,} openings were skipped with {reason} in the last day",
            mode=None,
            since=None,
            link=f"#/attempts?reason={reason}",
            action="See skips",
        )
        for reason, number in counts.reasons.items()
        if reason.startswith("BREAKER_")
    ]


async def open_dead_letters(site: Site) -> list[DeadLetter]:
    """Dead letters that wait for an operator, the oldest first; at most ten seconds old."""

    async def read() -> list[DeadLetter]:
        found = await dead_letters.dead_letters(site.connection, codec())
        return [one for one in found if one.state == "open"]

    return await site.cached("dead", 10, read)


async def stage_lags(site: Site) -> list[pipeline_lag.Lag]:
    """Every consumer's lag, at most two seconds old."""
    return await site.cached("lags", 2, lambda: pipeline_lag.lags(site.connection))
