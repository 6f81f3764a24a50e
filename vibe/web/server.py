"""The HTTP server: middlewares around the routes, the answers' headers, and the pages' files."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import structlog
from aiohttp import web

from projections.engine.errors import is_transient
from streams.errors import LogError
from streams.topology import CONFIG
from vibe.web import audit, metrics
from vibe.web.api import ROUTES
from vibe.web.checks import Checks
from vibe.web.cookies import clear_session, cookie_name, set_session
from vibe.web.identity import Identity
from vibe.web.pages import add_pages
from vibe.web.problems import (
    BadRequestError,
    MethodNotAllowedError,
    NotFoundError,
    ProblemError,
    TooLargeError,
    UnavailableError,
    UnprocessableError,
    response_of,
)
from vibe.web.routing import Answer, Call, Route, parameters
from vibe.web.site import Site
from vibe.web.updates import socket as live
from vibe.web.updates.feed import Feed

log = structlog.get_logger()

PREFIX = "/api/v1"
MAX_BODY = 1 << 20
LARGEST = 2**53 - 1
"""Larger integers lose digits in a browser."""
_MAX_WAIT_SECONDS = 30.0
_COMPRESSED_FROM = 8_192
_LONG_NUMBER = re.compile(rb"\d{16,}")

SITE: web.AppKey[Site] = web.AppKey("site", Site)
CHECKS: web.AppKey[Checks] = web.AppKey("checks", Checks)
COOKIE: web.AppKey[str] = web.AppKey("cookie", str)
IDENTITY: web.RequestKey[Identity | None] = web.RequestKey("identity", Identity)
REQUEST_ID = web.RequestKey("request_id", str)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(site: Site, port: int, pages: Path) -> web.Application:
    """The server's application, to be served on `port`; the files of the pages are in the folder `pages`."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_answered, _checked])
    secure = (site.settings.web_public_url or "").startswith("https:")
    cookie = cookie_name(secure=secure, port=port)
    app[SITE], app[COOKIE], app[CHECKS] = site, cookie, Checks(site, cookie, port)
    for path, route in paths():
        app.router.add_route(route.method, path, _handler(route))
    updates = live.Updates(Feed(site), app[CHECKS])
    app.router.add_get(live.PATH, updates.handle)

    async def close_updates(_: web.Application) -> None:
        await updates.close()

    app.on_shutdown.append(close_updates)
    add_pages(app, pages)
    return app


def paths() -> Iterator[tuple[str, Route]]:
    """Every route under its path, those under the names of the first plan too."""
    for route in ROUTES:
        yield PREFIX + route.path, route
    by_operation = {route.operation: route for route in ROUTES}
    for path, operation in ALIASES.items():
        yield path, by_operation[operation]


ALIASES = {
    "/api/health": "getHealth",
    "/api/overview": "getOverview",
    "/api/users": "listInfluencers",
    "/api/users/{influencer_id}": "getInfluencer",
    "/api/portfolio/global": "getGlobalPortfolio",
    "/api/trades": "listTrades",
    "/api/copy-attempts": "listAttempts",
    "/api/markets": "listMarkets",
    "/api/config/global": "setGlobalGuardrails",
    "/api/config/user/{influencer_id}": "setInfluencerGuardrails",
    "/api/control/pause": "pauseEngine",
}
"""Paths of the first plan, which answer as these operations."""


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every answer has the headers of security; every failure is a problem document."""
    request[REQUEST_ID] = secrets.token_hex(6)
    began = time.perf_counter()
    try:
        response = await handler(request)
    except ProblemError as problem:
        response = response_of(problem, request[REQUEST_ID])
    except web.HTTPException as answer:
        response = _as_problem(answer, request)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        response = _failure(error, request)
    if not response.prepared:
        for name, value in request.app[CHECKS].headers().items():
            response.headers.setdefault(name, value)
        response.headers["X-Request-Id"] = request[REQUEST_ID]
    if isinstance(response, web.WebSocketResponse):
        return response  # it was open for as long as its client wanted
    route = request.match_info.route
    metrics.REQUEST_SECONDS.labels(getattr(route.resource, "canonical", "none") or "none", request.method).observe(
        time.perf_counter() - began
    )
    metrics.ANSWERS.labels(str(response.status)).inc()
    return response


def _as_problem(answer: web.HTTPException, request: web.Request) -> web.StreamResponse:
    match answer.status:
        case 404:
            problem: ProblemError = NotFoundError(
                f"{request.path[:200]!r} is no path of this server; see /api/v1/openapi.json"
            )
        case 405:
            allowed = answer.headers.get("Allow", "")
            problem = MethodNotAllowedError(f"this path takes {allowed}", headers={"Allow": allowed})
        case 413:
            problem = TooLargeError(f"the body is larger than {MAX_BODY:,} bytes; send less")
        case status if status < 400:
            return answer
        case _:
            problem = BadRequestError(answer.reason or "the request cannot be read")
    return response_of(problem, request[REQUEST_ID])


def _failure(error: Exception, request: web.Request) -> web.StreamResponse:
    if is_transient(error) or isinstance(error, LogError):
        log.warning("web.server_away", path=request.path, why=str(error), request_id=request[REQUEST_ID])
        problem: ProblemError = UnavailableError(
            "Postgres or the event log does not answer; ask again in a moment", headers={"Retry-After": "2"}
        )
    elif isinstance(error, asyncpg.UndefinedTableError):
        problem = UnavailableError("the read models are not built yet; start `vibe run projections`, or wait for it")
    elif isinstance(error, asyncpg.DataError | UnicodeError):
        problem = BadRequestError(f"a value does not fit: {error}")
    else:
        log.exception("web.failed", path=request.path, request_id=request[REQUEST_ID])
        problem = ProblemError(f"this is a defect of the server; its log has the cause under {request[REQUEST_ID]}")
    return response_of(problem, request[REQUEST_ID])


@web.middleware
async def _checked(request: web.Request, handler: Handler) -> web.StreamResponse:
    checks = request.app[CHECKS]
    checks.host(request)
    if request.path.startswith("/api/"):
        identity = await checks.identity(request)
        checks.rate(request, identity)
        request[IDENTITY] = identity
    return await handler(request)


@dataclass(frozen=True)
class _Asked:
    """What the header fields and common parameters of a question ask for."""

    after: tuple[str, int] | None
    wait: float
    match: str | None

    @staticmethod
    def of(request: web.Request) -> _Asked:
        after = None
        if "after" in request.query:
            stream, _, number = request.query["after"].partition(":")
            if not re.fullmatch(r"[A-Z]{2,20}", stream) or not re.fullmatch(r"\d{1,18}", number):
                raise BadRequestError("after must be a place in the log such as CONFIG:17")
            after = stream, int(number)
        try:
            wait = float(request.query.get("wait", "0"))
        except ValueError:
            wait = math.nan
        if not 0 <= wait <= _MAX_WAIT_SECONDS:
            raise BadRequestError(f"wait must be a number of seconds from 0 to {_MAX_WAIT_SECONDS:g}")
        return _Asked(after, wait, request.headers.get("If-None-Match"))


def _handler(route: Route) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        site, checks, identity = request.app[SITE], request.app[CHECKS], request[IDENTITY]
        await _permitted(route, request, identity)
        asked = parameters(route.asked, request)
        call = Call(site, request, checks, identity, Answer(status=int(route.status)))
        if route.changes:
            checks.forgery(request, identity)
            return _answer(call, await _call(route, call, asked, await _body(route, request)), None)
        tag = await _current(route, site, request)
        if tag is not None and request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag, "Cache-Control": "no-cache"})
        return _answer(call, await _call(route, call, asked, None), tag)

    return handle


async def _permitted(route: Route, request: web.Request, identity: Identity | None) -> None:
    checks = request.app[CHECKS]
    try:
        checks.role(identity, route.role)
    except ProblemError as problem:
        if route.changes:
            await audit.record(
                request.app[SITE].pool,
                actor=identity.actor if identity else "",
                action=route.operation,
                outcome="refused",
                address=checks.address(request),
                detail=problem.detail,
            )
        raise


async def _current(route: Route, site: Site, request: web.Request) -> str | None:
    """Wait for what the question asks to wait for; returns the ETag of the answer, None where it has none."""
    asked = _Asked.of(request)
    if asked.after is not None and not await _reached(route, site, *asked.after):
        stream, sequence = asked.after
        raise UnavailableError(f"{stream}:{sequence} was not reached within {_MAX_WAIT_SECONDS:g} s; ask again")
    tag = _tag(route, site)
    if asked.wait and tag is not None and asked.match == tag:
        if route.live:
            await _within(site.configuration.reached(site.configuration.sequence + 1), asked.wait)
        else:
            await site.freshness.moved(route.reads, site.freshness.tag(route.reads), asked.wait)
        tag = _tag(route, site)
    return tag


def _tag(route: Route, site: Site) -> str | None:
    if route.live:
        return f'"CONFIG:{site.configuration.sequence}"'
    if not route.reads:
        return None
    minute = f"@{site.clock() // 60_000_000_000}" if route.minutely else ""
    return f'W/"{site.freshness.tag(route.reads)}{minute}"'


async def _reached(route: Route, site: Site, stream: str, sequence: int) -> bool:
    if route.live and stream == CONFIG.name:
        return await _within(site.configuration.reached(sequence), _MAX_WAIT_SECONDS)
    return await site.freshness.reached(route.reads, stream, sequence, _MAX_WAIT_SECONDS)


async def _within(work: Awaitable[object], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return False
    return True


async def _body(route: Route, request: web.Request) -> Any:
    if route.body is None:
        return None
    content = await request.read()
    try:
        return msgspec.json.decode(content or b"{}", type=route.body)
    except msgspec.ValidationError as error:
        raise UnprocessableError(f"the body is refused: {error}", errors=(str(error),)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error


async def _call(route: Route, call: Call, asked: Any, body: Any) -> Any:
    given = {"asked": asked, "body": body}
    return await route.handler(call, **{name: given[name] for name in route.takes})


def _answer(call: Call, result: Any, tag: str | None) -> web.StreamResponse:
    body = msgspec.json.encode(result)
    if _LONG_NUMBER.search(body):
        _refuse_long_numbers(msgspec.json.decode(body))
    answer, app = call.answer, call.request.app
    response = web.Response(
        status=answer.status,
        body=body,
        content_type="application/json",
        headers={
            "Cache-Control": "no-cache" if tag else "no-store",
            **({"ETag": tag} if tag else {}),
            **answer.headers,
        },
    )
    response.headers["X-Log-Time"] = str(call.site.clock() // 1_000_000)
    if answer.session:
        set_session(response, app[COOKIE], answer.session)
    elif answer.session is not None:
        clear_session(response, app[COOKIE])
    if len(body) > _COMPRESSED_FROM:
        response.enable_compression()
    return response


def _refuse_long_numbers(value: Any) -> None:
    """Raises OverflowError for an integer that a browser would read as another one."""
    if isinstance(value, int) and abs(value) > LARGEST:
        raise OverflowError(f"{value} is larger than 2^53 and must be sent as text")
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, list) or not isinstance(value, str | int | float | bool | None):
        for each in value:
            _refuse_long_numbers(each)
