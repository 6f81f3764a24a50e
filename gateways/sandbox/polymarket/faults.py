"""Faults on demand: what a venue does on a bad day, switched on by `POST /sandbox/faults`.

What is not named in the body stays as it is. HTTP faults hit the requests whose path starts with `route`.

sockets    drop_connections (abort every socket now), close_connections (close them with this code), only (`market` or
           `polygon`: those sockets alone), refuse_connections_s, silence_s (open, and nothing is sent),
           inject_frames (raw text to every socket with a subscription), duplicate (every frame twice)
HTTP       http_429 and http_5xx (for so many requests), retry_after_s, status_5xx, malformed (so many bodies cut in
           half), delay_ms, route
Data API   data_lag_s (on top of the usual lag), data_stall
Polygon    reorg (replace so many blocks), rpc_errors (so many `eth_getLogs` answered by a lagging node)
markets    resolve ({"market", "payouts": "first" | "second" | "50/50", "final"}), close (a market),
           books ({market: normal | crossed | empty | no_asks | no_bids})
time       paused
"""

import time
from typing import Literal

import msgspec

from gateways.sandbox.polymarket.books import Disturbance
from gateways.sandbox.polymarket.ledger import HALF
from gateways.sandbox.polymarket.markets import ONE

Socket = Literal["market", "polygon"]

PAYOUTS = {"first": (ONE, 0), "second": (0, ONE), "50/50": (HALF, HALF)}


class ResolveOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Resolve `market` (name, slug, condition or token id) now; not `final` means proposed only."""

    market: str
    payouts: Literal["first", "second", "50/50"]
    final: bool = True


class FaultOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request; None leaves a fault as it is."""

    drop_connections: bool = False
    close_connections: int | None = None
    only: Socket | None = None
    refuse_connections_s: float | None = None
    silence_s: float | None = None
    inject_frames: list[str] = []
    duplicate: bool | None = None
    http_429: int | None = None
    http_5xx: int | None = None
    retry_after_s: int | None = None
    status_5xx: int | None = None
    malformed: int | None = None
    delay_ms: int | None = None
    route: str | None = None
    data_lag_s: float | None = None
    data_stall: bool | None = None
    reorg: int | None = None
    rpc_errors: int | None = None
    resolve: ResolveOrder | None = None
    close: str | None = None
    books: dict[str, Disturbance] = {}
    paused: bool | None = None


class Faults:
    """The faults in force."""

    def __init__(self) -> None:
        self.delay_ms = 0
        self.duplicate = False
        self.retry_after_s = 1
        self.status_5xx = 503
        self.route = ""
        self._refuse_until = 0.0
        self._silent_until = 0.0
        self._left = {"http_429": 0, "http_5xx": 0, "malformed": 0, "rpc_errors": 0}

    def order(self, wanted: FaultOrder) -> None:
        """Put in force what lasts; what happens once is the server's to do."""
        now = time.monotonic()
        if wanted.refuse_connections_s is not None:
            self._refuse_until = now + wanted.refuse_connections_s
        if wanted.silence_s is not None:
            self._silent_until = now + wanted.silence_s
        for name in self._left:
            count = getattr(wanted, name)
            self._left[name] = self._left[name] if count is None else count
        for name in ("delay_ms", "duplicate", "retry_after_s", "status_5xx", "route"):
            value = getattr(wanted, name)
            if value is not None:
                setattr(self, name, value)

    @property
    def refusing_connections(self) -> bool:
        return time.monotonic() < self._refuse_until

    @property
    def silent(self) -> bool:
        return time.monotonic() < self._silent_until

    def concerns(self, path: str) -> bool:
        """True when HTTP faults hit a request of this path."""
        return path.startswith(self.route)

    def take(self, name: str) -> bool:
        """True when this request is one of those that the fault `name` is for."""
        if self._left[name] <= 0:
            return False
        self._left[name] -= 1
        return True

    def state(self) -> dict[str, object]:
        """The faults in force, under the keys that order them; counts and seconds are what is left."""
        now = time.monotonic()
        return {
            "refuse_connections_s": max(0.0, round(self._refuse_until - now, 3)),
            "silence_s": max(0.0, round(self._silent_until - now, 3)),
            "duplicate": self.duplicate,
            **self._left,
            "retry_after_s": self.retry_after_s,
            "status_5xx": self.status_5xx,
            "delay_ms": self.delay_ms,
            "route": self.route,
        }
