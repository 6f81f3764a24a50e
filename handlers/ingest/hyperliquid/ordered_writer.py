"""The way into RAW: each event once, in the order of the venue, although several sources report it.

An address can be held back for a moment, so that what belongs before its newest trades is recorded before them.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from domain.events import RawReceived
from handlers import metrics
from handlers.ingest.raw_writer import RawWriter
from handlers.ingest.recent_ids import RecentIds

HOLD_SECONDS = 5.0
"""The longest that a trade may be held back."""
_LOOK_SECONDS = 0.1


def time_ms(raw_id: str) -> int:
    """The block time in the id of a trade or fill: hl:coin:TIME:tid:address:side, where a coin may hold colons."""
    return int(raw_id.rsplit(":", 4)[1])


class OrderedWriter:
    """Trades and fills on their way to the recorder. `activity` counts them by address."""

    def __init__(self, recorder: RawWriter) -> None:
        self._recorder = recorder
        self._seen = RecentIds()
        self._held: dict[str, list[RawReceived]] = {}
        self._until: dict[str, float] = {}
        self.activity: Counter[str] = Counter()

    def known(self, raw: RawReceived) -> None:
        """A trade or fill that stands in the log."""
        self._seen.add(raw.raw_id)
        self.activity[raw.address] += 1

    def is_new(self, raw_id: str) -> bool:
        """True the first time that an id is asked about."""
        if self._seen.add(raw_id):
            return True
        metrics.REPLAYED.inc()
        return False

    async def trade(self, raw: RawReceived) -> None:
        """A live trade that `is_new`: recorded now, or when its address is no longer held back."""
        self.activity[raw.address] += 1
        held = self._held.get(raw.address)
        if held is None:
            await self._recorder.put(raw)
        else:
            held.append(raw)

    def hold(self, address: str) -> None:
        """Keep back the trades of an address until `release`, for five seconds at most."""
        if address not in self._held:
            self._held[address] = []
            self._until[address] = asyncio.get_running_loop().time() + HOLD_SECONDS

    async def release(self, address: str) -> None:
        """Record what was held back, in order; what comes meanwhile waits its turn."""
        while held := self._held.get(address):
            await self._recorder.put(held.pop(0))
        self._held.pop(address, None)
        self._until.pop(address, None)

    async def backfilled(self, address: str, fills: Iterable[RawReceived]) -> int:
        """Record those fills that are new, in order of time among the trades held back, and release the address.

        Where a fill and a trade held back are one, the fill goes: it says more. Returns how many were new.
        """
        held = {raw.raw_id: raw for raw in self._held.get(address, ())}
        new, count = [], 0
        for raw in fills:
            same = held.pop(raw.raw_id, None)
            if same is not None:
                new.append(replace(raw, detect_time=same.detect_time))
            elif self._seen.add(raw.raw_id):
                new.append(raw)
                count += 1
        ordered = sorted([*new, *held.values()], key=lambda raw: time_ms(raw.raw_id))
        if address in self._held:
            self._held[address] = ordered
            await self.release(address)
        else:
            for raw in ordered:
                await self._recorder.put(raw)
        return count

    async def release_all(self) -> None:
        for address in list(self._held):
            await self.release(address)

    async def run(self) -> None:
        """Release whoever has been held back too long, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = asyncio.get_running_loop().time()
            for address in [address for address, until in self._until.items() if until <= now]:
                await self.release(address)
