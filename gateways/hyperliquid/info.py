"""The info API: `POST /info` behind one weight-aware limiter (1,200 weight a minute and address, hyperliquid 2.1)."""

import asyncio
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import stamina
import structlog

from gateways.hyperliquid.wire import parse_book
from gateways.venue import Book, VenueUnavailableError, WireError

log = structlog.get_logger()

LIGHT = frozenset({"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState"})
WEIGHT_PER_MINUTE = 1200


class Budget:
    """A token bucket over request weights: full at the start, refilled evenly."""

    def __init__(self, per_minute: int = WEIGHT_PER_MINUTE) -> None:
        self._rate = per_minute / 60
        self._capacity = float(per_minute)
        self._tokens = self._capacity
        self._at = 0.0
        self._turn = asyncio.Lock()

    async def spend(self, weight: int) -> None:
        """Wait, first come first served, until `weight` may be spent."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            self._refill(loop.time())
            if self._tokens < weight:
                await asyncio.sleep((weight - self._tokens) / self._rate)
                self._refill(loop.time())
            self._tokens -= weight

    def _refill(self, now: float) -> None:
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate) if self._at else self._tokens
        self._at = now


class Coin(msgspec.Struct, frozen=True):
    """A tradable perpetual: its full name ('BTC', 'xyz:SP500') and its lot, 10^-szDecimals, in micros."""

    name: str
    size_step_micros: int


class InfoClient:
    """Typed questions to the info API; every call spends its weight and retries what is worth it."""

    def __init__(self, url: str, *, budget: Budget | None = None) -> None:
        self._url = f"{url.rstrip('/')}/info"
        self._budget = budget or Budget()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, body: dict[str, Any], *, attempts: int = 4) -> bytes:
        """The answer's body. Raises VenueUnavailableError when `attempts` are spent, WireError on a refusal."""
        async for attempt in stamina.retry_context(
            on=VenueUnavailableError, attempts=attempts, timeout=None, wait_initial=0.2, wait_max=5.0
        ):
            with attempt:
                return await self._once(body)
        raise AssertionError("unreachable")

    async def _once(self, body: dict[str, Any]) -> bytes:
        assert self._session is not None, "use `async with`"
        await self._budget.spend(2 if body["type"] in LIGHT else 20)
        try:
            async with self._session.post(self._url, json=body) as response:
                payload = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise VenueUnavailableError(f"{self._url} {body['type']}: {error or type(error).__name__}") from error
        if response.status == 429 or response.status >= 500:
            raise VenueUnavailableError(f"{self._url} {body['type']}: HTTP {response.status}")
        if response.status != 200:
            raise WireError(f"{self._url} {body}: HTTP {response.status} {payload[:200]!r}")
        return payload

    async def coins(self) -> dict[str, Coin]:
        """Every perpetual of every dex that is not delisted. Raises VenueUnavailableError or WireError."""
        found: dict[str, Coin] = {}
        try:
            dexes = [dex["name"] for dex in msgspec.json.decode(await self.call({"type": "perpDexs"})) if dex]
            for dex in ["", *dexes]:
                meta = msgspec.json.decode(await self.call({"type": "meta", "dex": dex}))
                for entry in meta["universe"]:
                    if not entry.get("isDelisted") and 0 <= entry["szDecimals"] <= 6:
                        found[entry["name"]] = Coin(entry["name"], 10 ** (6 - entry["szDecimals"]))
        except (msgspec.MsgspecError, LookupError, TypeError) as error:
            raise WireError(f"not a universe: {type(error).__name__}: {error}") from error
        return found

    async def book(self, coin: str, *, attempts: int = 3) -> Book | None:
        """The order book now, 20 levels a side; None for an unknown coin."""
        return parse_book(await self.call({"type": "l2Book", "coin": coin}, attempts=attempts))

    async def account(self, address: str, dex: str = "") -> bytes:
        """clearinghouseState of an address on one dex, unmodified."""
        return await self.call({"type": "clearinghouseState", "user": address, "dex": dex})
