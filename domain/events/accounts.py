"""The venue account of a live subscriber, which configuration, requests and orders name."""

from msgspec import Struct


class LiveAccount(Struct, frozen=True, gc=False):
    """Where a live order goes: the venue account that trades, by the agent whose key has this name; a vault or
    sub-account trades in place of the account where one is named."""

    address: str
    agent: str
    vault: str | None = None

    @property
    def trading_address(self) -> str:
        """The address that holds the position."""
        return self.vault or self.address
