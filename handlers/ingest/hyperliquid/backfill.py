"""Repairing what the feed missed: the fills of the followed addresses, asked for one address after the other.

A fill carries the id of its side of the public trade, so what was seen is known and only the missing is recorded.
After its fills, an account is reported again: that catches what happens without a fill. The few busiest addresses
come at once, their newest trades held back meanwhile, so that the missing fills are folded, in order, before them.
Thousands of others would wait too long for that: their accounts are reported first, so that their positions are
true, and the fills that follow are history by then. Only perpetuals are recorded, like on the feed: of a spot purchase
nobody would see the sale.
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
from handlers.ingest.hyperliquid.ordered_writer import OrderedWriter
from handlers.live.configuration import LiveConfiguration

log = structlog.get_logger()

START_MS, RECONNECT_MS, GAP_MS = 900_000, 300_000, 900_000
"""How far back to look at least: at the start, after a lost connection, before a position that was not expected."""
LONGEST_MS = 86_400_000
OVERLAP_MS = 10_000
BUSIEST = 8
_AHEAD_MS = 60_000
_SHORTEST_PAUSE, _LONGEST_PAUSE, _GAP_PAUSE = 1.0, 60.0, 60.0

FILLS = Counter("vibe_backfill_fills_total", "Fills recorded that the feed had missed")
ADDRESSES = Counter("vibe_backfill_addresses_total", "Addresses backfilled, by outcome", ["outcome"])
WAITING = Gauge("vibe_backfill_waiting_addresses", "Addresses that wait to be backfilled")


def since(alive_ms: int, now_ms: int, at_least_ms: int) -> int:
    """From when on fills may be missing: before the feed was last alive, `at_least_ms` ago, a day ago at most."""
    reach = now_ms - at_least_ms
    if alive_ms:
        reach = min(reach, alive_ms - OVERLAP_MS)
    return max(reach, now_ms - LONGEST_MS)


class Backfill:
    """A queue of addresses, each with the time (ms) from which its fills may be missing.

    `misread(text, error)` takes care of a row that cannot be understood.
    """

    def __init__(
        self,
        info: InfoClient,
        configuration: LiveConfiguration,
        intake: OrderedWriter,
        seeder: AccountSnapshots,
        clock: Callable[[], int],
        misread: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._info = info
        self._configuration = configuration
        self._intake = intake
        self._seeder = seeder
        self._clock = clock
        self._misread = misread
        self._since: dict[str, int] = {}
        self._first: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._done: dict[str, float] = {}
        self._busy: set[str] = set()
        self._moved = asyncio.Event()

    def expect(self, addresses: Iterable[str]) -> None:
        """Something was missed: hold back the busiest of these addresses, so that `missed` can fill in before them."""
        for address in self._busiest(addresses):
            self._intake.hold(address)

    def missed(self, since_ms: Mapping[str, int]) -> None:
        """Fills may be missing: of these addresses, each from its time on."""
        first = self._busiest(since_ms)
        self._first.update(first)
        for address in first:
            self._intake.hold(address)
        for address, from_ms in since_ms.items():
            self._since[address] = min(from_ms, self._since.get(address, from_ms))
        rest = since_ms.keys() - set(first)
        self._seeder.repair(sorted(rest, key=lambda address: -self._intake.activity[address]))
        WAITING.set(len(self._since))
        self._moved.set()

    def on_gap(self, gap: GapDetected) -> None:
        """A position was not what had been expected: look for the fills that led there."""
        log.warning(
            "backfill.gap", address=gap.address, asset=gap.asset, expected=gap.expected_micros, found=gap.found_micros
        )
        pause = self._done.get(gap.address, 0.0) + _GAP_PAUSE
        if pause > asyncio.get_running_loop().time():
            # It was just looked for. What no fill explains would be looked for in circles.
            self._not_before[gap.address] = max(pause, self._not_before.get(gap.address, 0.0))
        from_ms = gap.event_time // MILLISECOND - GAP_MS
        self._since[gap.address] = min(from_ms, self._since.get(gap.address, from_ms))
        self._first.add(gap.address)
        self._moved.set()

    async def run(self) -> None:
        """Work off the queue until cancelled: what is urgent, and next to it what can wait."""
        await asyncio.gather(self._work(self._next_first), self._work(self._next_other))

    def _busiest(self, addresses: Iterable[str]) -> list[str]:
        return heapq.nlargest(BUSIEST, addresses, key=lambda address: self._intake.activity[address])

    async def _work(self, following: Callable[[], Awaitable[str | None]]) -> None:
        while True:
            address = await following()
            if address is None:
                self._moved.clear()
                try:
                    async with asyncio.timeout(0.5):
                        await self._moved.wait()
                except TimeoutError:
                    pass
                continue
            self._busy.add(address)
            try:
                await self._repair(address)
            finally:
                self._busy.discard(address)
                self._moved.set()

    async def _next_first(self) -> str | None:
        return self._pick(first=True)

    async def _next_other(self) -> str | None:
        if self._pick(first=False) is None or self._hurried():
            return None
        await self._seeder.idle()
        await self._info.spare()
        return None if self._hurried() else self._pick(first=False)

    def _hurried(self) -> bool:
        """True while there is somebody whose turn comes before all who can wait."""
        return bool(self._busy) or self._pick(first=True) is not None

    def _pick(self, *, first: bool) -> str | None:
        """The busiest address whose turn has come."""
        now = asyncio.get_running_loop().time()
        ready = (
            address
            for address in self._since
            if (address in self._first) is first
            and address not in self._busy
            and self._not_before.get(address, 0.0) <= now
        )
        return max(ready, key=lambda address: self._intake.activity[address], default=None)

    async def _repair(self, address: str) -> None:
        from_ms, first = self._since.pop(address), address in self._first
        self._first.discard(address)
        self._not_before.pop(address, None)
        WAITING.set(len(self._since))
        try:
            await self._fill(address, from_ms)
        except (VenueUnavailableError, WireError, TimeoutError) as error:
            failures = self._failures[address] = self._failures.get(address, 0) + 1
            pause = min(_SHORTEST_PAUSE * 2 ** min(failures - 1, 10), _LONGEST_PAUSE)
            log.warning("backfill.retry", address=address, error=str(error) or "no answer in time", in_seconds=pause)
            ADDRESSES.labels("failed").inc()
            self._since[address] = min(from_ms, self._since.get(address, from_ms))
            self._not_before[address] = asyncio.get_running_loop().time() + pause
            if first:
                self._first.add(address)
        else:
            self._failures.pop(address, None)
            ADDRESSES.labels("done").inc()
        self._done[address] = asyncio.get_running_loop().time()

    async def _fill(self, address: str, from_ms: int) -> None:
        influencer = self._configuration.directory.influencer_of(Venue.HYPERLIQUID, address)
        if influencer is None:
            await self._intake.release(address)
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
                await self._misread(bytes(row).decode(errors="replace"), f"fill of {address}: {error}")
                continue
            if is_perpetual(wire.coin):
                fills.append(_raw(event_id, influencer, address, row, now))
                self._seeder.includes(address, wire.coin.rpartition(":")[0])
        new = await self._intake.backfilled(address, fills)
        FILLS.inc(new)
        log.info("backfill.done", address=address, from_ms=from_ms, fills=len(rows), new=new)
        await self._seeder.report(address)


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
