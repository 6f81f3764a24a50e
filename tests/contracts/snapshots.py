"""The contract of account snapshots: what a venue answers about an account, stored as RAW, decodes to its positions."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec import Raw

from domain.events import AccountSeeded, RawReceived, Venue
from gateways.registry import ADAPTERS

YEAR_2020 = 1_577_836_800 * 1_000_000_000


class Accounts(Protocol):
    """A venue with an account that holds something, and one that holds nothing."""

    holder: str
    empty: str

    async def payload(self, address: str) -> bytes:
        """The snapshot of an account, as ingest stores it."""

    async def held(self, address: str) -> dict[str, int]:
        """Micros of every asset that the venue itself says the account holds."""


class SnapshotsContract:
    venue: Venue
    channel: str

    def open(self) -> AbstractAsyncContextManager[Accounts]:
        raise NotImplementedError

    async def decoded(self, accounts: Accounts, address: str) -> AccountSeeded:
        raw = RawReceived(
            raw_id=f"snapshot:{address}",
            venue=self.venue,
            channel=self.channel,
            influencer_id="alice",
            address=address,
            payload=Raw(await accounts.payload(address)),
            detect_time=2 * YEAR_2020,
            venue_time=YEAR_2020 + 1,
        )
        decoded = ADAPTERS[self.venue].decode_raw(raw)
        assert isinstance(decoded, AccountSeeded)
        return decoded

    async def test_a_snapshot_holds_every_position_once_and_in_micros(self) -> None:
        async with self.open() as accounts:
            snapshot = await self.decoded(accounts, accounts.holder)
            held = await accounts.held(accounts.holder)
        assert held
        assert {position.asset: position.share_micros for position in snapshot.positions} == held
        assert len(snapshot.positions) == len(held)
        assert all(position.market and position.share_micros for position in snapshot.positions)

    async def test_a_snapshot_names_its_account_and_its_time(self) -> None:
        async with self.open() as accounts:
            snapshot = await self.decoded(accounts, accounts.holder)
        assert (snapshot.venue, snapshot.address, snapshot.influencer_id) == (self.venue, accounts.holder, "alice")
        assert YEAR_2020 < snapshot.event_time < 2 * YEAR_2020

    async def test_an_account_that_holds_nothing_has_no_positions(self) -> None:
        async with self.open() as accounts:
            assert (await self.decoded(accounts, accounts.empty)).positions == ()
