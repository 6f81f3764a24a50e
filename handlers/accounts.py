"""Seeding: where an influencer stands when following begins, from the venue's own account report.

Trades of an address are held back until its first report is stored (or has failed for five seconds), so that the
position they change is known. After a gap in the feed every account is reported again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable

import structlog
from msgspec import Raw

from domain.events import RawReceived, Venue
from gateways.hyperliquid.info import InfoClient
from gateways.hyperliquid.wire import parse_account
from gateways.venue import VenueUnavailableError, WireError
from handlers.configuration import Configuration
from handlers.normalize import ACCOUNT_CHANNEL
from handlers.recorder import Recorder

log = structlog.get_logger()

HOLD_SECONDS = 5.0


class AccountSeeder:
    """Fetches account reports of followed addresses and records them as raw events."""

    def __init__(
        self, info: InfoClient, configuration: Configuration, recorder: Recorder, clock: Callable[[], int]
    ) -> None:
        self._info = info
        self._configuration = configuration
        self._recorder = recorder
        self._clock = clock
        self._wanted: asyncio.Queue[tuple[int, str]] = asyncio.PriorityQueue()
        self._held: defaultdict[str, list[RawReceived]] = defaultdict(list)
        self._holding: dict[str, float] = {}
        self._seeded: set[str] = set()
        self._sections: list[str] = [""]

    def known(self, raw: RawReceived) -> None:
        """An account report that is in the log already."""
        self._seeded.add(raw.address)

    def follow(self, addresses: dict[str, str]) -> None:
        """Seed every address that has not been seeded yet, holding its trades meanwhile."""
        for address in addresses.keys() - self._seeded:
            self._seeded.add(address)
            self._holding[address] = asyncio.get_running_loop().time() + HOLD_SECONDS
            self._wanted.put_nowait((0, address))

    def repair(self) -> None:
        """Something was missed: report every followed account again."""
        for address in self._configuration.directory.followed(Venue.HYPERLIQUID):
            self._wanted.put_nowait((1, address))

    async def hold(self, raw: RawReceived) -> bool:
        """True when the trade is kept until its account is seeded."""
        until = self._holding.get(raw.address)
        if until is None:
            return False
        if asyncio.get_running_loop().time() > until:
            await self._release(raw.address)
            return False
        self._held[raw.address].append(raw)
        return True

    async def _release(self, address: str) -> None:
        self._holding.pop(address, None)
        for raw in self._held.pop(address, []):
            await self._recorder.put(raw)

    async def run(self, sections: list[str]) -> None:
        """Work off what is wanted, until cancelled; `sections` are the parts an account report comes in."""
        self._sections = sections or [""]
        while True:
            _, address = await self._wanted.get()
            try:
                async with asyncio.timeout(HOLD_SECONDS):
                    await self._seed(address)
            except (VenueUnavailableError, WireError, TimeoutError) as error:
                log.warning("account.not_seeded", address=address, error=str(error) or "no answer in time")
                asyncio.get_running_loop().call_later(30.0, self._wanted.put_nowait, (2, address))
            await self._release(address)

    async def _seed(self, address: str) -> None:
        influencer = self._configuration.directory.influencer_of(Venue.HYPERLIQUID, address)
        if influencer is None:
            return
        for section in self._sections:
            payload = await self._info.account(address, section)
            as_of, _ = parse_account(payload)
            channel = f"{ACCOUNT_CHANNEL}@{section}" if section else ACCOUNT_CHANNEL
            await self._recorder.put(
                RawReceived(
                    raw_id=f"hl:account:{section}:{address}:{as_of}",
                    venue=Venue.HYPERLIQUID,
                    channel=channel,
                    influencer_id=influencer,
                    address=address,
                    payload=Raw(payload),
                    detect_time=self._clock(),
                )
            )
