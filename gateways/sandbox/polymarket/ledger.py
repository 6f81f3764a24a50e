"""Accounts as the fold of what happened to them: the same fold serves the order flow, the chain and the Data API."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from domain.micros import nearest
from gateways.sandbox.polymarket.markets import ONE, Listing


class Kind(StrEnum):
    TRADE = "TRADE"
    SPLIT = "SPLIT"
    MERGE = "MERGE"
    REDEEM = "REDEEM"
    DEPOSIT = "DEPOSIT"
    MAKER_REBATE = "MAKER_REBATE"


@dataclass(frozen=True)
class Entry:
    """One thing that happened to one wallet: one row of the Data API.

    `usdc_micros` is the price paid or received without the fee; on a SPLIT or MERGE the collateral, on a REDEEM the
    payout. `outcome` is None where no single outcome is meant.
    """

    wallet: str
    kind: Kind
    listing: Listing | None
    outcome: int | None
    buying: bool
    share_micros: int
    usdc_micros: int
    fee_micros: int = 0
    taker: bool = False

    @property
    def cash_micros(self) -> int:
        """The change of the wallet's cash."""
        if self.kind is Kind.SPLIT or (self.kind is Kind.TRADE and self.buying):
            return -self.usdc_micros - self.fee_micros
        return self.usdc_micros - self.fee_micros


@dataclass
class Position:
    """Shares of one outcome. `cost_micros` is what the open ones cost without fees; `fee_micros` all entry fees."""

    share_micros: int = 0
    cost_micros: int = 0
    fee_micros: int = 0
    bought_micros: int = 0
    realized_micros: int = 0
    first_s: int = 0
    last_s: int = 0

    def add(self, shares: int, cost: int, fee: int, time_s: int) -> None:
        self.first_s = self.first_s or time_s
        self.share_micros += shares
        self.bought_micros += shares
        self.cost_micros += cost
        self.fee_micros += fee
        self.last_s = time_s

    def remove(self, shares: int, proceeds: int, time_s: int) -> None:
        gone = nearest(self.cost_micros * shares, self.share_micros) if self.share_micros else 0
        self.share_micros -= shares
        self.cost_micros -= gone
        self.realized_micros += proceeds - gone
        self.last_s = time_s


Held = tuple[str, int]
"""(market name, outcome)."""


@dataclass
class Account:
    """What one wallet holds; cash in micros of pUSD."""

    cash_micros: int = 0
    positions: dict[Held, Position] = field(default_factory=dict)

    def shares(self, listing: Listing, outcome: int) -> int:
        position = self.positions.get((listing.name, outcome))
        return position.share_micros if position else 0

    def both(self, listing: Listing) -> int:
        """Complete sets: the shares that a MERGE could turn back into cash."""
        return min(self.shares(listing, 0), self.shares(listing, 1))


class Ledger:
    """Every account."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}

    def account(self, wallet: str) -> Account:
        return self.accounts.setdefault(wallet, Account())

    def apply(self, entry: Entry, time_s: int = 0) -> None:
        """Move the wallet of `entry`. Nothing here may go below zero: the flow sells only what there is."""
        account = self.account(entry.wallet)
        account.cash_micros += entry.cash_micros
        if entry.listing is None:
            return
        outcomes: tuple[int, ...] = (0, 1) if entry.outcome is None else (entry.outcome,)
        for outcome in outcomes:
            position = account.positions.setdefault((entry.listing.name, outcome), Position())
            match entry.kind:
                case Kind.SPLIT:
                    position.add(entry.share_micros, entry.usdc_micros // 2, 0, time_s)
                case Kind.MERGE:
                    position.remove(entry.share_micros, entry.usdc_micros // 2, time_s)
                case Kind.REDEEM:
                    paid = entry.usdc_micros if entry.outcome is not None or position.share_micros else 0
                    position.remove(position.share_micros, paid, time_s)
                case _ if entry.buying:
                    position.add(entry.share_micros, entry.usdc_micros, entry.fee_micros, time_s)
                case _:
                    position.remove(entry.share_micros, entry.usdc_micros - entry.fee_micros, time_s)
            assert position.share_micros >= 0, f"{entry} takes more than the wallet holds"


def payout_of(shares: int, price: int) -> int:
    """What `shares` pay at `price` micros a share, rounded down."""
    return shares * price // ONE


HALF: Final = ONE // 2
