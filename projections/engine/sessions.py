"""Sessions of Postgres that notice when it is gone.

A Postgres that goes away without closing a connection would be waited for until TCP gives up, which takes minutes or
hours. Three limits end that: a time limit for connecting, keep-alive packets for a peer whose machine or route is gone,
and a time limit for each statement, for a server that is there and answers nothing.
"""

from __future__ import annotations

import socket
from typing import Any

import asyncpg

CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 120.0
"""The longest that one statement of a command may take."""
LOAD_SECONDS = 600.0
"""The longest that one statement of a rebuild may take while it loads: a chunk takes seconds."""
INDEX_SECONDS = 4 * 3_600.0
"""The longest that one statement over a whole table may take: an index, statistics, a comparison."""

_KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""A peer that is gone is noticed after twenty seconds, however long a statement takes."""


async def open_session(
    dsn: str, statement_seconds: float, *, server_settings: dict[str, str] | None = None
) -> asyncpg.Connection[Any]:
    """A session whose every statement may take so long. Raises what an unreachable Postgres raises; a statement that
    takes longer raises TimeoutError and is cancelled."""
    session: asyncpg.Connection[Any] = await asyncpg.connect(
        dsn, timeout=CONNECT_SECONDS, command_timeout=statement_seconds, server_settings=server_settings
    )
    await _keep_alive(session)
    return session


async def open_pool(
    dsn: str,
    statement_seconds: float,
    *,
    min_size: int = 0,
    max_size: int,
    connect_seconds: float = CONNECT_SECONDS,
    server_settings: dict[str, str] | None = None,
) -> asyncpg.Pool[Any]:
    """A pool of such sessions, open until it is terminated."""
    return await asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        timeout=connect_seconds,
        command_timeout=statement_seconds,
        server_settings=server_settings,
        init=_keep_alive,
    )


async def _keep_alive(session: Any) -> None:
    # asyncpg has no public way to its socket; tests/projections/test_sessions.py holds this to the installed version.
    found = session._transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return  # a socket of this machine's file system
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if (option := getattr(socket, name, None)) is not None:  # other systems lack some
            found.setsockopt(socket.IPPROTO_TCP, option, value)
