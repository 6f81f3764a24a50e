"""Signing in and out, sessions, API keys, and the descriptions of the API itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from vibe.web import audit, identity
from vibe.web.asked import CursorText, Id, Limit
from vibe.web.audit import AuditEvent
from vibe.web.cursor import decode, encode
from vibe.web.identity import Identity, KeyLine, SessionLine
from vibe.web.problems import BadRequestError, NotAllowedError, NotFoundError, NotSignedInError
from vibe.web.routing import ROLES, Call, Page, Role, Routes

routes = Routes("session")


class Session(Struct, frozen=True, kw_only=True):
    """Who is signed in. `csrf` is what changes send as X-CSRF-Token; `session_id` names this session in the list."""

    actor: str
    name: str
    role: str
    session_id: str
    csrf: str
    expires_at: datetime
    log_time: datetime


class OneTimeToken(Struct, frozen=True, kw_only=True):
    token: Annotated[str, Meta(min_length=20, max_length=200)]


class ById(Struct, frozen=True, kw_only=True):
    id: Id


class Done(Struct, frozen=True, kw_only=True):
    """It is done."""

    done: bool = True


class WantedKey(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
    role: str = "viewer"
    days: Annotated[int, Meta(ge=1, le=366)] = 90


class NewKey(Struct, frozen=True, kw_only=True):
    """A new API key. `key` is shown once: it is stored as a digest."""

    key_id: str
    key: str


class AuditPage(Struct, frozen=True, kw_only=True):
    cursor: CursorText | None = None
    limit: Limit = 50


def _session(call: Call, who: Identity) -> Session:
    return Session(
        actor=who.actor,
        name=who.name,
        role=who.role.text,
        session_id=who.session_id,
        csrf=who.csrf,
        expires_at=who.expires_at,
        log_time=call.site.now(),
    )


@routes.get("/session", "getSession")
async def get_session(call: Call) -> Session:
    """Who is signed in, and the token that changes must send."""
    return _session(call, call.who)


@routes.post("/session", "signIn", role=Role.PUBLIC)
async def sign_in(call: Call, body: OneTimeToken) -> Session:
    """Exchange the token of a one-time link for a session, from this machine only."""
    checks, site, address = call.checks, call.site, call.address
    checks.sign_in_rate(call.request)
    checks.origin(call.request)
    if not checks.is_loopback(call.request):
        await audit.record(site.pool, actor="", action="signIn", outcome="refused", address=address, detail="remote")
        raise NotAllowedError(
            "one-time links work on the machine of the server only; use a tunnel to it, or an API key"
        )
    if not await identity.redeem_link(site.pool, body.token):
        await audit.record(site.pool, actor="", action="signIn", outcome="refused", address=address, detail="link")
        raise NotSignedInError("the link was used or is older than ten minutes; get a new one with `vibe web --link`")
    token = await identity.open_session(
        site.pool,
        actor="local:admin",
        name="admin",
        role=Role.ADMIN,
        address=address,
        agent=call.request.headers.get("User-Agent", ""),
    )
    await audit.record(site.pool, actor="local:admin", action="signIn", outcome="done", address=address)
    who = await identity.identity_of_session(site.pool, token)
    assert who is not None
    call.answer.session = token
    return _session(call, who)


@routes.delete("/session", "signOut", role=Role.VIEWER)
async def sign_out(call: Call) -> Done:
    """End this session."""
    if call.who.is_key:
        raise BadRequestError("an API key has no session to end; revoke it with DELETE /api/v1/keys/{id}")
    await identity.close_session(call.site.pool, call.who.session_id, call.actor)
    await _audited(call, "signOut", "")
    call.answer.session = ""
    return Done()


@routes.get("/sessions", "listSessions")
async def list_sessions(call: Call) -> Page[SessionLine]:
    """The sessions of the person who is signed in, on all devices."""
    return Page(items=await identity.sessions_of(call.site.pool, call.actor))


@routes.delete("/sessions/{id}", "endSession", role=Role.VIEWER)
async def end_session(call: Call, asked: ById) -> Done:
    """End one of one's own sessions."""
    if not await identity.close_session(call.site.pool, asked.id, call.actor):
        raise NotFoundError(f"{asked.id!r} is none of your sessions; see GET /api/v1/sessions")
    return Done()


@routes.get("/keys", "listKeys", role=Role.ADMIN)
async def list_keys(call: Call) -> Page[KeyLine]:
    """The API keys of programs."""
    return Page(items=await identity.keys(call.site.pool))


@routes.post("/keys", "createKey", role=Role.ADMIN, status=201)
async def create_key(call: Call, body: WantedKey) -> NewKey:
    """Create an API key; it is shown this once."""
    role = ROLES.get(body.role)
    if role is None or role > call.who.role:
        raise BadRequestError(f"role must be one of {', '.join(ROLES)}, and not above your own; got {body.role!r}")
    key_id, key = await identity.new_key(call.site.pool, name=body.name, role=role, days=body.days, actor=call.actor)
    await _audited(call, "createKey", f"{key_id} {body.name} {body.role}")
    return NewKey(key_id=key_id, key=key)


@routes.delete("/keys/{id}", "deleteKey", role=Role.ADMIN)
async def delete_key(call: Call, asked: ById) -> Done:
    """Revoke an API key."""
    if not await identity.delete_key(call.site.pool, asked.id):
        raise NotFoundError(f"there is no API key {asked.id!r}; see GET /api/v1/keys")
    await _audited(call, "deleteKey", asked.id)
    return Done()


@routes.get("/audit-events", "listAuditEvents", role=Role.ADMIN)
async def list_audit_events(call: Call, asked: AuditPage) -> Page[AuditEvent]:
    """Sign-ins, refusals and changes by way of this server, newest first."""
    before = decode(asked.cursor, tuple[int])
    items = await audit.audit_events(call.site.pool, before=before[0] if before else None, limit=asked.limit)
    return Page(items=items, next=encode(items[-1].number) if len(items) == asked.limit else None)


async def _audited(call: Call, action: str, detail: str) -> None:
    await audit.record(
        call.site.pool,
        actor=call.actor,
        action=action,
        outcome="done",
        address=call.address,
        detail=detail,
    )
