"""Configuration: what is configured, from memory, for pages and for other services; and intents to change it.

Lines are those of `vibe config import`. The ETag of every answer is the place in CONFIG that it holds; a change names
it in If-Match, and is refused when CONFIG has moved since.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from domain.events import Event
from domain.guardrails import GLOBAL, GUARDRAILS, Policy
from domain.sizing import SIZING_MODES
from handlers.services.config_file import line_of, parse
from handlers.services.config_import import import_lines_at
from projections.queries.system import AuditLine, audit_log
from streams import errors as log_errors
from vibe.web import audit
from vibe.web.asked import CursorText, Id, Limit
from vibe.web.commands import run_vibe
from vibe.web.cursor import decode, encode
from vibe.web.problems import BadRequestError, ChangedError, MatchRequiredError, NotFoundError, UnprocessableError
from vibe.web.routing import Call, Page, Role, Routes

routes = Routes("config")

_TEST_SECONDS = 300.0
_MATCH = re.compile(r'(?:W/)?"CONFIG:(\d{1,18})"')


class GuardrailText(Struct, frozen=True, kw_only=True):
    """One guardrail: what it limits, in the unit that its name ends in, and its default."""

    name: str
    text: str
    default: int


class SizingText(Struct, frozen=True, kw_only=True):
    mode: str
    parameter: str
    most_micros: int


class ConfigDocument(Struct, frozen=True, kw_only=True):
    """The guardrails of every scope, what can be set, and how many things are configured. `sequence` is in CONFIG."""

    sequence: int
    declared: tuple[GuardrailText, ...]
    sizing_modes: tuple[SizingText, ...]
    guardrails: dict[str, dict[str, int]]
    policy: dict[str, int]
    influencers: int
    subscribers: int
    subscriptions: int
    switched: dict[str, str]


class Lines(Struct, frozen=True, kw_only=True):
    """Configuration lines (objects as in `vibe config import`)."""

    sequence: int
    items: tuple[dict[str, Any], ...]
    next: str | None = None


class Line(Struct, frozen=True, kw_only=True):
    """One line, and the policy that it evaluates to (micros, bps, ms as the names end)."""

    sequence: int
    line: dict[str, Any]
    policy: dict[str, int]


class ListedLines(Struct, frozen=True, kw_only=True):
    influencer_id: Id | None = None
    subscriber_id: Id | None = None
    cursor: CursorText | None = None
    limit: Limit = 100


class ListedConfigured(Struct, frozen=True, kw_only=True):
    cursor: CursorText | None = None
    limit: Limit = 100


class ById(Struct, frozen=True, kw_only=True):
    id: Id


class ByInfluencer(Struct, frozen=True, kw_only=True):
    influencer_id: Id


class History(Struct, frozen=True, kw_only=True):
    target_id: Id | None = None
    cursor: CursorText | None = None
    limit: Limit = 50


class Values(Struct, frozen=True, kw_only=True):
    """Guardrails by name; those left out fall back to the weaker scope."""

    values: dict[str, int]


class GivenLine(Struct, frozen=True, kw_only=True):
    """The fields of a line without `kind` and `id`, which the path names."""

    line: dict[str, Any]


class GivenLines(Struct, frozen=True, kw_only=True):
    lines: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=1000)]


class Tested(Struct, frozen=True, kw_only=True):
    """Lines to try on what was recorded in the last hours."""

    lines: Annotated[list[dict[str, Any]], Meta(max_length=1000)]
    hours: Annotated[int, Meta(ge=1, le=168)] = 24


class Stored(Struct, frozen=True, kw_only=True):
    """What a change wrote, by kind; `sequence` is the place in CONFIG, for `after=CONFIG:<sequence>`."""

    sequence: int
    written: dict[str, int]
    unchanged: int


class TestOutcome(Struct, frozen=True, kw_only=True):
    """The decisions (`tries` of them of owed exits) and money (micros) of one configuration."""

    requests: int
    tries: int
    executed: int
    skipped: dict[str, int]
    notional_micros: int
    fees_micros: int
    pnl_micros: int
    pnl_by_subscriber: dict[str, int]


class Comparison(Struct, frozen=True, kw_only=True):
    """Another configuration beside what happened. `modes` is the mode of each subscriber; profits of different modes
    are never added up."""

    since: str
    groups: int
    whatif: TestOutcome
    happened: TestOutcome
    modes: dict[str, str]


@routes.get("/config", "getConfig", live=True)
async def get_config(call: Call) -> ConfigDocument:
    """Every guardrail with its scopes, the sizing modes, and what an operator has switched."""
    known = call.site.configuration
    directory = known.directory
    default = Policy()
    return ConfigDocument(
        sequence=known.sequence,
        declared=tuple(
            GuardrailText(name=name, text=guardrail.text, default=getattr(default, name))
            for name, guardrail in GUARDRAILS.items()
        ),
        sizing_modes=tuple(
            SizingText(mode=name, parameter=mode.parameter.name, most_micros=mode.parameter.most_micros)
            for name, mode in SIZING_MODES.items()
        ),
        guardrails={scope: dict(event.values) for scope, event in directory.guardrails.items()},
        policy=msgspec.structs.asdict(directory.subscriber_policy("")),
        influencers=len(directory.influencers),
        subscribers=len(directory.subscribers),
        subscriptions=len(directory.subscriptions),
        switched=directory.controls.now(),
    )


@routes.get("/config/influencers", "listConfiguredInfluencers", live=True)
async def list_influencers(call: Call, asked: ListedConfigured) -> Lines:
    """Configured influencers by id."""
    return _page(call, call.site.configuration.directory.influencers, asked.cursor, asked.limit)


@routes.get("/config/influencers/{id}", "getConfiguredInfluencer", live=True)
async def get_influencer(call: Call, asked: ById) -> Line:
    """One configured influencer, with the policy of what is copied from it."""
    directory = call.site.configuration.directory
    event = _known(directory.influencers, asked.id, "influencer")
    return _line(call, event, directory.influencer_policy(asked.id))


@routes.get("/config/subscribers", "listConfiguredSubscribers", live=True)
async def list_subscribers(call: Call, asked: ListedConfigured) -> Lines:
    """Configured subscribers by id, the default portfolios too."""
    return _page(call, call.site.configuration.directory.subscribers, asked.cursor, asked.limit)


@routes.get("/config/subscribers/{id}", "getConfiguredSubscriber", live=True)
async def get_subscriber(call: Call, asked: ById) -> Line:
    """One configured subscriber, with the policy of its portfolio."""
    directory = call.site.configuration.directory
    event = _known(directory.subscribers, asked.id, "subscriber")
    return _line(call, event, directory.subscriber_policy(asked.id))


@routes.get("/config/subscriptions", "listConfiguredSubscriptions", live=True)
async def list_subscriptions(call: Call, asked: ListedLines) -> Lines:
    """Configured subscriptions by id: all, or those of an influencer, of a subscriber, or of both."""
    directory = call.site.configuration.directory
    if asked.influencer_id is not None:
        chosen = {one.id: one for one in directory.subscriptions_of(asked.influencer_id)}
    else:
        chosen = directory.subscriptions
    if asked.subscriber_id is not None:
        chosen = {name: one for name, one in chosen.items() if one.subscriber_id == asked.subscriber_id}
    return _page(call, chosen, asked.cursor, asked.limit)


@routes.get("/config/subscriptions/{id}", "getConfiguredSubscription", live=True)
async def get_subscription(call: Call, asked: ById) -> Line:
    """One configured subscription, with the policy that its requests are decided by."""
    directory = call.site.configuration.directory
    event = _known(directory.subscriptions, asked.id, "subscription")
    return _line(call, event, directory.policy_of(event)[1])


@routes.get("/config/history", "listConfigHistory", reads=("audit_log",))
async def list_history(call: Call, asked: History) -> Page[AuditLine]:
    """Every change of the configuration with its actor, newest first."""
    before = decode(asked.cursor, tuple[int])
    items = await audit_log(
        call.site.pool, target_id=asked.target_id, before=before[0] if before else None, limit=asked.limit
    )
    return Page(items=items, next=encode(items[-1].sequence) if len(items) == asked.limit else None)


@routes.put("/config/global", "putGlobalGuardrails", role=Role.OPERATOR)
async def put_global(call: Call, body: Values) -> Stored:
    """Replace the global guardrails. Needs If-Match."""
    return await _store(call, [_guardrail(GLOBAL, body.values)], _expected(call))


@routes.put("/config/guardrails/{id:(?:influencer|subscriber):.+}", "putGuardrails", role=Role.OPERATOR)
async def put_guardrails(call: Call, asked: ById, body: Values) -> Stored:
    """Replace the guardrails of a scope, `influencer:<id>` or `subscriber:<id>`. Needs If-Match."""
    return await _store(call, [_guardrail(asked.id, body.values)], _expected(call))


@routes.put("/config/influencers/{id}", "putInfluencer", role=Role.OPERATOR)
async def put_influencer(call: Call, asked: ById, body: GivenLine) -> Stored:
    """Configure an influencer. Needs If-Match."""
    return await _store(call, [_named("influencer", asked.id, body.line)], _expected(call))


@routes.put("/config/subscribers/{id}", "putSubscriber", role=Role.OPERATOR)
async def put_subscriber(call: Call, asked: ById, body: GivenLine) -> Stored:
    """Configure a subscriber. Needs If-Match."""
    return await _store(call, [_named("subscriber", asked.id, body.line)], _expected(call))


@routes.put("/config/subscriptions/{id}", "putSubscription", role=Role.OPERATOR)
async def put_subscription(call: Call, asked: ById, body: GivenLine) -> Stored:
    """Configure a subscription with its own limits. Needs If-Match."""
    return await _store(call, [_named("subscription", asked.id, body.line)], _expected(call))


@routes.post("/config/lines", "storeLines", role=Role.OPERATOR)
async def store_lines(call: Call, body: GivenLines) -> Stored:
    """Store many lines, all or none. Needs If-Match."""
    return await _store(call, body.lines, _expected(call))


@routes.post("/config/global", "setGlobalGuardrails", role=Role.OPERATOR)
async def set_global(call: Call, body: Values) -> Stored:
    """Set some of the global guardrails; the others stay. If-Match is optional."""
    return await _store(call, [_guardrail(GLOBAL, _merged(call, GLOBAL, body.values))], _expected(call, needed=False))


@routes.post("/config/user/{influencer_id}", "setInfluencerGuardrails", role=Role.OPERATOR)
async def set_influencer(call: Call, asked: ByInfluencer, body: Values) -> Stored:
    """Set some of an influencer's guardrails; the others stay. If-Match is optional."""
    _known(call.site.configuration.directory.influencers, asked.influencer_id, "influencer")
    scope = f"influencer:{asked.influencer_id}"
    return await _store(call, [_guardrail(scope, _merged(call, scope, body.values))], _expected(call, needed=False))


@routes.post("/config/test", "testConfig", role=Role.VIEWER)
async def test_config(call: Call, body: Tested) -> Comparison:
    """What the lines would have decided about everything recorded in the last hours, beside what happened."""
    site = call.site
    texts = _texts(body.lines)
    _, bad = parse(texts, site.configuration.directory, call.actor)
    if bad:
        raise UnprocessableError("nothing was tested", errors=tuple(map(str, bad)))
    since = (site.now() - timedelta(hours=body.hours)).isoformat().replace("+00:00", "Z")
    compared = await run_vibe(
        site, "whatif", "--config", "FILE", "--since", since, timeout=_TEST_SECONDS, stdin="\n".join(texts).encode()
    )
    modes = {name: event.mode.value for name, event in site.configuration.directory.subscribers.items()}
    touched = {*compared["whatif"]["pnl_by_subscriber"], *compared["happened"]["pnl_by_subscriber"]}
    return Comparison(
        since=compared["since"],
        groups=compared["groups"],
        whatif=msgspec.convert(compared["whatif"], TestOutcome),
        happened=msgspec.convert(compared["happened"], TestOutcome),
        modes={name: modes[name] for name in touched if name in modes},
    )


def _texts(lines: Iterable[dict[str, Any]]) -> list[str]:
    return [msgspec.json.encode(line).decode() for line in lines]


def _guardrail(scope: str, values: dict[str, int]) -> dict[str, Any]:
    return {"kind": "guardrail", "scope": scope, "values": values}


def _merged(call: Call, scope: str, values: dict[str, int]) -> dict[str, int]:
    present = call.site.configuration.directory.guardrails.get(scope)
    return {**(present.values if present is not None else {}), **values}


def _named(kind: str, name: str, line: dict[str, Any]) -> dict[str, Any]:
    if line.get("kind", kind) != kind or line.get("id", name) != name:
        raise BadRequestError(f"the line names {line.get('kind')!r} {line.get('id')!r}, the path {kind} {name!r}")
    return {**line, "kind": kind, "id": name}


def _known(things: dict[str, Any], name: str, kind: str) -> Any:
    if name not in things:
        raise NotFoundError(f"{kind} {name!r} is not configured; see GET /api/v1/config/{kind}s")
    return things[name]


def _line(call: Call, event: Event, policy: Policy) -> Line:
    return Line(sequence=call.site.configuration.sequence, line=line_of(event), policy=msgspec.structs.asdict(policy))


def _page(call: Call, things: dict[str, Any], cursor: str | None, limit: int) -> Lines:
    after = decode(cursor, tuple[str])
    behind = sorted(name for name in things if after is None or name > after[0])
    shown = behind[:limit]
    return Lines(
        sequence=call.site.configuration.sequence,
        items=tuple(line_of(things[name]) for name in shown),
        next=encode(shown[-1]) if len(behind) > limit else None,
    )


def _expected(call: Call, *, needed: bool = True) -> int:
    """The place in CONFIG that the change was made on."""
    given = call.request.headers.get("If-Match")
    if given is None:
        if needed:
            raise MatchRequiredError('send If-Match with the ETag of GET /api/v1/config, such as "CONFIG:17"')
        return call.site.configuration.sequence
    match = _MATCH.fullmatch(given.strip())
    if match is None:
        raise BadRequestError(f'If-Match must be an ETag such as "CONFIG:17"; got {given[:100]!r}')
    return int(match[1])


async def _store(call: Call, lines: list[dict[str, Any]], expected: int) -> Stored:
    site = call.site
    try:
        stored = await import_lines_at(
            site.connection,
            _texts(lines),
            actor=call.actor,
            now=site.clock(),
            expected=expected,
            bankroll_micros=site.settings.bankroll_micros,
        )
    except log_errors.ConflictError as error:
        raise ChangedError(
            "the configuration was changed meanwhile, and nothing was stored; read it again and repeat the change"
        ) from error
    except ValueError as error:
        raise UnprocessableError(str(error)) from error
    if stored.bad:
        raise UnprocessableError("nothing was stored", errors=tuple(map(str, stored.bad)))
    await site.configuration.reached(stored.sequence)
    site.cache.forget()
    names = ", ".join(f"{line['kind']} {line.get('id', line.get('scope'))}" for line in lines[:10])
    await audit.record(
        site.pool,
        actor=call.actor,
        action="config",
        outcome="done",
        address=call.address,
        detail=f"CONFIG:{stored.sequence} {names}",
    )
    call.answer.headers["ETag"] = f'"CONFIG:{stored.sequence}"'
    return Stored(sequence=stored.sequence, written=stored.written, unchanged=stored.unchanged)
