"""Requests to Polymarket's APIs (and to a Polygon node): one session, one limiter, and patience where it helps."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import stamina

from gateways.rate_limit import RateLimiter
from gateways.venue_errors import VenueUnavailableError, WireError

TIMEOUT_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 60.0
UNSAID_PAUSE_SECONDS = 1.0
"""How long a 429 without Retry-After closes the limiter."""
WORTH_ANOTHER_TRY = frozenset({408, 425, 429})

Params = Mapping[str, str | Sequence[str]]


class HttpClient:
    """GET and POST with retries: network errors, 408, 425 (the venue restarts), 429, 5xx; `Retry-After` is obeyed."""

    def __init__(
        self,
        limiter: RateLimiter,
        *,
        attempts: int = 5,
        first_wait_seconds: float = 0.25,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._limiter = limiter
        self._attempts = attempts
        self._first_wait = first_wait_seconds
        self._timeout = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str, params: Params) -> bytes | None:
        """The answer's body, None for 404. A parameter with several values is sent once for each.

        Raises VenueUnavailableError when all attempts are spent, WireError with the venue's words on a refusal.
        """
        pairs = [
            (name, one) for name, value in params.items() for one in ([value] if isinstance(value, str) else value)
        ]
        return await self._patiently("GET", url, params=pairs)

    async def post(self, url: str, body: Any) -> bytes | None:
        """Like `get`, with `body` as JSON. Only for questions: a retry may ask twice."""
        return await self._patiently(
            "POST", url, data=msgspec.json.encode(body), headers={"content-type": "application/json"}
        )

    async def _patiently(self, method: str, url: str, **request: Any) -> bytes | None:
        async for attempt in stamina.retry_context(
            on=VenueUnavailableError,
            attempts=self._attempts,
            timeout=None,
            wait_initial=self._first_wait,
            wait_max=5.0,
            wait_jitter=self._first_wait,
        ):
            with attempt:
                return await self._once(method, url, **request)
        raise AssertionError("unreachable")

    async def _once(self, method: str, url: str, **request: Any) -> bytes | None:
        assert self._session is not None, "use `async with`"
        await self._limiter.turn()
        try:
            async with self._session.request(method, url, **request) as response:
                payload = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise VenueUnavailableError(f"{method} {url}: {str(error) or type(error).__name__}") from error
        status = response.status
        if status == 404:
            return None
        if status in WORTH_ANOTHER_TRY or status >= 500:
            told = response.headers.get("Retry-After")
            if told is not None or status == 429:
                self._limiter.pause(_pause_seconds(told))
            raise VenueUnavailableError(f"{method} {url}: HTTP {status}: {_words(payload)}")
        if status != 200:
            raise WireError(f"{method} {url}: HTTP {status}: {_words(payload)}")
        return payload


def _pause_seconds(told: str | None) -> float:
    if told is None:
        return UNSAID_PAUSE_SECONDS
    if told.strip().isdecimal():
        return min(float(told.strip()[:6]), LONGEST_PAUSE_SECONDS)
    try:
        until = parsedate_to_datetime(told)
    except ValueError:
        return UNSAID_PAUSE_SECONDS
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max(0.0, (aware - datetime.now(UTC)).total_seconds()), LONGEST_PAUSE_SECONDS)


class _Refusal(msgspec.Struct):
    error: str
    code: str = ""
    trace_id: str = ""


def _words(payload: bytes) -> str:
    """What the venue says for itself, or the beginning of whatever came."""
    try:
        refusal = msgspec.json.decode(payload, type=_Refusal)
    except msgspec.MsgspecError:
        return repr(payload[:200])
    return " ".join(part for part in (refusal.error[:200], refusal.code[:40], refusal.trace_id[:80]) if part)
