"""The tables of the web process in Postgres, schema `vibe_web`: sessions, one-time links, API keys, audit events.

They are operational data, not facts of the log: a session is revoked by deleting its row. Secrets are stored as SHA-256
digests only.
"""

from __future__ import annotations

import asyncpg

SCHEMA = "vibe_web"
_LOCK = 0x7669_7765

_TABLES = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.session (
    token_digest bytea PRIMARY KEY,
    session_id text NOT NULL UNIQUE,
    actor text NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    csrf text NOT NULL,
    address text NOT NULL,
    agent text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS {SCHEMA}.one_time_link (
    token_digest bytea PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS {SCHEMA}.api_key (
    key_id text PRIMARY KEY,
    secret_digest bytea NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NULL,
    expires_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS {SCHEMA}.audit_event (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL,
    address text NOT NULL,
    detail text NOT NULL
);
CREATE TABLE IF NOT EXISTS {SCHEMA}.server (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    address text NOT NULL,
    started_at timestamptz NOT NULL
);
"""


async def prepare(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Create the schema and its tables where they do not exist."""
    async with pool.acquire() as session, session.transaction():
        await session.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await session.execute(_TABLES)
