"""What each followed account counts as its equity: its mode, and of a unified account the spot balance.

In a unified account the reports of the dexes state only the collateral that is posted there. The mode is an expensive
request (docs/venues/hyperliquid.md, limits), so accounts are asked one by one when nothing else needs the request
budget. An answer is stored when it differs from the last one; without any the reports of the dexes count.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog
from msgspec import Raw, Struct, json

from domain.events import RawReceived, Venue
from gateways.hyperliquid.account_mode import AccountMode, parse_mode
from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.parsing import MILLISECOND
from gateways.hyperliquid.raw_events import MODE_CHANNEL
from gateways.venue_errors import VenueUnavailableError, WireError
from handlers.ingest.raw_writer import RawWriter

log = structlog.get_logger()


class ModeSettings(Struct, frozen=True):
    """How often an account is asked, in seconds."""

    every: float = 3_600.0
    """For its mode."""
    unified_every: float = 300.0
    """For the balance of one that is known as unified, and its mode with it."""
    pause: float = 1.0
    """Between two rounds over the accounts."""


class AccountModes:
    """Asks for the modes of the followed accounts and stores what changed as raw events."""

    def __init__(
        self,
        info: InfoClient,
        raw_writer: RawWriter,
        clock: Callable[[], int],
        settings: ModeSettings = ModeSettings(),  # noqa: B008 - frozen
    ) -> None:
        self._info = info
        self._raw_writer = raw_writer
        self._clock = clock
        self._settings = settings
        self._followed: dict[str, str] = {}
        self._known: dict[tuple[str, str], AccountMode] = {}
        """By address and influencer."""
        self._due: dict[str, float] = {}

    def restore(self, raw: RawReceived) -> None:
        """Take note of an answer that is stored in RAW."""
        try:
            self._known[raw.address, raw.influencer_id] = parse_mode(bytes(raw.payload))
        except WireError as error:
            log.warning("account.mode_unreadable", id=raw.raw_id, error=str(error))

    def follow(self, followed: Mapping[str, str]) -> None:
        """Follow exactly these addresses, each for an influencer; a new one is asked in the next round."""
        self._due = {
            address: self._due.get(address, 0.0) if self._followed.get(address) == influencer else 0.0
            for address, influencer in followed.items()
        }
        self._followed = dict(followed)

    async def run(self) -> None:
        """Ask every account when it is due and the budget has time for it, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            for address in [address for address, at in self._due.items() if at <= loop.time()]:
                await self._info.spare()
                influencer = self._followed.get(address)
                if influencer is None:
                    continue
                try:
                    unified = await self._ask(address, influencer)
                except (VenueUnavailableError, WireError) as error:
                    log.warning("account.no_mode", address=address, error=str(error))
                    unified = False
                if address in self._due:
                    every = self._settings.unified_every if unified else self._settings.every
                    self._due[address] = loop.time() + every
            await asyncio.sleep(self._settings.pause)

    async def _ask(self, address: str, influencer: str) -> bool:
        """Store the mode of an account when it differs from the last one; returns whether it is unified."""
        mode = await self._info.abstraction(address)
        answer: dict[str, Raw] = {"mode": Raw(mode)}
        if parse_mode(json.encode(answer)).is_unified:
            answer["spot"] = Raw(await self._info.spot(address))
        payload = json.encode(answer)
        found, now = parse_mode(payload), self._clock()
        before = self._known.get((address, influencer))
        same = found.is_separate if before is None or before.is_separate else found == before
        if not same:
            await self._raw_writer.put(
                RawReceived(
                    raw_id=f"hl:mode:{address}:{now // MILLISECOND}",
                    venue=Venue.HYPERLIQUID,
                    channel=MODE_CHANNEL,
                    influencer_id=influencer,
                    address=address,
                    payload=Raw(payload),
                    detect_time=now,
                )
            )
            self._known[address, influencer] = found
        return found.is_unified
