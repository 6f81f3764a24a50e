"""Who asks: sessions of browsers, one-time links, and API keys of programs. All are rows that can be revoked.

A token has 32 random bytes. Sessions end after 12 hours without a request and after seven days; a one-time link works
once and for ten minutes.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeAlias

import asyncpg
from msgspec import Struct

from projections.queries.fetch import many, one
from vibe.web.routing import ROLES, Role
from vibe.web.store import SCHEMA

IDLE = timedelta(hours=12)
LONGEST = timedelta(days=7)
LINK_LIFE = timedelta(minutes=10)
_SEEN_EVERY = timedelta(minutes=1)
_KEY_PREFIX = "vk"

Pool: TypeAlias = "asyncpg.Pool[Any]"


class Identity(Struct, frozen=True, kw_only=True):
    """Who is signed in. `csrf` is empty for API keys, which browsers never send by themselves."""

    actor: str
    name: str
    role: Role
    session_id: str
    csrf: str
    expires_at: datetime

    @property
    def is_key(self) -> bool:
        return not self.csrf


class SessionLine(Struct, frozen=True, kw_only=True):
    """One session of the signed-in person, for the list in which it can be ended."""

    session_id: str
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


class KeyLine(Struct, frozen=True, kw_only=True):
    """One API key without its secret."""

    key_id: str
    name: str
    role: str
    created_by: str
    created_at: datetime
    used_at: datetime | None
    expires_at: datetime


class _SessionRow(Struct, frozen=True, kw_only=True):
    session_id: str
    actor: str
    name: str
    role: str
    csrf: str
    seen_at: datetime
    expires_at: datetime


def digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


async def new_link(pool: Pool) -> str:
    """A token that `redeem_link` takes once within ten minutes."""
    token = secrets.token_urlsafe(32)
    await pool.execute(
        f"INSERT INTO {SCHEMA}.one_time_link VALUES ($1, $2)", digest(token), datetime.now(UTC) + LINK_LIFE
    )
    return token


async def redeem_link(pool: Pool, token: str) -> bool:
    """Whether the token was a valid link; it is none any more afterwards."""
    await pool.execute(f"DELETE FROM {SCHEMA}.one_time_link WHERE expires_at < now()")
    found = await pool.fetchval(
        f"DELETE FROM {SCHEMA}.one_time_link WHERE token_digest = $1 RETURNING true", digest(token)
    )
    return bool(found)


async def open_session(pool: Pool, *, actor: str, name: str, role: Role, address: str, agent: str) -> str:
    """Store a new session; returns its token, which is stored nowhere."""
    token = secrets.token_urlsafe(32)
    await pool.execute(f"DELETE FROM {SCHEMA}.session WHERE expires_at < now() OR seen_at < now() - $1::interval", IDLE)
    await pool.execute(
        f"INSERT INTO {SCHEMA}.session (token_digest, session_id, actor, name, role, csrf, address, agent, expires_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        digest(token),
        secrets.token_hex(8),
        actor,
        name,
        role.text,
        secrets.token_urlsafe(32),
        address,
        agent[:300],
        datetime.now(UTC) + LONGEST,
    )
    return token


async def identity_of_session(pool: Pool, token: str, *, seen: bool = True) -> Identity | None:
    """Who has this session token; None when it is unknown, revoked or expired. With `seen` it counts as used now."""
    row = await one(
        pool,
        _SessionRow,
        f"SELECT session_id, actor, name, role, csrf, seen_at, expires_at FROM {SCHEMA}.session "
        "WHERE token_digest = $1 AND expires_at > now() AND seen_at > now() - $2::interval",
        digest(token),
        IDLE,
    )
    if row is None:
        return None
    if seen and datetime.now(UTC) - row.seen_at > _SEEN_EVERY:
        await pool.execute(f"UPDATE {SCHEMA}.session SET seen_at = now() WHERE session_id = $1", row.session_id)
    return Identity(
        actor=row.actor,
        name=row.name,
        role=ROLES[row.role],
        session_id=row.session_id,
        csrf=row.csrf,
        expires_at=row.expires_at,
    )


async def close_session(pool: Pool, session_id: str, actor: str) -> bool:
    """End one of an actor's sessions; whether there was one."""
    found = await pool.fetchval(
        f"DELETE FROM {SCHEMA}.session WHERE session_id = $1 AND actor = $2 RETURNING true", session_id, actor
    )
    return bool(found)


async def sessions_of(pool: Pool, actor: str) -> list[SessionLine]:
    """An actor's sessions, the newest first."""
    return await many(
        pool,
        SessionLine,
        f"SELECT {', '.join(SessionLine.__struct_fields__)} FROM {SCHEMA}.session "
        "WHERE actor = $1 AND expires_at > now() ORDER BY created_at DESC LIMIT 100",
        actor,
    )


async def new_key(pool: Pool, *, name: str, role: Role, days: int, actor: str) -> tuple[str, str]:
    """Store an API key; returns its id and the whole key `vk_<id>_<secret>`, which is stored nowhere."""
    key_id, secret = f"{_KEY_PREFIX}_{secrets.token_hex(6)}", secrets.token_urlsafe(32)
    await pool.execute(
        f"INSERT INTO {SCHEMA}.api_key (key_id, secret_digest, name, role, created_by, expires_at) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        key_id,
        digest(secret),
        name,
        role.text,
        actor,
        datetime.now(UTC) + timedelta(days=days),
    )
    return key_id, f"{key_id}_{secret}"


async def identity_of_key(pool: Pool, key: str, *, seen: bool = True) -> Identity | None:
    """Which program has this API key; None when it is unknown, revoked or expired. With `seen` it counts as used."""
    prefix, _, rest = key.partition("_")
    number, _, secret = rest.partition("_")
    if prefix != _KEY_PREFIX or not secret:
        return None
    key_id = f"{_KEY_PREFIX}_{number}"
    rows = await pool.fetch(
        f"SELECT secret_digest, name, role, used_at, expires_at FROM {SCHEMA}.api_key "
        "WHERE key_id = $1 AND expires_at > now()",
        key_id,
    )
    if not rows or not secrets.compare_digest(rows[0]["secret_digest"], digest(secret)):
        return None
    row = rows[0]
    if seen and (row["used_at"] is None or datetime.now(UTC) - row["used_at"] > _SEEN_EVERY):
        await pool.execute(f"UPDATE {SCHEMA}.api_key SET used_at = now() WHERE key_id = $1", key_id)
    return Identity(
        actor=f"key:{row['name']}",
        name=row["name"],
        role=ROLES[row["role"]],
        session_id=key_id,
        csrf="",
        expires_at=row["expires_at"],
    )


async def keys(pool: Pool) -> list[KeyLine]:
    """All API keys, the newest first."""
    return await many(
        pool,
        KeyLine,
        f"SELECT {', '.join(KeyLine.__struct_fields__)} FROM {SCHEMA}.api_key ORDER BY created_at DESC LIMIT 1000",
    )


async def delete_key(pool: Pool, key_id: str) -> bool:
    """Revoke an API key; whether there was one."""
    found = await pool.fetchval(f"DELETE FROM {SCHEMA}.api_key WHERE key_id = $1 RETURNING true", key_id)
    return bool(found)
