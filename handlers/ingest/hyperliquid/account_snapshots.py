"""Account snapshots: the positions of an influencer as the venue reports them, one report for each dex.

Following an address begins with a snapshot of the main dex, and of another dex when the address trades there. Its
trades are held back meanwhile, so that the position they change is known. Snapshots of all other dexes are taken when
nothing else needs the request budget. After a gap in the feed new snapshots are taken.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import structlog
from msgspec import Raw, Struct

from domain.events import RawReceived, Venue
from domain.venue_times import is_ahead
from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.parsing import MILLISECOND, parse_account
from gateways.hyperliquid.raw_events import ACCOUNT_CHANNEL
from gateways.venue_errors import VenueUnavailableError, WireError
from handlers.ingest.ordered_writer import OrderedWriter
from handlers.ingest.raw_writer import RawWriter
from handlers.live.configuration import LiveConfiguration

log = structlog.get_logger()

MAIN = ""
_CHECK_SECONDS = 0.02
_WORKERS, _LATER_WORKERS = 8, 16
_FIRST, _URGENT, _AGAIN = 0, 1, 2
"""Priorities: held trades wait for the snapshot; trades would wait for it; the dex has a snapshot already."""


class SnapshotSettings(Struct, frozen=True):
    """Time limits of account snapshots, in seconds."""

    answer: float = 30.0
    """The longest that a report may take, waiting for the request budget included; trades are held back for less."""
    settle: float = 1.0
    """How long a report waits for the feed to pass its time, so that trades before it are stored before it."""
    retry: float = 30.0
    """Between a report that failed and the next request for it."""


class AccountSnapshots:
    """Fetches account reports of followed addresses and stores them as raw events.

    `newest_ms` returns the newest block time that the feed has delivered.
    """

    def __init__(
        self,
        info: InfoClient,
        configuration: LiveConfiguration,
        raw_writer: RawWriter,
        ordered_writer: OrderedWriter,
        newest_ms: Callable[[], int],
        clock: Callable[[], int],
        settings: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
    ) -> None:
        self._info = info
        self._configuration = configuration
        self._raw_writer = raw_writer
        self._ordered_writer = ordered_writer
        self._newest_ms = newest_ms
        self._clock = clock
        self._settings = settings
        self._jobs: asyncio.PriorityQueue[tuple[int, int, str, str]] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._priorities: dict[tuple[str, str], int] = {}
        self._later: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._requested: set[tuple[str, str]] = set()
        self._stored: set[str] = set()
        self._sections: defaultdict[str, set[str]] = defaultdict(lambda: {MAIN})
        """By address, the dexes on which it holds or trades something."""
        self._other_sections: list[str] = []
        self._followed: dict[str, str] | None = None
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def restore(self, raw: RawReceived) -> None:
        """Take note of an account report that is stored in RAW; one that is dated wrongly sets no position."""
        if is_ahead(_as_of(raw), raw.detect_time):
            return
        section = raw.channel.partition("@")[2]
        self._requested.add((raw.address, section))
        self._stored.add(raw.address)
        try:
            if parse_account(bytes(raw.payload)).positions:
                self._sections[raw.address].add(section)
        except WireError as error:
            log.warning("account.unreadable", id=raw.raw_id, error=str(error))

    def has_snapshot(self, address: str) -> bool:
        """True when a report of the account is stored."""
        return address in self._stored

    def follow(self, followed: Mapping[str, str]) -> None:
        """Follow exactly these addresses, each for an influencer.

        An address without a snapshot gets its first one. An address that was followed before, with a pause or for
        another influencer, gets a new one; at the start the backfill takes care of that.
        """
        before, self._followed = self._followed, dict(followed)
        for address, influencer in followed.items():
            if before is not None and before.get(address) == influencer:
                continue
            if (address, MAIN) not in self._requested:
                self._request_first(address, MAIN)
                for section in self._other_sections:
                    self._later.put_nowait((address, section))
            elif before is not None:
                self.refresh([address])

    def traded(self, address: str, section: str) -> None:
        """An address trades on a dex: that is part of its snapshots from now on, and this one comes first."""
        sections = self._sections[address]
        if section not in sections:
            sections.add(section)
            if (address, section) not in self._requested:
                self._request_first(address, section)
        if self._priorities.get((address, section)) == _URGENT:
            self._request(address, section, _FIRST)

    def add_section(self, address: str, section: str) -> None:
        """The next snapshots of this account include this dex."""
        self._sections[address].add(section)

    def refresh(self, addresses: Iterable[str]) -> None:
        """Request new reports of these accounts, one for each dex on which they hold or trade something."""
        for address in addresses:
            for section in self._sections[address]:
                self._request(address, section, _AGAIN)

    async def refresh_now(self, address: str) -> None:
        """Take a new snapshot of one account. Raises VenueUnavailableError, WireError or TimeoutError."""
        for section in sorted(self._sections[address]):
            self._requested.add((address, section))
            async with asyncio.timeout(self._settings.answer):
                raw = await self._fetch(address, section)
            await self._store(raw, settle=True)

    async def idle(self) -> None:
        """Wait until no requested report is outstanding, apart from those of other dexes that can wait."""
        await self._idle.wait()

    def listed(self, sections: Iterable[str]) -> None:
        """New dexes were listed: every account gets a snapshot of them when there is time."""
        new = [section for section in sections if section != MAIN and section not in self._other_sections]
        self._other_sections += new
        self._request_later(new)

    async def run(self, sections: Iterable[str]) -> None:
        """Take the requested snapshots, until cancelled; `sections` are the dexes of the venue."""
        self._other_sections = [section for section in sections if section != MAIN]
        self._request_later(self._other_sections)
        later = (self._work_later() for _ in range(_LATER_WORKERS))
        await asyncio.gather(*(self._work() for _ in range(_WORKERS)), *later)

    def _request_first(self, address: str, section: str) -> None:
        self._requested.add((address, section))
        self._ordered_writer.hold(address)
        self._request(address, section, _URGENT)

    def _request(self, address: str, section: str, priority: int) -> None:
        if self._priorities.get((address, section), priority + 1) > priority:
            self._priorities[address, section] = priority
            self._idle.clear()
            self._jobs.put_nowait((priority, next(self._numbers), address, section))

    def _request_later(self, sections: list[str]) -> None:
        for address in {address for address, _ in self._requested}:
            for section in sections:
                self._later.put_nowait((address, section))

    async def _work(self) -> None:
        while True:
            priority, _, address, section = await self._jobs.get()
            if self._priorities.get((address, section)) != priority:
                continue  # requested again since, with a higher priority
            del self._priorities[address, section]
            self._working += 1
            try:
                await self._take(address, section, settle=priority == _AGAIN)
            finally:
                self._working -= 1
                if not self._priorities and not self._working:
                    self._idle.set()
            if priority < _AGAIN:
                await self._ordered_writer.release(address)

    async def _work_later(self) -> None:
        while True:
            address, section = await self._later.get()
            if (address, section) in self._requested:
                continue
            await self._idle.wait()
            await self._info.spare()
            if (address, section) not in self._requested:
                self._requested.add((address, section))
                await self._take(address, section, settle=True)

    async def _take(self, address: str, section: str, *, settle: bool) -> None:
        try:
            async with asyncio.timeout(self._settings.answer):
                raw = await self._fetch(address, section)
        except (VenueUnavailableError, WireError, TimeoutError) as error:
            log.warning("account.no_snapshot", address=address, dex=section, error=str(error) or "no answer in time")
            asyncio.get_running_loop().call_later(self._settings.retry, self._request, address, section, _AGAIN)
            return
        await self._store(raw, settle=settle)

    async def _fetch(self, address: str, section: str) -> RawReceived | None:
        influencer = self._configuration.directory.influencer_of(Venue.HYPERLIQUID, address)
        if influencer is None:
            return None
        payload = await self._info.account(address, section)
        report, now = parse_account(payload), self._clock()
        if is_ahead(report.time, now):
            raise WireError(f"the account report is dated {report.time} ns, and it was received at {now} ns")
        if report.positions:
            self._sections[address].add(section)
        return RawReceived(
            raw_id=f"hl:account:{section}:{address}:{report.time}",
            venue=Venue.HYPERLIQUID,
            channel=f"{ACCOUNT_CHANNEL}@{section}" if section else ACCOUNT_CHANNEL,
            influencer_id=influencer,
            address=address,
            payload=Raw(payload),
            detect_time=now,
        )

    async def _store(self, raw: RawReceived | None, *, settle: bool) -> None:
        if raw is None:
            return
        as_of_ms = _as_of(raw) // MILLISECOND
        for _ in range(round(self._settings.settle / _CHECK_SECONDS)):
            if not settle or self._newest_ms() > as_of_ms:
                break
            await asyncio.sleep(_CHECK_SECONDS)
        await self._raw_writer.put(raw)
        self._stored.add(raw.address)


def _as_of(raw: RawReceived) -> int:
    """The time (ns) of an account report, which its id ends with."""
    return int(raw.raw_id.rpartition(":")[2])
