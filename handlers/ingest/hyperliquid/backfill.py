"""Backfill: after a gap in the feed, the fills of the followed addresses are requested, one address after the other.

A fill has the id of its side of the public trade, so only the missing ones are stored. After its fills, a new snapshot
of the account is taken: it covers changes that have no fill. The few busiest addresses come first, with their newest
trades held back meanwhile, so that the missing fills are stored, in order, before them. Thousands of others would wait
too long for that: their snapshots are taken first, so that their positions are right, and their fills are history by
then. Only perpetuals are stored, as on the feed: spot trades are not part of it, so the sale of a spot purchase would
be missed.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog
from msgspec import Raw
from prometheus_client import Counter, Gauge

from domain.events import GapDetected, RawReceived, Venue
from gateways.hyperliquid.fill_parsing import FILLS_CHANNEL, fill_id, is_perpetual, read_fill
from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.parsing import MILLISECOND
from gateways.venue_errors import VenueUnavailableError, WireError
from handlers.ingest.hyperliquid.account_snapshots import AccountSnapshots
from handlers.ingest.ordered_writer import OrderedWriter
from handlers.live.configuration import LiveConfiguration

log = structlog.get_logger()

START_MS, RECONNECT_MS, GAP_MS = 900_000, 300_000, 900_000
"""How far back fills are requested at least: at the start, after a lost connection, before an unexpected position."""
LONGEST_MS = 86_400_000
OVERLAP_MS = 10_000
BUSIEST = 8
"""So many addresses have their trades held back while their fills are requested."""
_AHEAD_MS = 60_000
_SHORTEST_PAUSE, _LONGEST_PAUSE, _GAP_PAUSE = 1.0, 60.0, 60.0

FILLS = Counter("vibe_backfill_fills_total", "Fills stored that the feed had missed")
ADDRESSES = Counter("vibe_backfill_addresses_total", "Addresses backfilled, by outcome", ["outcome"])
WAITING = Gauge("vibe_backfill_waiting_addresses", "Addresses waiting to be backfilled")


def missing_since(alive_ms: int, now_ms: int, at_least_ms: int) -> int:
    """The time (ms) since which fills may be missing.

    An overlap before `alive_ms`, when the feed was last known to work (0 = unknown), or `at_least_ms` ago if that is
    earlier; never more than a day ago.
    """
    since_ms = now_ms - at_least_ms
    if alive_ms:
        since_ms = min(since_ms, alive_ms - OVERLAP_MS)
    return max(since_ms, now_ms - LONGEST_MS)


class Backfill:
    """A queue of addresses, each with the time (ms) since which its fills may be missing.

    `unreadable(text, error)` is called with each row that cannot be read.
    """

    def __init__(
        self,
        info: InfoClient,
        configuration: LiveConfiguration,
        writer: OrderedWriter,
        snapshots: AccountSnapshots,
        clock: Callable[[], int],
        unreadable: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._info = info
        self._configuration = configuration
        self._writer = writer
        self._snapshots = snapshots
        self._clock = clock
        self._on_unreadable = unreadable
        self._since: dict[str, int] = {}
        self._urgent: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._done_at: dict[str, float] = {}
        self._in_work: set[str] = set()
        self._changed = asyncio.Event()

    def expect(self, addresses: Iterable[str]) -> None:
        """Fills may be missing: hold back the trades of the busiest of these addresses; `missed` follows soon."""
        for address in self._busiest(addresses):
            self._writer.hold(address)

    def missed(self, since_ms: Mapping[str, int]) -> None:
        """Request the fills of these addresses, each since its time (ms)."""
        busiest = self._busiest(since_ms)
        self._urgent.update(busiest)
        for address in busiest:
            self._writer.hold(address)
        for address, from_ms in since_ms.items():
            self._since[address] = min(from_ms, self._since.get(address, from_ms))
        rest = since_ms.keys() - set(busiest)
        self._snapshots.refresh(sorted(rest, key=lambda address: -self._writer.activity[address]))
        WAITING.set(len(self._since))
        self._changed.set()

    def on_gap(self, gap: GapDetected) -> None:
        """A position was not the expected one: request the fills that led to it."""
        log.warning(
            "backfill.gap", address=gap.address, asset=gap.asset, expected=gap.expected_micros, found=gap.found_micros
        )
        pause = self._done_at.get(gap.address, 0.0) + _GAP_PAUSE
        if pause > asyncio.get_running_loop().time():
            # Its fills were requested just now. A gap that no fill explains must not lead to a request each time.
            self._not_before[gap.address] = max(pause, self._not_before.get(gap.address, 0.0))
        from_ms = gap.event_time // MILLISECOND - GAP_MS
        self._since[gap.address] = min(from_ms, self._since.get(gap.address, from_ms))
        self._urgent.add(gap.address)
        self._changed.set()

    async def run(self) -> None:
        """Process the queue until cancelled: urgent addresses, and beside them those that can wait."""
        await asyncio.gather(self._work(self._next_urgent), self._work(self._next_other))

    def _busiest(self, addresses: Iterable[str]) -> list[str]:
        return heapq.nlargest(BUSIEST, addresses, key=lambda address: self._writer.activity[address])

    async def _work(self, next_address: Callable[[], Awaitable[str | None]]) -> None:
        while True:
            address = await next_address()
            if address is None:
                self._changed.clear()
                try:
                    async with asyncio.timeout(0.5):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                continue
            self._in_work.add(address)
            try:
                await self._process(address)
            finally:
                self._in_work.discard(address)
                self._changed.set()

    async def _next_urgent(self) -> str | None:
        return self._due(urgent=True)

    async def _next_other(self) -> str | None:
        if self._due(urgent=False) is None or self._must_wait():
            return None
        await self._snapshots.idle()
        await self._info.spare()
        return None if self._must_wait() else self._due(urgent=False)

    def _must_wait(self) -> bool:
        return bool(self._in_work) or self._due(urgent=True) is not None

    def _due(self, *, urgent: bool) -> str | None:
        """The busiest address that is due."""
        now = asyncio.get_running_loop().time()
        due = (
            address
            for address in self._since
            if (address in self._urgent) is urgent
            and address not in self._in_work
            and self._not_before.get(address, 0.0) <= now
        )
        return max(due, key=lambda address: self._writer.activity[address], default=None)

    async def _process(self, address: str) -> None:
        from_ms, urgent = self._since.pop(address), address in self._urgent
        self._urgent.discard(address)
        self._not_before.pop(address, None)
        WAITING.set(len(self._since))
        try:
            await self._request(address, from_ms)
        except (VenueUnavailableError, WireError, TimeoutError) as error:
            failures = self._failures[address] = self._failures.get(address, 0) + 1
            pause = min(_SHORTEST_PAUSE * 2 ** min(failures - 1, 10), _LONGEST_PAUSE)
            log.warning("backfill.retry", address=address, error=str(error) or "no answer in time", in_seconds=pause)
            ADDRESSES.labels("failed").inc()
            self._since[address] = min(from_ms, self._since.get(address, from_ms))
            self._not_before[address] = asyncio.get_running_loop().time() + pause
            if urgent:
                self._urgent.add(address)
        else:
            self._failures.pop(address, None)
            ADDRESSES.labels("done").inc()
        self._done_at[address] = asyncio.get_running_loop().time()

    async def _request(self, address: str, from_ms: int) -> None:
        influencer = self._configuration.directory.influencer_of(Venue.HYPERLIQUID, address)
        if influencer is None:
            await self._writer.release(address)
            return
        to_ms = self._clock() // MILLISECOND + _AHEAD_MS
        rows = await self._info.user_fills(address, from_ms, to_ms)
        now = self._clock()
        fills: list[RawReceived] = []
        for row in rows:
            try:
                wire = read_fill(row)
                event_id = fill_id(wire, address)
            except WireError as error:
                await self._on_unreadable(bytes(row).decode(errors="replace"), f"fill of {address}: {error}")
                continue
            if is_perpetual(wire.coin):
                fills.append(_raw(event_id, influencer, address, row, now))
                self._snapshots.add_section(address, wire.coin.rpartition(":")[0])
        new = await self._writer.insert(address, fills)
        FILLS.inc(new)
        log.info("backfill.done", address=address, from_ms=from_ms, fills=len(rows), new=new)
        await self._snapshots.refresh_now(address)


def _raw(event_id: str, influencer: str, address: str, row: Raw, now: int) -> RawReceived:
    return RawReceived(
        raw_id=event_id,
        venue=Venue.HYPERLIQUID,
        channel=FILLS_CHANNEL,
        influencer_id=influencer,
        address=address,
        payload=row,
        detect_time=now,
    )
