"""The way into RAW for both venues: each event once, in order for each address, although several sources report it.

The events of an address can be held back for a short time, so that what happened before them is stored before them.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable

import structlog
from msgspec.structs import replace

from domain.events import RawReceived
from handlers import metrics
from handlers.ingest.raw_writer import RawWriter
from handlers.ingest.recent_ids import RecentIds

log = structlog.get_logger()

_CHECK_SECONDS = 0.1


def inserted_first(raw: RawReceived) -> int:
    """The order in which inserted events go before all that are held back."""
    return 0


class OrderedWriter:
    """In front of the writer of RAW. `activity` counts the events of each address.

    `order` is the key by which inserted events are sorted among those held back (equal keys: inserted ones first). No
    event is held back for longer than `hold_seconds`. Known are the newest `remembered` ids, and those of every event
    that is not stored yet, which the log could not be asked for.
    """

    def __init__(
        self,
        writer: RawWriter,
        *,
        order: Callable[[RawReceived], int] = inserted_first,
        hold_seconds: float = 5.0,
        remembered: int = 200_000,
    ) -> None:
        self._writer = writer
        self._order = order
        self._hold_seconds = hold_seconds
        self._ids = RecentIds(remembered)
        self._held_ids = set[str]()
        self._held: dict[str, deque[RawReceived]] = {}
        self._until: dict[str, float] = {}
        self._releasing = asyncio.Lock()
        self.activity: Counter[str] = Counter()

    def restore(self, raw: RawReceived) -> None:
        """Remember an event that is stored in RAW already."""
        self._ids.add(raw.raw_id)
        self.activity[raw.address] += 1

    def knows(self, raw_id: str) -> bool:
        """True when an event with this id was put, inserted or restored."""
        return raw_id in self._ids or self._is_unstored(raw_id)

    def _is_unstored(self, raw_id: str) -> bool:
        return raw_id in self._held_ids or raw_id in self._writer.on_the_way

    def _remember(self, raw_id: str) -> bool:
        """True when the id is new."""
        return not self._is_unstored(raw_id) and self._ids.add(raw_id)

    async def put(self, raw: RawReceived) -> bool:
        """Store an event, after those held back for its address; False when its id is known."""
        if not self._remember(raw.raw_id):
            return False
        self.activity[raw.address] += 1
        held = self._held.get(raw.address)
        if held is None:
            await self._writer.put(raw)
        else:
            held.append(raw)
            self._held_ids.add(raw.raw_id)
            self._until.setdefault(raw.address, asyncio.get_running_loop().time() + self._hold_seconds)
        return True

    def hold(self, address: str) -> None:
        """Hold back the events of an address until `release` or `insert`."""
        self._held.setdefault(address, deque())

    async def release(self, address: str) -> None:
        """Store what was held back, in order, and hold nothing back from now on."""
        async with self._releasing:
            await self._store_held(address)

    async def insert(self, address: str, events: Iterable[RawReceived]) -> int:
        """Store events of an address, sorted among those held back, and hold nothing back from now on.

        Where an inserted event and one held back have the same id, the inserted one is stored, with the detection time
        of the other. Returns how many were new.
        """
        async with self._releasing:
            held = {raw.raw_id: raw for raw in self._held.get(address, ())}
            inserted: list[RawReceived] = []
            new = 0
            for raw in events:
                same = held.pop(raw.raw_id, None)
                if same is not None:
                    inserted.append(replace(raw, detect_time=same.detect_time))
                elif self._remember(raw.raw_id):
                    inserted.append(raw)
                    self._held_ids.add(raw.raw_id)
                    new += 1
            self._held[address] = deque(sorted([*inserted, *held.values()], key=self._order))
            await self._store_held(address)
        return new

    async def _store_held(self, address: str) -> None:
        held = self._held.get(address, deque())
        while held:
            await self._writer.put(held[0])
            self._held_ids.discard(held.popleft().raw_id)  # only now: if cancelled, `release_all` still finds it
        self._held.pop(address, None)
        self._until.pop(address, None)

    async def release_all(self) -> None:
        """Store everything that is held back."""
        for address in list(self._held):
            await self.release(address)

    async def run(self) -> None:
        """Until cancelled, release each address whose oldest event was held back for long enough."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            now = asyncio.get_running_loop().time()
            for address in [address for address, until in self._until.items() if until <= now]:
                if held := self._held.get(address):
                    log.warning("ingest.hold_expired", address=address, events=len(held))
                    metrics.HOLDS_EXPIRED.labels(held[0].venue.value).inc()
                    await self.release(address)
