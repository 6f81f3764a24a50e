"""The system: stages and their lag, latencies, streams, read models, and dead letters."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import structlog
from msgspec import Meta, Struct

from handlers.live.event_codec import codec
from handlers.services.dropped_dead_letters import completion_of
from projections.engine.status_report import ProjectionReport, status_report
from projections.models import NAMES, PROJECTIONS
from projections.queries.system import Checkpoint, Latency, Minute, checkpoints, latencies, minutes
from streams import dead_letters, topology
from streams.dead_letters import DeadLetter, payload_of
from streams.errors import RefusedError
from streams.topology import HISTORY
from vibe.app import pipeline_lag
from vibe.app.wiring import RETRYABLE
from vibe.web import audit
from vibe.web.api.overview import stage_lags
from vibe.web.api.session import Done
from vibe.web.asked import Id, Limit
from vibe.web.commands import run_vibe
from vibe.web.problems import BadRequestError, ConflictError, NotFoundError
from vibe.web.routing import Call, Page, Role, Routes
from vibe.web.site import Site

log = structlog.get_logger()
routes = Routes("system")

_REBUILD_SECONDS = 3600.0
_KEPT_SECONDS = 20.0


class MinutesAsked(Struct, frozen=True, kw_only=True):
    minutes: Annotated[int, Meta(ge=1, le=1440)] = 60


class Lag(Struct, frozen=True, kw_only=True):
    """A consumer and the events that it has not processed."""

    stream: str
    consumer: str
    waiting: int


class StreamLine(Struct, frozen=True, kw_only=True):
    """One stream of the log: what it holds, since when, and for how many days (0 = for ever)."""

    name: str
    messages: int
    bytes: int
    first_sequence: int
    last_sequence: int
    oldest: str
    newest: str
    keep_days: float


class SystemDocument(Struct, frozen=True, kw_only=True):
    """Counts per minute and latencies of a time span, every consumer's lag and every lane's checkpoint."""

    minutes: tuple[Minute, ...]
    latencies: tuple[Latency, ...]
    lags: tuple[Lag, ...]
    projections_behind: int
    checkpoints: tuple[Checkpoint, ...]
    database_bytes: int


class ProjectionLine(Struct, frozen=True, kw_only=True):
    """One read model: `positions` and `lag` by stream, events per second, rows (`estimated` where it is large)."""

    name: str
    version: int
    state: str
    positions: dict[str, int]
    lag: dict[str, int]
    rate: float
    rows: int
    estimated: bool
    bytes: int
    last_event: datetime | None


class ByProjection(Struct, frozen=True, kw_only=True):
    name: Id


class DeadAsked(Struct, frozen=True, kw_only=True):
    stage: Id | None = None
    all: bool = False
    limit: Limit = 100


class ByNumber(Struct, frozen=True, kw_only=True):
    number: Annotated[int, Meta(ge=1, le=2**53 - 1)]


class DeadLine(Struct, frozen=True, kw_only=True):
    """One dead letter: `number` is its sequence in DEAD, `state` open, retried or dropped."""

    number: int
    id: str
    state: str
    time: str
    stage: str
    event: str
    subject: str
    error: str


class DeadDetail(DeadLine, frozen=True, kw_only=True):
    """A dead letter with the event that could not be handled, as text."""

    payload: str


class Why(Struct, frozen=True, kw_only=True):
    why: Annotated[str, Meta(min_length=1, max_length=500)]


@routes.get("/system", "getSystem", reads=("system_metrics", "system_checkpoint"), minutely=True)
async def get_system(call: Call, asked: MinutesAsked) -> SystemDocument:
    """What every stage did in the last minutes, how long it took, and how far behind it is."""
    site = call.site
    until = site.now() + timedelta(minutes=1)
    since = until - timedelta(minutes=asked.minutes + 1)
    return SystemDocument(
        minutes=tuple(await minutes(site.pool, since, until)),
        latencies=tuple(await latencies(site.pool, since, until)),
        lags=tuple(_lag(one) for one in await stage_lags(site)),
        projections_behind=await pipeline_lag.projection_lag(site.connection, site.pool),
        checkpoints=tuple(await checkpoints(site.pool)),
        database_bytes=await site.cached(
            "database", 60, lambda: site.pool.fetchval("SELECT pg_database_size(current_database())")
        ),
    )


def _lag(one: pipeline_lag.Lag) -> Lag:
    return Lag(stream=one.stream, consumer=one.consumer, waiting=one.waiting)


@routes.get("/lag", "listLags")
async def list_lags(call: Call) -> Page[Lag]:
    """Every durable consumer and the events that it has not processed."""
    return Page(items=[_lag(one) for one in await stage_lags(call.site)])


@routes.get("/streams", "listStreams")
async def list_streams(call: Call) -> Page[StreamLine]:
    """The streams of the event log."""
    return Page(items=await call.site.cached("streams", 2, lambda: _streams(call.site)))


async def _streams(site: Site) -> list[StreamLine]:
    found = []
    for stream in HISTORY:
        about = await topology.info(site.connection, stream.name)
        if about is not None:
            found.append(_stream(stream.name, about))
    return found


def _stream(name: str, about: dict[str, Any]) -> StreamLine:
    state = about["state"]
    return StreamLine(
        name=name,
        messages=state["messages"],
        bytes=state["bytes"],
        first_sequence=state["first_seq"],
        last_sequence=state["last_seq"],
        oldest=state["first_ts"] if state["messages"] else "",
        newest=state["last_ts"] if state["messages"] else "",
        keep_days=round(about["config"].get("max_age", 0) / 86_400e9, 2),
    )


@routes.get("/projections", "listProjections")
async def list_projections(call: Call) -> Page[ProjectionLine]:
    """Every read model: state, positions, lag, rate and size. Sizes are at most 20 s old."""
    return Page(items=await call.site.cached("projections", _KEPT_SECONDS, lambda: _projections(call.site)))


async def _projections(site: Site) -> list[ProjectionLine]:
    async with site.pool.acquire() as session:
        found = await status_report(site.connection, session, PROJECTIONS)  # type: ignore[arg-type]
    return [_projection(one) for one in found]


def _projection(one: ProjectionReport) -> ProjectionLine:
    return ProjectionLine(**one._asdict())


@routes.post("/projections/{name}/rebuild", "rebuildProjection", role=Role.ADMIN, status=202)
async def rebuild_projection(call: Call, asked: ByProjection) -> Done:
    """Rebuild a read model beside the live one; its `state` shows the progress."""
    if asked.name not in NAMES:
        raise NotFoundError(f"there is no projection {asked.name!r}; there are {', '.join(NAMES)}")
    site = call.site
    if asked.name in _REBUILDING:
        raise ConflictError(f"{asked.name} is being rebuilt already")
    _REBUILDING.add(asked.name)
    await _audited(call, "rebuildProjection", asked.name)
    site.spawn(_rebuild(site, asked.name))
    return Done(done=False)


_REBUILDING: set[str] = set()


async def _rebuild(site: Site, name: str) -> None:
    try:
        await run_vibe(site, "projections", "rebuild", name, timeout=_REBUILD_SECONDS)
    except Exception as error:
        log.warning("web.rebuild_failed", projection=name, why=str(error))
    finally:
        _REBUILDING.discard(name)


@routes.get("/dead-letters", "listDeadLetters")
async def list_dead_letters(call: Call, asked: DeadAsked) -> Page[DeadLine]:
    """Dead letters that wait for an operator, newest first; all of them with `all`."""
    found = await dead_letters.dead_letters(call.site.connection, codec(), asked.stage)
    shown = [one for one in reversed(found) if asked.all or one.state == "open"]
    return Page(items=[DeadLine(**_dead(one)) for one in shown[: asked.limit]])


@routes.get("/dead-letters/{number}", "getDeadLetter")
async def get_dead_letter(call: Call, asked: ByNumber) -> DeadDetail:
    """One dead letter with the event that could not be handled."""
    one = await _numbered(call.site, asked.number)
    return DeadDetail(**_dead(one), payload=payload_of(one.facts).decode(errors="replace"))


@routes.post("/dead-letters/{number}/retry", "retryDeadLetter", role=Role.OPERATOR)
async def retry_dead_letter(call: Call, asked: ByNumber) -> Done:
    """Run a dead letter through its stage once more, when the cause is fixed."""
    one = await _numbered(call.site, asked.number)
    try:
        await dead_letters.retry(call.site.connection, codec(), one, RETRYABLE, actor=call.actor, now=call.site.clock)
    except RefusedError as error:
        raise ConflictError(str(error)) from error
    call.site.cache.forget()
    await _audited(call, "retryDeadLetter", str(asked.number))
    return Done()


@routes.post("/dead-letters/{number}/drop", "dropDeadLetter", role=Role.OPERATOR)
async def drop_dead_letter(call: Call, asked: ByNumber, body: Why) -> Done:
    """Close a dead letter that needs nothing more, with a reason."""
    one = await _numbered(call.site, asked.number)
    if not body.why.strip():
        raise BadRequestError("why must say something")
    try:
        await dead_letters.drop(
            call.site.connection,
            codec(),
            one,
            why=body.why,
            actor=call.actor,
            now=call.site.clock,
            completes=bool(completion_of(one.facts, codec()).appends),
        )
    except RefusedError as error:
        raise ConflictError(str(error)) from error
    call.site.cache.forget()
    await _audited(call, "dropDeadLetter", f"{asked.number}: {body.why}")
    return Done()


async def _numbered(site: Site, number: int) -> DeadLetter:
    for one in await dead_letters.dead_letters(site.connection, codec()):
        if one.sequence == number:
            return one
    raise NotFoundError(f"there is no dead letter {number}; see GET /api/v1/dead-letters?all=true")


def _dead(one: DeadLetter) -> dict[str, Any]:
    facts = one.facts
    return {
        "number": one.sequence,
        "id": facts.dead_id,
        "state": one.state,
        "time": one.time,
        "stage": facts.stage,
        "event": f"{facts.stream}:{facts.sequence}",
        "subject": facts.subject,
        "error": facts.error,
    }


async def _audited(call: Call, action: str, detail: str) -> None:
    await audit.record(
        call.site.pool, actor=call.actor, action=action, outcome="done", address=call.address, detail=detail
    )
