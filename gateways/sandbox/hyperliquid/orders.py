"""The orders of the accounts that trade on the sandbox, in the shapes in which the venue reports them."""

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gateways.sandbox.hyperliquid.market_data import Funding, text

_REMEMBERED = 2_000
"""Orders of an account that the venue still answers for."""

_FUNDINGS = 10_000


@dataclass
class Order:
    """One order. `size` is what was asked for, `left` what is not filled; times in ms."""

    oid: int
    coin: str
    buys: bool
    limit: Decimal
    size: Decimal
    left: Decimal
    reduce_only: bool
    tif: str
    cloid: str | None
    placed_at: int
    status: str = "open"
    status_at: int = 0
    spent: Decimal = Decimal(0)
    """Price times size of what is filled, USD."""

    def wire(self) -> dict[str, Any]:
        """As `openOrders` lists it."""
        named = {} if self.cloid is None else {"cloid": self.cloid}
        reducing = {"reduceOnly": True} if self.reduce_only else {}
        return {
            "coin": self.coin,
            "side": "B" if self.buys else "A",
            "limitPx": text(self.limit),
            "sz": text(self.left),
            "oid": self.oid,
            "timestamp": self.placed_at,
            "origSz": text(self.size),
            **named,
            **reducing,
        }

    def frontend_wire(self) -> dict[str, Any]:
        """As `frontendOpenOrders`, `orderStatus` and `historicalOrders` show it."""
        return self.wire() | {
            "triggerCondition": "N/A",
            "isTrigger": False,
            "triggerPx": "0.0",
            "children": [],
            "isPositionTpsl": False,
            "reduceOnly": self.reduce_only,
            "orderType": "Limit",
            "tif": self.tif,
            "cloid": self.cloid,
        }

    def status_wire(self) -> dict[str, Any]:
        return {"order": self.frontend_wire(), "status": self.status, "statusTimestamp": self.status_at}


@dataclass
class TradingAccount:
    """What the venue knows of an account that trades: its agents by address, its orders, its leverage by coin."""

    agents: dict[str, str] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    resting: dict[int, Order] = field(default_factory=dict)
    """Those that are open, oldest first."""
    by_cloid: dict[str, int] = field(default_factory=dict)
    leverage: dict[str, int] = field(default_factory=dict)
    isolated: dict[str, Decimal] = field(default_factory=dict)
    """The coins with a margin of their own, and the USD that requests added to it."""
    valid_until: dict[str, int] = field(default_factory=dict)
    """When agents expire, by address, in ms."""
    leader: str | None = None
    """Who trades for a vault or sub-account besides its own agents."""
    cancel_at: int | None = None
    """When all orders are to be cancelled, in ms."""
    fundings: deque[Funding] = field(default_factory=lambda: deque(maxlen=_FUNDINGS))
    """Oldest first."""
    ledger: list[dict[str, Any]] = field(default_factory=list)
    """Deposits, as `userNonFundingLedgerUpdates` lists them."""
    requests: int = 0
    exhausted_at: int = 0
    """When an action was last allowed beyond the budget of requests, in ms."""
    volume: Decimal = Decimal(0)

    def add(self, order: Order) -> None:
        self.orders[order.oid] = order
        if order.cloid is not None:
            self.by_cloid[order.cloid] = order.oid
        while len(self.orders) > _REMEMBERED:
            oldest = next((oid for oid in self.orders if oid not in self.resting and oid != order.oid), None)
            if oldest is None:
                return
            forgotten = self.orders.pop(oldest)
            if forgotten.cloid is not None and self.by_cloid.get(forgotten.cloid) == forgotten.oid:
                del self.by_cloid[forgotten.cloid]

    def find(self, name: object) -> Order | None:
        """An order by its oid or its cloid."""
        oid = self.by_cloid.get(name.lower()) if isinstance(name, str) else name
        return self.orders.get(oid) if isinstance(oid, int) else None

    def open_orders(self) -> list[Order]:
        return list(self.resting.values())
