"""The session cookie. Over TLS its name begins with __Host-, which browsers accept from this host alone.

On loopback without TLS the name holds the port, because browsers share cookies between the ports of a host.
"""

from __future__ import annotations

from aiohttp import web

from vibe.web.identity import LONGEST


def cookie_name(*, secure: bool, port: int) -> str:
    return "__Host-vibe" if secure else f"vibe_{port}"


def set_session(response: web.StreamResponse, name: str, token: str) -> None:
    """Lax, because with Strict the first page behind the redirect of a sign-in would have no session."""
    secure = name.startswith("__Host-")
    response.set_cookie(
        name, token, path="/", httponly=True, secure=secure, samesite="Lax", max_age=int(LONGEST.total_seconds())
    )


def clear_session(response: web.StreamResponse, name: str) -> None:
    response.del_cookie(name, path="/", httponly=True, secure=name.startswith("__Host-"), samesite="Lax")
