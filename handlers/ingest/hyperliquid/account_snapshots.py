"""Seeding: where an influencer stands, from the venue's own account reports, one for each dex.

Following begins with the report of the main dex, and with that of another dex when the address trades there; its
trades are held back meanwhile, so that the position they change is known. The reports of all other dexes follow when
nothing else wants the request budget. After a gap in the feed the accounts are reported again.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import structlog
from msgspec import Raw

from domain.events import RawReceived, Venue
from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.parsing import MILLISECOND, parse_account
from gateways.hyperliquid.raw_events import ACCOUNT_CHANNEL
from gateways.venue_errors import VenueUnavailableError, WireError
from handlers.ingest.hyperliquid.ordered_writer import OrderedWriter
from handlers.ingest.raw_writer import RawWriter
from handlers.live.configuration import LiveConfiguration

log = structlog.get_logger()

MAIN = ""
ANSWER_SECONDS = 30.0
"""The longest that a report may take, waiting for the request budget included; trades are held back for less."""
SETTLE_SECONDS = 1.0
"""How long a report waits for the feed to pass its time: trades up to it that are still under way come before it."""
RETRY_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_WORKERS, _LATER_WORKERS = 8, 16
_FIRST, _URGENT, _AGAIN = 0, 1, 2
"""Trades wait for it; trades would wait for it; it was reported before."""


class AccountSnapshots:
    """Fetches account reports of followed addresses and records them as raw events.

    `newest_ms` says the newest block time that the feed has delivered.
    """

    def __init__(
        self,
        info: InfoClient,
        configuration: LiveConfiguration,
        recorder: RawWriter,
        intake: OrderedWriter,
        newest_ms: Callable[[], int],
        clock: Callable[[], int],
    ) -> None:
        self._info = info
        self._configuration = configuration
        self._recorder = recorder
        self._intake = intake
        self._newest_ms = newest_ms
        self._clock = clock
        self._jobs: asyncio.PriorityQueue[tuple[int, int, str, str]] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._due: dict[tuple[str, str], int] = {}
        self._later: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._asked: set[tuple[str, str]] = set()
        self._reported: set[str] = set()
        self._sections: defaultdict[str, set[str]] = defaultdict(lambda: {MAIN})
        self._others: list[str] = []
        self._followed: dict[str, str] | None = None
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def known(self, raw: RawReceived) -> None:
        """An account report that stands in the log."""
        section = raw.channel.partition("@")[2]
        self._asked.add((raw.address, section))
        self._reported.add(raw.address)
        try:
            if parse_account(bytes(raw.payload)).positions:
                self._sections[raw.address].add(section)
        except WireError as error:
            log.warning("account.unreadable", id=raw.raw_id, error=str(error))

    def knows(self, address: str) -> bool:
        """True when a report of the account was recorded."""
        return address in self._reported

    def follow(self, followed: Mapping[str, str]) -> None:
        """Exactly these addresses are followed now, each for an influencer. Seed who was never seeded; report again who
        was followed earlier, or for another influencer, who knows nothing of it. At the start the backfill does that.
        """
        before, self._followed = self._followed, dict(followed)
        for address, influencer in followed.items():
            if before is not None and before.get(address) == influencer:
                continue
            if (address, MAIN) not in self._asked:
                self._begin(address, MAIN)
                for section in self._others:
                    self._later.put_nowait((address, section))
            elif before is not None:
                self.repair([address])

    def traded(self, address: str, section: str) -> None:
        """An address trades in a section: it is part of the account from now on, and no report is more urgent."""
        sections = self._sections[address]
        if section not in sections:
            sections.add(section)
            if (address, section) not in self._asked:
                self._begin(address, section)
        if self._due.get((address, section)) == _URGENT:
            self._want(address, section, _FIRST)

    def includes(self, address: str, section: str) -> None:
        """The next reports of this account have this section too."""
        self._sections[address].add(section)

    def repair(self, addresses: Iterable[str]) -> None:
        """Report accounts again, one report for each section that matters."""
        for address in addresses:
            for section in self._sections[address]:
                self._want(address, section, _AGAIN)

    async def report(self, address: str) -> None:
        """Report one account again, now. Raises VenueUnavailableError, WireError or TimeoutError."""
        for section in sorted(self._sections[address]):
            self._asked.add((address, section))
            async with asyncio.timeout(ANSWER_SECONDS):
                raw = await self._fetch(address, section)
            await self._record(raw, settle=True)

    async def idle(self) -> None:
        """Wait until no report is wanted that anybody waits for."""
        await self._idle.wait()

    def listed(self, sections: Iterable[str]) -> None:
        """Parts of account reports that there were not before: everybody may hold something there soon."""
        new = [section for section in sections if section != MAIN and section not in self._others]
        self._others += new
        for address in {address for address, _ in self._asked}:
            for section in new:
                self._later.put_nowait((address, section))

    async def run(self, sections: Iterable[str]) -> None:
        """Work off what is wanted, until cancelled; `sections` are the parts an account report comes in."""
        self._others = [section for section in sections if section != MAIN]
        for address in {address for address, _ in self._asked}:
            for section in self._others:
                self._later.put_nowait((address, section))
        later = (self._work_later() for _ in range(_LATER_WORKERS))
        await asyncio.gather(*(self._work() for _ in range(_WORKERS)), *later)

    def _begin(self, address: str, section: str) -> None:
        self._asked.add((address, section))
        self._intake.hold(address)
        self._want(address, section, _URGENT)

    def _want(self, address: str, section: str, priority: int) -> None:
        if self._due.get((address, section), priority + 1) > priority:
            self._due[address, section] = priority
            self._idle.clear()
            self._jobs.put_nowait((priority, next(self._numbers), address, section))

    async def _work(self) -> None:
        while True:
            priority, _, address, section = await self._jobs.get()
            if self._due.get((address, section)) != priority:
                continue  # wanted again since with more haste
            del self._due[address, section]
            self._working += 1
            try:
                await self._seed(address, section, settle=priority == _AGAIN)
            finally:
                self._working -= 1
                if not self._due and not self._working:
                    self._idle.set()
            if priority < _AGAIN:
                await self._intake.release(address)

    async def _work_later(self) -> None:
        while True:
            address, section = await self._later.get()
            if (address, section) in self._asked:
                continue
            await self._idle.wait()
            await self._info.spare()
            if (address, section) not in self._asked:
                self._asked.add((address, section))
                await self._seed(address, section, settle=True)

    async def _seed(self, address: str, section: str, *, settle: bool) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                raw = await self._fetch(address, section)
        except (VenueUnavailableError, WireError, TimeoutError) as error:
            log.warning("account.not_seeded", address=address, dex=section, error=str(error) or "no answer in time")
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._want, address, section, _AGAIN)
            return
        await self._record(raw, settle=settle)

    async def _fetch(self, address: str, section: str) -> RawReceived | None:
        influencer = self._configuration.directory.influencer_of(Venue.HYPERLIQUID, address)
        if influencer is None:
            return None
        payload = await self._info.account(address, section)
        report = parse_account(payload)
        if report.positions:
            self._sections[address].add(section)
        return RawReceived(
            raw_id=f"hl:account:{section}:{address}:{report.time}",
            venue=Venue.HYPERLIQUID,
            channel=f"{ACCOUNT_CHANNEL}@{section}" if section else ACCOUNT_CHANNEL,
            influencer_id=influencer,
            address=address,
            payload=Raw(payload),
            detect_time=self._clock(),
        )

    async def _record(self, raw: RawReceived | None, *, settle: bool) -> None:
        """Record a report, with `settle` once the feed has delivered what it contains."""
        if raw is None:
            return
        as_of_ms = int(raw.raw_id.rpartition(":")[2]) // MILLISECOND
        for _ in range(round(SETTLE_SECONDS / _LOOK_SECONDS)):
            if not settle or self._newest_ms() > as_of_ms:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        await self._recorder.put(raw)
        self._reported.add(raw.address)
