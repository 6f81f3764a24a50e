"""The info API: `POST /info` behind one weighted rate limiter (docs/venues/hyperliquid.md, limits)."""

from hashlib import blake2b
from types import TracebackType
from typing import Annotated, Any, Self

import msgspec
import structlog

from gateways.http_client import HttpClient
from gateways.hyperliquid.fill_parsing import LONGEST_COIN, fill_id, read_fill
from gateways.hyperliquid.parsing import parse_book
from gateways.rate_limit import RateLimiter
from gateways.venue_clock import VenueClock
from gateways.venue_errors import VenueUnavailableError, WireError
from gateways.venue_types import Book

log = structlog.get_logger()

LIGHT = frozenset({"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState"})
WEIGHT_PER_MINUTE = 1200
ITEMS_PER_WEIGHT = 20
"""Answers with many items cost one more weight for every so many items."""
SHORT_PAGE = 500
"""A page of fills below this is the last one: pages hold 2,000 rows, of some queries perhaps only 500."""


class _Named(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_COIN)]


class _WireCoin(_Named):
    szDecimals: Annotated[int, msgspec.Meta(ge=0, le=6)]  # noqa: N815 - the venue's name
    isDelisted: bool | None = None  # noqa: N815


class _WireMeta(msgspec.Struct):
    universe: list[msgspec.Raw]


_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_ENTRIES = msgspec.json.Decoder(list[Any])
_META = msgspec.json.Decoder(_WireMeta)
_COIN, _NAMED = msgspec.json.Decoder(_WireCoin), msgspec.json.Decoder(_Named)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Coin(msgspec.Struct, frozen=True):
    """A tradable perpetual: its full name ('BTC', 'xyz:SP500') and its lot, 10^-szDecimals, in micros."""

    name: str
    size_step_micros: int


class Coins(msgspec.Struct, frozen=True):
    """The coins that could be read, by name, and what could not: whole dexes, and single coins of the others."""

    listed: dict[str, Coin]
    unread_dexes: dict[str, str]
    """By name, why: the venue did not answer for this dex, or not with a universe."""
    unread_coins: dict[str, str]
    """By name, or by `dex/place` where even that cannot be read, why."""

    def is_unread(self, coin: str) -> bool:
        """True when it is not known whether the venue lists this coin, and with which lot."""
        dex = coin.rpartition(":")[0]
        return dex in self.unread_dexes or coin in self.unread_coins


class InfoClient:
    """Typed requests to the info API; every attempt spends its weight."""

    def __init__(self, url: str, *, limiter: RateLimiter | None = None, clock: VenueClock | None = None) -> None:
        self._url = f"{url.rstrip('/')}/info"
        self._limiter = limiter or RateLimiter.per_minute(WEIGHT_PER_MINUTE)
        self._http = HttpClient(self._limiter, attempts=4, first_wait_seconds=0.2, timeout_seconds=10, clock=clock)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def affordable(self, query: str) -> None:
        """Wait until such a request could go at once."""
        await self._limiter.affordable(_weight(query))

    async def call(self, body: dict[str, Any], *, attempts: int | None = None) -> bytes:
        """The answer's body. Raises VenueUnavailableError when all attempts are spent, WireError on a refusal."""
        name = f"{self._url} {body}"
        answer = await self._http.post(self._url, body, weight=_weight(body["type"]), attempts=attempts, name=name)
        if answer is None:
            raise WireError(f"{name}: HTTP 404")
        return answer

    async def coins(self) -> Coins:
        """Every perpetual of every dex that is not delisted, and what of the builders' dexes cannot be read.

        Raises VenueUnavailableError or WireError when the list of dexes or the main one cannot be read.
        """
        found = Coins({}, {}, {})
        dexes = _dexes(await self.call({"type": "perpDexs"}))
        _read_universe(found, "", await self.call({"type": "meta", "dex": ""}))
        for dex in dexes:
            await self._read_dex(found, dex)
        return found

    async def coins_of(self, dex: str) -> Coins:
        """The perpetuals of one dex that are not delisted; '' is the main one. Errors are in the result."""
        found = Coins({}, {}, {})
        await self._read_dex(found, dex)
        return found

    async def _read_dex(self, found: Coins, dex: str) -> None:
        try:
            _read_universe(found, dex, await self.call({"type": "meta", "dex": dex}))
        except (VenueUnavailableError, WireError) as error:
            found.unread_dexes[dex] = str(error)

    async def book(self, coin: str, *, attempts: int = 3) -> Book | None:
        """The order book now, 20 levels a side; None for an unknown coin."""
        return parse_book(await self.call({"type": "l2Book", "coin": coin}, attempts=attempts))

    async def account(self, address: str, dex: str = "") -> bytes:
        """clearinghouseState of an address on one dex, unmodified."""
        return await self.call({"type": "clearinghouseState", "user": address, "dex": dex})

    async def abstraction(self, address: str) -> bytes:
        """The mode of an account, unmodified: a JSON string."""
        return await self.call({"type": "userAbstraction", "user": address})

    async def spot(self, address: str) -> bytes:
        """spotClearinghouseState of an address, unmodified."""
        return await self.call({"type": "spotClearinghouseState", "user": address})

    async def spare(self) -> None:
        """Wait until half of the budget is unspent: for requests that can wait."""
        await self._limiter.spare()

    async def user_fills(self, address: str, start_ms: int, end_ms: int) -> list[msgspec.Raw]:
        """Every fill of an address in [start_ms, end_ms], TWAP slices too, unmodified, oldest first, each once.

        The venue keeps the newest 10,000. A row that cannot be read keeps its place. Raises VenueUnavailableError
        or WireError.
        """
        found: dict[str, tuple[int, msgspec.Raw]] = {}
        for query in ("userFillsByTime", "userTwapSliceFillsByTime"):
            await self._pages(query, address, start_ms, end_ms, found)
        # Sorting keeps the venue's order inside a millisecond, which is the order of execution.
        return [row for _, row in sorted(found.values(), key=lambda timed: timed[0])]

    async def _pages(
        self, query: str, address: str, start_ms: int, end_ms: int, found: dict[str, tuple[int, msgspec.Raw]]
    ) -> None:
        while start_ms <= end_ms:
            body = {"type": query, "user": address, "startTime": start_ms, "endTime": end_ms}
            page = _rows(await self.call(body), query)
            if page:
                await self._limiter.spend(-(-len(page) // ITEMS_PER_WEIGHT))
            known = len(found)
            times = _note(page, address, start_ms, found)
            if len(page) < SHORT_PAGE:
                return
            if times[0] > times[-1] or times[-1] < start_ms:
                raise WireError(f"{query} of {address} from {start_ms}: rows from {times[0]} to {times[-1]}")
            # The next page may hold more rows of the last millisecond. When it brought none, go on after it.
            if len(found) == known and times[0] == times[-1]:
                log.warning("info.fills_beyond_a_page", address=address, time=times[-1], rows=len(page))
            start_ms = times[-1] if len(found) > known else times[-1] + 1


def _weight(query: str) -> int:
    return 2 if query in LIGHT else 20


def _dexes(payload: bytes) -> list[str]:
    """The names of the builders' dexes; an entry without one, such as null for the main dex, names none."""
    try:
        entries = _ENTRIES.decode(payload)
    except _UNREADABLE as error:
        raise WireError(f"not a list of dexes: {error}") from error
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    return [name for name in dict.fromkeys(names) if isinstance(name, str) and name]


def _read_universe(found: Coins, dex: str, payload: bytes) -> None:
    try:
        universe = _META.decode(payload).universe
    except _UNREADABLE as error:
        raise WireError(f"not a universe: {error}") from error
    for place, entry in enumerate(universe):
        try:
            coin = _COIN.decode(entry)
        except _UNREADABLE as error:
            found.unread_coins[_name(entry) or f"{dex}/{place}"] = str(error)
            continue
        if not coin.isDelisted:
            # The main dex comes first: no other one changes the lot of its coins.
            found.listed.setdefault(coin.name, Coin(coin.name, 10 ** (6 - coin.szDecimals)))


def _name(entry: msgspec.Raw) -> str:
    """The name in an entry that cannot be read as a whole; '' when it has none."""
    try:
        return _NAMED.decode(entry).name
    except _UNREADABLE:
        return ""


def _rows(payload: bytes, query: str) -> list[msgspec.Raw]:
    try:
        return _ROWS.decode(payload)
    except _UNREADABLE as error:
        raise WireError(f"{query}: not a list of rows: {error}") from error


def _note(page: list[msgspec.Raw], address: str, time: int, found: dict[str, tuple[int, msgspec.Raw]]) -> list[int]:
    """Add the new rows of a page to `found`. Returns the times of all rows, ms; an unreadable one repeats the last."""
    times = []
    for row in page:
        try:
            wire = read_fill(row)
            time, key = wire.time, fill_id(wire, address)
        except WireError:
            key = blake2b(row, digest_size=16).hexdigest()
        # A copy: the row is a view of its whole page.
        found.setdefault(key, (time, msgspec.Raw(bytes(row))))
        times.append(time)
    return times
