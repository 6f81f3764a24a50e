"""Account snapshots: what a wallet holds when following begins, or after its folded position was found wrong.

A report of positions has no time of its own. It is requested between two requests for the activity: when the second
response has nothing new, the report holds everything up to the newest activity, and that second is its `as_of`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from msgspec import Raw, json

from gateways.polymarket.data_api import DataApi
from gateways.polymarket.polygon_rpc import PolygonRpc
from gateways.polymarket.positions import parse_positions, parse_value
from gateways.polymarket.raw_events import POSITIONS_CHANNEL, WalletSnapshot
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.dead_letters import UNREADABLE, DeadLetters, digest
from handlers.ingest.ordered_writer import OrderedWriter
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.activity_poll import ActivityPoll
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings, WalletState

log = structlog.get_logger()

_NULL = Raw(b"null")
T = TypeVar("T")


class PositionSnapshots:
    """Takes snapshots that agree with the activity."""

    def __init__(
        self,
        data_api: DataApi,
        chain: PolygonRpc,
        activity: ActivityPoll,
        writer: OrderedWriter,
        dead_letters: DeadLetters,
        clock: Callable[[], int],
        settings: PollSettings,
    ) -> None:
        self._data_api = data_api
        self._chain = chain
        self._activity = activity
        self._writer = writer
        self._dead_letters = dead_letters
        self._clock = clock
        self._settings = settings

    async def take(self, wallet: WalletState) -> None:
        """Request activity, report, activity, until both activities agree; store the report before the held rows.

        Raises VenueUnavailableError or WireError: rows received so far are stored, and a snapshot is still needed. That
        includes a wallet whose activities never agree: a report between two of them may or may not hold what happened
        meanwhile, so it would be wrong as of either time.
        """
        start = wallet.next_start(self._settings.overlap)
        done = False
        try:
            before = await self._activity.fetch(wallet, start)
            await self._activity.store(wallet, before)
            for attempt in range(1, self._settings.snapshot_tries + 1):
                report = await self._report(wallet, last=attempt == self._settings.snapshot_tries)
                after = await self._activity.fetch(wallet, start)
                _, complete = await self._activity.store(wallet, after)
                if report is not None and after.ids == before.ids:
                    break
                before = after
            else:
                log.warning("polymarket.snapshot_moving", wallet=wallet.address, tries=self._settings.snapshot_tries)
                metrics.ACCOUNT_SNAPSHOTS.labels("moving").inc()
                raise VenueUnavailableError(
                    f"{wallet.address} traded during each of {self._settings.snapshot_tries} reports of its positions"
                )
            assert report is not None, "the last attempt raises when there is no report"
            await self._store(wallet, report, (after.newest_s or start) * SECOND)
            done = complete
        finally:
            if not done:
                wallet.reach_back(start)
            await self._writer.release(wallet.address)

    async def _store(self, wallet: WalletState, report: WalletSnapshot, as_of: int) -> None:
        raw_id = f"pm:positions:{wallet.address}:{as_of}"
        while self._writer.knows(raw_id):
            # A second snapshot without activity since the first: the next ns, because nothing happened in between.
            as_of += 1
            raw_id = f"pm:positions:{wallet.address}:{as_of}"
        event = wallet.event(POSITIONS_CHANNEL, raw_id, json.encode(report), self._clock(), as_of)
        await self._writer.insert(wallet.address, [event])
        wallet.snapshot_as_of = as_of
        metrics.ACCOUNT_SNAPSHOTS.labels("taken").inc()
        log.info("polymarket.snapshot_taken", wallet=wallet.address, as_of=as_of)

    async def _report(self, wallet: WalletState, *, last: bool) -> WalletSnapshot | None:
        """A report that can be read; None when another attempt may return one."""
        positions, value, cash = await asyncio.gather(
            self._data_api.positions(wallet.address),
            self._optional(wallet, "value", self._data_api.value(wallet.address)),
            self._optional(wallet, "cash", self._chain.cash(wallet.address)),
        )
        try:
            unread = parse_positions(positions).unread
        except UNREADABLE as error:
            if not last:
                return None
            key = f"polymarket:positions:{wallet.address}:{digest(positions)}"
            await self._dead_letters.write(key, subject=wallet.address, payload=positions, error=str(error))
            raise
        for asset in unread:
            log.warning("polymarket.position_unreadable", wallet=wallet.address, asset=asset)
            metrics.UNREAD_POSITIONS.inc()
        return WalletSnapshot(Raw(positions), _readable(value), None if cash is None else str(cash))

    async def _optional(self, wallet: WalletState, what: str, request: Awaitable[T]) -> T | None:
        """The answer to a request that the report can do without, if it arrives in time."""
        try:
            async with asyncio.timeout(self._settings.optional_within):
                return await request
        except (VenueUnavailableError, TimeoutError, *UNREADABLE) as error:
            log.warning("polymarket.not_reported", wallet=wallet.address, what=what, error=str(error) or "too late")
            return None


def _readable(value: bytes | None) -> Raw:
    if value is None:
        return _NULL
    try:
        parse_value(value)
    except UNREADABLE as error:
        log.warning("polymarket.value_unreadable", error=str(error))
        return _NULL
    return Raw(value)
