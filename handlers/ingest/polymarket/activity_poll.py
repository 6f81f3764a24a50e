"""One sweep: a wallet's activity since its last seen second, less an overlap; what is new goes to RAW, oldest first.

A window starts at a whole second and is one complete response, so equal rows have the same numbers in every window
that holds them: what was recorded is recognised by id, however often and in whatever order windows overlap.
"""

from collections.abc import Callable

import structlog

from gateways.polymarket.activity import Kind
from gateways.polymarket.data_api import DataApi
from gateways.polymarket.gamma import Gamma
from gateways.polymarket.raw_events import ACTIVITY_CHANNEL, MARKET_CHANNEL
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.activity_page import ActivityPage, Row, read
from handlers.ingest.polymarket.dead_letters import UNREADABLE, DeadLetters, digest
from handlers.ingest.polymarket.outbox import Outbox
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings, WalletState

log = structlog.get_logger()


class ActivityPoll:
    """Fetches windows and records what is new in them; one sweep of a wallet at a time."""

    def __init__(
        self,
        data_api: DataApi,
        gamma: Gamma,
        outbox: Outbox,
        letters: DeadLetters,
        clock: Callable[[], int],
        pace: PollSettings,
    ) -> None:
        self._data_api = data_api
        self._gamma = gamma
        self._outbox = outbox
        self._letters = letters
        self._clock = clock
        self._pace = pace
        self.stalled = False
        """While True, nothing that the API serves moves where windows start: it may show late what it hides now."""

    async def fetch(self, wallet: WalletState, start_s: int) -> ActivityPage:
        """The wallet's activity from a whole second on; what cannot be read is buried.

        Raises VenueUnavailableError, or WireError when the response as a whole cannot be read.
        """
        window = read(await self._data_api.activity(wallet.address, start_s), wallet.address, start_s, self._clock())
        for refused in window.refused:
            key, payload = refused.key, bytes(refused.payload)
            if await self._letters.write(key, subject=wallet.address, payload=payload, error=refused.error):
                metrics.ROWS.labels("unreadable").inc()
        if window.strange:
            metrics.ROWS.labels("strange").inc(window.strange)
            log.warning("polymarket.strange_rows", wallet=wallet.address, rows=window.strange, start_s=start_s)
        return window

    async def sweep(self, wallet: WalletState) -> int:
        """Fetch and record; the number of new rows. Raises VenueUnavailableError or WireError: try again later."""
        start = wallet.window(self._pace.overlap)
        try:
            window = await self.fetch(wallet, start)
            new, complete = await self.record(wallet, window)
        except BaseException:
            wallet.reach(start)
            raise
        if not complete:
            wallet.reach(start)
        return new

    async def record(self, wallet: WalletState, window: ActivityPage) -> tuple[int, bool]:
        """Hand on the rows that were never seen; how many, and whether that was all of them.

        The description of a market goes before its first row that names no asset; while Gamma does not answer, such a
        row and what is newer than it wait for the next sweep.
        """
        fresh = [row for row in window.rows if row.id not in wallet.seen]
        metrics.ROWS.labels("seen").inc(len(window.rows) - len(fresh))
        described: dict[str, bytes] | None = None
        for done, row in enumerate(fresh):
            if _needs_market(wallet, row):
                if described is None:
                    described = await self._describe(wallet, fresh)
                    if described is None:
                        return done, False
                await self._put_market(wallet, row.activity.market, described)
            wallet.seen.add(row.id)
            self._pair(wallet, row)
            await self._outbox.put(wallet, self._outbox.event(wallet, ACTIVITY_CHANNEL, row.id, bytes(row.payload)))
            metrics.ROWS.labels("new").inc()
            self._advance(wallet, row.activity.event_time // SECOND)
        return len(fresh), True

    def _advance(self, wallet: WalletState, second: int) -> None:
        if not self.stalled:
            wallet.last_seen_s = max(wallet.last_seen_s, second)

    def _pair(self, wallet: WalletState, row: Row) -> None:
        activity = row.activity
        if activity.kind is Kind.TRADE and activity.side is not None:
            wallet.joins.row((activity.transaction, activity.asset, activity.side), activity.share_micros)

    async def _describe(self, wallet: WalletState, fresh: list[Row]) -> dict[str, bytes] | None:
        """The Gamma objects of the markets that have to go first; None while Gamma does not answer."""
        wanted = list(dict.fromkeys(row.activity.market for row in fresh if _needs_market(wallet, row)))
        try:
            return {market: bytes(payload) for market, payload in (await self._gamma.markets(wanted)).items()}
        except VenueUnavailableError as error:
            log.warning("polymarket.market_unknown", wallet=wallet.address, markets=wanted, error=str(error))
            return None
        except UNREADABLE as error:
            key = f"polymarket:markets:{digest(','.join(wanted).encode())}"
            await self._letters.write(key, subject=wallet.address, payload=",".join(wanted).encode(), error=str(error))
            return {}

    async def _put_market(self, wallet: WalletState, market: str, described: dict[str, bytes]) -> None:
        payload = described.get(market)
        if payload is None:
            log.warning("polymarket.market_not_listed", wallet=wallet.address, market=market)
            return
        wallet.described.add(market)
        raw_id = f"pm:market:{market}:{wallet.address}"
        await self._outbox.put(wallet, self._outbox.event(wallet, MARKET_CHANNEL, raw_id, payload))


def _needs_market(wallet: WalletState, row: Row) -> bool:
    activity = row.activity
    return bool(activity.market) and not activity.asset and activity.market not in wallet.described
