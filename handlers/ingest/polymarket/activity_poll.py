"""One poll: a wallet's activity since its newest known second, less an overlap; new rows go to RAW, oldest first.

A page starts at a whole second and is one complete response, so equal rows have the same numbers in every page that has
them. Rows that are stored are recognised by id, however often and in whatever order pages overlap: the newest ids are
in memory, and about rows from before the newest activity the log itself is asked.
"""

from collections.abc import Awaitable, Callable

import structlog

from gateways.polymarket.activity import Kind
from gateways.polymarket.data_api import DataApi
from gateways.polymarket.gamma import Gamma
from gateways.polymarket.raw_events import ACTIVITY_CHANNEL, MARKET_CHANNEL
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.dead_letters import UNREADABLE, DeadLetters, digest
from handlers.ingest.ordered_writer import OrderedWriter
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.activity_page import ActivityPage, Row, read_page
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings, WalletState

log = structlog.get_logger()


class ActivityPoll:
    """Fetches pages and stores what is new in them; one poll of a wallet at a time."""

    def __init__(
        self,
        data_api: DataApi,
        gamma: Gamma,
        writer: OrderedWriter,
        dead_letters: DeadLetters,
        clock: Callable[[], int],
        settings: PollSettings,
        stored_since: Callable[[WalletState, int], Awaitable[set[str]]],
    ) -> None:
        """`stored_since` returns the ids of a wallet's rows in RAW that are from a whole second or later."""
        self._data_api = data_api
        self._gamma = gamma
        self._writer = writer
        self._dead_letters = dead_letters
        self._clock = clock
        self._settings = settings
        self._stored_since = stored_since
        self.stalled = False
        """While True, polls start no later than before: a stalled index may show older rows later."""

    async def fetch(self, wallet: WalletState, start_s: int) -> ActivityPage:
        """The wallet's activity since a whole second; unreadable rows are dead-lettered.

        Raises VenueUnavailableError, or WireError when the response as a whole cannot be read.
        """
        page = read_page(await self._data_api.activity(wallet.address, start_s), wallet.address, start_s, self._clock())
        for refused in page.refused:
            key, payload = refused.key, bytes(refused.payload)
            if await self._dead_letters.write(key, subject=wallet.address, payload=payload, error=refused.error):
                metrics.ROWS.labels("unreadable").inc()
        if page.unrequested:
            metrics.ROWS.labels("unrequested").inc(page.unrequested)
            log.warning("polymarket.unrequested_rows", wallet=wallet.address, rows=page.unrequested, start_s=start_s)
        return page

    async def poll(self, wallet: WalletState) -> int:
        """Fetch and store; the number of new rows. Raises VenueUnavailableError or WireError: try again later."""
        start = wallet.next_start(self._settings.overlap)
        try:
            new, complete = await self.store(wallet, await self.fetch(wallet, start))
        except BaseException:
            wallet.reach_back(start)
            raise
        if not complete:
            wallet.reach_back(start)
        return new

    async def store(self, wallet: WalletState, page: ActivityPage) -> tuple[int, bool]:
        """Store the new rows of a page; how many, and whether that was all of them.

        The description of a market goes before its first row that names no asset; while Gamma does not answer, such a
        row and newer ones wait for the next poll.
        """
        new = [row for row in page.rows if not self._writer.knows(row.id)]
        if new and new[0].activity.event_time // SECOND < wallet.newest_s - self._settings.overlap:
            # Late rows, or rows whose ids are no longer in memory.
            stored = await self._stored_since(wallet, new[0].activity.event_time // SECOND)
            new = [row for row in new if row.id not in stored]
        metrics.ROWS.labels("known").inc(len(page.rows) - len(new))
        described: dict[str, bytes] | None = None
        for done, row in enumerate(new):
            if _needs_market(wallet, row):
                if described is None:
                    described = await self._describe(wallet, new)
                    if described is None:
                        return done, False
                await self._store_market(wallet, row.activity.market, described)
            self._match(wallet, row)
            await self._writer.put(wallet.event(ACTIVITY_CHANNEL, row.id, bytes(row.payload), self._clock()))
            metrics.ROWS.labels("new").inc()
            if not self.stalled:
                wallet.newest_s = max(wallet.newest_s, row.activity.event_time // SECOND)
        return len(new), True

    def _match(self, wallet: WalletState, row: Row) -> None:
        activity = row.activity
        if activity.kind is Kind.TRADE and activity.side is not None:
            wallet.fills.row((activity.transaction, activity.asset, activity.side), activity.share_micros)

    async def _describe(self, wallet: WalletState, new: list[Row]) -> dict[str, bytes] | None:
        """The Gamma objects of the markets that have to go first; None while Gamma does not answer."""
        wanted = list(dict.fromkeys(row.activity.market for row in new if _needs_market(wallet, row)))
        try:
            return {market: bytes(payload) for market, payload in (await self._gamma.markets(wanted)).items()}
        except VenueUnavailableError as error:
            log.warning("polymarket.no_market", wallet=wallet.address, markets=wanted, error=str(error))
            return None
        except UNREADABLE as error:
            payload = ",".join(wanted).encode()
            key = f"polymarket:markets:{digest(payload)}"
            await self._dead_letters.write(key, subject=wallet.address, payload=payload, error=str(error))
            return {}

    async def _store_market(self, wallet: WalletState, market: str, described: dict[str, bytes]) -> None:
        payload = described.get(market)
        if payload is None:
            log.warning("polymarket.market_not_listed", wallet=wallet.address, market=market)
            return
        wallet.described.add(market)
        raw_id = f"pm:market:{market}:{wallet.address}"
        await self._writer.put(wallet.event(MARKET_CHANNEL, raw_id, payload, self._clock()))


def _needs_market(wallet: WalletState, row: Row) -> bool:
    activity = row.activity
    return bool(activity.market) and not activity.asset and activity.market not in wallet.described
