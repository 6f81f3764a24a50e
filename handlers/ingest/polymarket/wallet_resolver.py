"""Which proxy wallets belong to the followed addresses.

On Polymarket proxy wallets trade. A trader is configured by the address that signs for the wallet, or by the wallet
itself. Gamma knows both (docs/venues/polymarket.md, wallets), and its answers are stored in RAW. It is asked again
every hour: a wallet that it names then is followed too, and those that it named before stay, for what they still hold.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from gateways.polymarket.data_api import DataApi
from gateways.polymarket.gamma import Gamma, Profile
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.dead_letters import UNREADABLE, DeadLetters
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings

log = structlog.get_logger()

_CONCURRENT = 8
_LONGEST_QUIET_SECONDS = 30 * 24 * 3_600
"""An address without profile, positions and activity for so long is no wallet."""


class NotAWalletError(ValueError):
    """The venue knows nothing of an address: no profile, no position, no activity."""


class WalletResolver:
    """Resolves addresses, each by itself, and tries again where that failed.

    `resolved` is called with the profile of each address (None: the address is a wallet itself), `changed` when
    `wallets` may have changed, `answered` whenever the venue answered.
    """

    def __init__(
        self,
        gamma: Gamma,
        data_api: DataApi,
        dead_letters: DeadLetters,
        clock: Callable[[], int],
        settings: PollSettings,
        *,
        resolved: Callable[[str, Profile | None], Awaitable[None]],
        changed: Callable[[], None],
        answered: Callable[[], None],
    ) -> None:
        self._gamma = gamma
        self._data_api = data_api
        self._dead_letters = dead_letters
        self._clock = clock
        self._settings = settings
        self._on_resolved = resolved
        self._on_change = changed
        self._on_answer = answered
        self._followed: dict[str, str] = {}
        self._known: dict[str, list[str]] = {}
        self._working: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_CONCURRENT)
        self._changed = asyncio.Event()

    def restore(self, known: dict[str, list[str]]) -> None:
        """address -> wallets, as resolved before."""
        self._known |= known

    def follow(self, followed: dict[str, str]) -> None:
        """The followed addresses now, each with its influencer."""
        self._followed = followed
        self._changed.set()

    @property
    def wallets(self) -> dict[str, str]:
        """wallet -> influencer, as far as resolved; an address that is configured itself keeps its own influencer."""
        found: dict[str, str] = {}
        for address, influencer in self._followed.items():
            for wallet in self._known.get(address, ()):
                found.setdefault(wallet, influencer)
        found.update((address, self._followed[address]) for address in found.keys() & self._followed.keys())
        return found

    async def run(self) -> None:
        """Resolve every followed address that is not known yet, and ask for the known ones again, until cancelled."""
        try:
            while True:
                for address in self._followed.keys() - self._working.keys():
                    self._working[address] = asyncio.create_task(self._follow_changes(address))
                for address in self._working.keys() - self._followed.keys():
                    self._working.pop(address).cancel()
                await self._changed.wait()
                self._changed.clear()
                for address, task in list(self._working.items()):
                    if task.done():
                        self._working.pop(address).result()
        finally:
            for task in self._working.values():
                task.cancel()
            await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def _follow_changes(self, address: str) -> None:
        try:
            if address not in self._known:
                await self._resolve(address)
            while True:
                await asyncio.sleep(self._settings.profile_again * random.uniform(0.9, 1.1))
                try:
                    async with self._slots:
                        profile = await self._gamma.profile(address)
                except (VenueUnavailableError, *UNREADABLE) as error:
                    log.warning("polymarket.not_resolved", address=address, error=str(error))
                    continue
                known = self._known[address]
                new = [wallet for wallet in (profile.proxy_wallets if profile else ()) if wallet not in known]
                if profile is not None and new:
                    await self._on_resolved(address, profile._replace(proxy_wallets=tuple(new)))
                    log.warning("polymarket.wallets_changed", address=address, new=new, before=known)
                    self._known[address] = [*known, *new]
                    self._on_change()
        finally:
            self._changed.set()

    async def _resolve(self, address: str) -> None:
        while True:
            again = self._settings.resolve_again
            try:
                async with self._slots:
                    wallets = await self._request(address)
                self._known[address] = wallets
                self._on_answer()
                self._on_change()
                return
            except NotAWalletError as error:
                self._on_answer()
                key, payload = f"polymarket:wallet:{address}", address.encode()
                if await self._dead_letters.write(key, subject=address, payload=payload, error=str(error)):
                    metrics.NO_WALLETS.inc()
                again = self._settings.no_wallet_again
            except (VenueUnavailableError, *UNREADABLE) as error:
                log.warning("polymarket.not_resolved", address=address, error=str(error), again_in_seconds=again)
            await asyncio.sleep(again)

    async def _request(self, address: str) -> list[str]:
        try:
            profile = await self._gamma.profile(address)
        except (VenueUnavailableError, *UNREADABLE):
            # An address that trades is followed at once, whatever Gamma answers when it is back.
            if await self._trades(address, self._settings.start_back):
                await self._on_resolved(address, None)
                return [address]
            raise
        if profile is not None and profile.proxy_wallets:
            await self._on_resolved(address, profile)
            return list(profile.proxy_wallets)
        if await self._trades(address, _LONGEST_QUIET_SECONDS):
            await self._on_resolved(address, None)
            return [address]
        raise NotAWalletError(
            f"{address} is followed on Polymarket and is no wallet there: no profile, no positions, no activity;"
            " follow the proxy wallet or the address that signs for it"
        )

    async def _trades(self, address: str, seconds: int) -> bool:
        if msgspec.json.decode(await self._data_api.positions(address)):
            return True
        return bool(await self._data_api.activity(address, max(1, self._clock() // SECOND - seconds)))
