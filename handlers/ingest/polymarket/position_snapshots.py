"""Seeding: what a wallet holds when following begins, or after its fold was found wrong.

A report says nothing of its own moment. It is taken between two sweeps of the activity: when the second shows nothing
new, the report holds everything up to the newest activity seen, and that second is its `as_of`.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import structlog
from msgspec import Raw, json

from gateways.polymarket.data_api import DataApi
from gateways.polymarket.polygon_rpc import PolygonRpc
from gateways.polymarket.positions import parse_positions, parse_value
from gateways.polymarket.raw_events import POSITIONS_CHANNEL, WalletSnapshot
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.activity_poll import ActivityPoll
from handlers.ingest.polymarket.dead_letters import UNREADABLE, DeadLetters, digest
from handlers.ingest.polymarket.outbox import Outbox
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings, WalletState

log = structlog.get_logger()

_NULL = Raw(b"null")
T = TypeVar("T")


class PositionSnapshots:
    """Takes positions reports that agree with the activity."""

    def __init__(
        self,
        data_api: DataApi,
        chain: PolygonRpc,
        sweeper: ActivityPoll,
        outbox: Outbox,
        letters: DeadLetters,
        pace: PollSettings,
    ) -> None:
        self._data_api = data_api
        self._chain = chain
        self._sweeper = sweeper
        self._outbox = outbox
        self._letters = letters
        self._pace = pace

    async def seed(self, wallet: WalletState) -> None:
        """Sweep, report, sweep, until both sweeps agree; the report goes to RAW before the rows that were held back.

        Raises VenueUnavailableError or WireError: what was seen has been handed on, and a report is still wanted.
        """
        start = wallet.window(self._pace.overlap)
        done = False
        try:
            before = await self._sweeper.fetch(wallet, start)
            await self._sweeper.record(wallet, before)
            for attempt in range(1, self._pace.seed_tries + 1):
                report = await self._report(wallet, last=attempt == self._pace.seed_tries)
                after = await self._sweeper.fetch(wallet, start)
                _, complete = await self._sweeper.record(wallet, after)
                if report is not None and after.ids == before.ids:
                    break
                before = after
            else:
                log.warning("polymarket.seed_moving", wallet=wallet.address, attempts=self._pace.seed_tries)
                metrics.SEEDS.labels("moving").inc()
            assert report is not None, "the last attempt raises when there is no report"
            await self._put(wallet, report, (after.newest_s or start) * SECOND)
            done = complete
        finally:
            if not done:
                wallet.reach(start)
            await self._outbox.release(wallet)

    async def _put(self, wallet: WalletState, report: WalletSnapshot, as_of: int) -> None:
        raw_id = f"pm:positions:{wallet.address}:{as_of}"
        while not wallet.seen.add(raw_id):
            # Asked again, and nothing has happened since: the next moment, for no activity lies between.
            as_of += 1
            raw_id = f"pm:positions:{wallet.address}:{as_of}"
        await self._outbox.first(self._outbox.event(wallet, POSITIONS_CHANNEL, raw_id, json.encode(report), as_of))
        wallet.as_of = as_of
        metrics.SEEDS.labels("taken").inc()
        log.info("polymarket.seeded", wallet=wallet.address, as_of=as_of)

    async def _report(self, wallet: WalletState, *, last: bool) -> WalletSnapshot | None:
        """A report that can be read; None when another attempt may bring one."""
        positions, value, cash = await asyncio.gather(
            self._data_api.positions(wallet.address),
            self._optional(wallet, "value", self._data_api.value(wallet.address)),
            self._optional(wallet, "cash", self._chain.cash(wallet.address)),
        )
        try:
            parse_positions(positions)
        except UNREADABLE as error:
            if not last:
                return None
            key = f"polymarket:positions:{wallet.address}:{digest(positions)}"
            await self._letters.write(key, subject=wallet.address, payload=positions, error=str(error))
            raise
        return WalletSnapshot(Raw(positions), _readable(value), None if cash is None else str(cash))

    async def _optional(self, wallet: WalletState, what: str, asked: Awaitable[T]) -> T | None:
        """What the report may do without, if it comes soon."""
        try:
            async with asyncio.timeout(self._pace.optional_within):
                return await asked
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
