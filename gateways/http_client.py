"""HTTP requests to venues: one session, one rate limiter, and retries with backoff where they help."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import stamina

from gateways.rate_limit import RateLimiter
from gateways.venue_clock import VenueClock
from gateways.venue_errors import VenueUnavailableError, WireError

TIMEOUT_SECONDS = 15.0
LONGEST_WAIT_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
DEFAULT_PAUSE_SECONDS = 1.0
"""How long a 429 without Retry-After closes the limiter."""
RETRIED_STATUSES = frozenset({408, 425, 429})

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
        clock: VenueClock | None = None,
    ) -> None:
        self._limiter = limiter
        self._attempts = attempts
        self._first_wait = first_wait_seconds
        self._timeout = timeout_seconds
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def affordable(self, weight: float = 1.0) -> None:
        """Wait until a request of this weight could go at once."""
        await self._limiter.affordable(weight)

    async def get(self, url: str, params: Params) -> bytes | None:
        """The answer's body, None for 404. A parameter with several values is sent once for each.

        Raises VenueUnavailableError when all attempts are spent, WireError with the venue's reason on a refusal.
        """
        pairs = [
            (name, one) for name, value in params.items() for one in ([value] if isinstance(value, str) else value)
        ]
        return await self._retried("GET", url, params=pairs)

    async def post(
        self, url: str, body: Any, *, weight: float = 1.0, attempts: int | None = None, name: str | None = None
    ) -> bytes | None:
        """Like `get`, with `body` as JSON. Only for queries: a retry sends the body again.

        `weight` is what every attempt costs, `attempts` overrides the client's, `name` replaces the URL in errors.
        """
        return await self._retried(
            "POST",
            url,
            weight=weight,
            attempts=attempts,
            name=name,
            data=msgspec.json.encode(body),
            headers={"content-type": "application/json"},
        )

    async def _retried(
        self,
        method: str,
        url: str,
        *,
        weight: float = 1.0,
        attempts: int | None = None,
        name: str | None = None,
        **request: Any,
    ) -> bytes | None:
        async for attempt in retries(VenueUnavailableError, attempts or self._attempts, self._first_wait):
            with attempt:
                return await self._once(method, url, f"{method} {name or url}", weight, **request)
        raise AssertionError("unreachable")

    async def _once(self, method: str, url: str, name: str, weight: float, **request: Any) -> bytes | None:
        assert self._session is not None, "use `async with`"
        await self._limiter.spend(weight)
        sent = time.time_ns()
        try:
            async with self._session.request(method, url, **request) as response:
                received = time.time_ns()
                payload = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise VenueUnavailableError(f"{name}: {str(error) or type(error).__name__}") from error
        if self._clock is not None and "Age" not in response.headers:  # a cache repeats the date of an older answer
            self._clock.answered(response.headers.get("Date"), sent, received)
        status = response.status
        if status == 404:
            return None
        if status in RETRIED_STATUSES or status >= 500:
            retry_after = response.headers.get("Retry-After")
            if retry_after is not None or status == 429:
                self._limiter.pause(_pause_seconds(retry_after))
            raise VenueUnavailableError(f"{name}: HTTP {status}: {_reason(payload)}")
        if status != 200:
            raise WireError(f"{name}: HTTP {status}: {_reason(payload)}")
        return payload


def retries(
    on: type[Exception] | Callable[[Exception], bool], attempts: int, first_wait_seconds: float
) -> AsyncIterator[stamina.Attempt]:
    """Attempts with exponential backoff and jitter, for `async for`: the retry policy of every venue request.

    The last error is raised when all attempts are spent. The waits double, from `first_wait_seconds` up to 5 seconds.
    """
    return stamina.retry_context(
        on=on,
        attempts=attempts,
        timeout=None,
        wait_initial=first_wait_seconds,
        wait_max=LONGEST_WAIT_SECONDS,
        wait_jitter=first_wait_seconds,
    ).__aiter__()


def _pause_seconds(retry_after: str | None) -> float:
    if retry_after is None:
        return DEFAULT_PAUSE_SECONDS
    if retry_after.strip().isdecimal():
        return min(float(retry_after.strip()[:6]), LONGEST_PAUSE_SECONDS)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return DEFAULT_PAUSE_SECONDS
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max(0.0, (aware - datetime.now(UTC)).total_seconds()), LONGEST_PAUSE_SECONDS)


class _Refusal(msgspec.Struct):
    error: str
    code: str = ""
    trace_id: str = ""


def _reason(payload: bytes) -> str:
    """The reason that the venue gives, or the beginning of its answer."""
    try:
        refusal = msgspec.json.decode(payload, type=_Refusal)
    except msgspec.MsgspecError:
        return repr(payload[:200])
    return " ".join(part for part in (refusal.error[:200], refusal.code[:40], refusal.trace_id[:80]) if part)
