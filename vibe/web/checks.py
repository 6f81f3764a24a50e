"""What every request is checked for before it reaches a route: its host and rate, who sends it, from which page."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from aiohttp import web

from vibe.web.identity import Identity, identity_of_key, identity_of_session
from vibe.web.limits import Buckets
from vibe.web.problems import NotAllowedError, NotSignedInError, TooManyError, WrongMediaError
from vibe.web.routing import Role
from vibe.web.site import Site

_LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; "
        "require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
STRICT_TRANSPORT = {"Strict-Transport-Security": "max-age=31536000"}


class Checks:
    """The checks of one server. `cookie` is the name of its session cookie."""

    def __init__(self, site: Site, cookie: str, port: int) -> None:
        settings = site.settings
        self._site = site
        self._cookie = cookie
        public = urlsplit(settings.web_public_url) if settings.web_public_url else None
        self._hosts = {f"{name}:{port}" for name in _LOCAL_NAMES} | ({public.netloc} if public else set())
        self._origins = {f"http://{host}" for host in self._hosts if public is None or host != public.netloc}
        if public is not None:
            self._origins.add(f"{public.scheme}://{public.netloc}")
        self.secure = public is not None and public.scheme == "https"
        self._proxies = frozenset(settings.web_trusted_proxies)
        self._buckets = Buckets(settings.web_requests_per_second, 2 * settings.web_requests_per_second)
        self._sign_ins = Buckets(5 / 60, 5)

    def headers(self) -> dict[str, str]:
        return SECURITY_HEADERS | (STRICT_TRANSPORT if self.secure else {})

    def host(self, request: web.Request) -> None:
        """Refuse a name that is not this server's: a page of another site may have resolved to this address."""
        if request.headers.get("Host", "").lower() not in self._hosts:
            raise NotAllowedError(
                f"this server is not {request.headers.get('Host', '')[:100]!r}; open {sorted(self._hosts)[0]}, "
                "or set VIBE_WEB_PUBLIC_URL to the address under which it is reached"
            )

    def address(self, request: web.Request) -> str:
        """Where a request comes from; X-Forwarded-For counts only from proxies that are trusted."""
        peer = request.remote or ""
        if peer in self._proxies:
            return request.headers.get("X-Forwarded-For", peer).rpartition(",")[2].strip() or peer
        return peer

    def is_loopback(self, request: web.Request) -> bool:
        return self.address(request) in ("127.0.0.1", "::1")

    async def identity(self, request: web.Request, *, seen: bool = True) -> Identity | None:
        """Who asks, by API key or by cookie; None for a request without either, or with one that does not count.

        Without `seen` the session or key does not count as used: an idle one ends all the same.
        """
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await identity_of_key(self._site.pool, key.strip(), seen=seen)
        token = request.cookies.get(self._cookie)
        return await identity_of_session(self._site.pool, token, seen=seen) if token else None

    def rate(self, request: web.Request, identity: Identity | None) -> None:
        """Raises TooManyError with the time to wait."""
        key = identity.session_id if identity is not None else self.address(request)
        self._refuse(self._buckets.take(key))

    def sign_in_rate(self, request: web.Request) -> None:
        """Raises TooManyError for the sixth attempt to sign in within a minute from one address."""
        self._refuse(self._sign_ins.take(self.address(request)))

    @staticmethod
    def _refuse(wait: float) -> None:
        if wait:
            seconds = max(1, round(wait))
            raise TooManyError(f"ask again in {seconds} s", headers={"Retry-After": str(seconds)})

    def role(self, identity: Identity | None, needed: Role) -> None:
        """Raises NotSignedInError or NotAllowedError."""
        if needed is Role.PUBLIC:
            return
        if identity is None:
            raise NotSignedInError(
                "sign in with the one-time link that `vibe web --link` prints, or send an API key as "
                "`Authorization: Bearer vk_...`"
            )
        if identity.role < needed:
            raise NotAllowedError(
                f"this needs the role {needed.text}; {identity.name} has the role {identity.role.text}"
            )

    def origin(self, request: web.Request) -> None:
        """Refuse what a page of another origin sends."""
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None and site not in ("same-origin", "none"):
            raise NotAllowedError("a page of another site sent this; only pages of this server may")
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() not in self._origins:
            raise NotAllowedError(f"a page of {origin[:100]!r} sent this; only pages of this server may")

    def forgery(self, request: web.Request, identity: Identity | None) -> None:
        """Refuse a change that a page of another origin may have sent with this browser's cookie. Programs with an
        API key send no cookie, and are not checked."""
        if request.can_read_body and request.content_type != "application/json":
            raise WrongMediaError(f"send the body as application/json, not as {request.content_type[:100]!r}")
        if identity is not None and identity.is_key:
            return
        self.origin(request)
        if identity is not None and not secrets.compare_digest(
            request.headers.get("X-CSRF-Token", "").encode(), identity.csrf.encode()
        ):
            raise NotAllowedError("the header X-CSRF-Token must hold the `csrf` of GET /api/v1/session; read it again")
