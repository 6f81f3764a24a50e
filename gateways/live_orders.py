"""The port to a venue that takes live orders: what is signed, what one request came back with, and what it means."""

from collections.abc import Collection
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple, Protocol

from domain.events import LiveAccount, OrderSubmitted, VenueFill
from domain.reason_codes import Reason
from gateways.hyperliquid.signing import SigningKey


class Prepared(NamedTuple):
    """An order as it is sent: the action in JSON, the exact body of the request, and when it expires (ms)."""

    action: str
    body: bytes
    expires_after_ms: int


class Answered(NamedTuple):
    """One request and what came back. `http_status` is None when there was no answer, and `error` says why; times in
    ns."""

    http_status: int | None
    payload: bytes
    error: str
    sent_at: int
    answered_at: int


class AnswerKind(StrEnum):
    """What an answer about an order says. ARRIVED: the venue has it, and its status is to be asked for. UNCLEAR: it is
    not known whether the venue has it; the same bytes may be sent again."""

    DONE = "DONE"
    REFUSED = "REFUSED"
    ARRIVED = "ARRIVED"
    UNCLEAR = "UNCLEAR"


class Verdict(NamedTuple):
    """What an answer means: shares filled, at which notional; why not all; the venue's own words."""

    kind: AnswerKind
    venue_order_id: int = 0
    filled_micros: int = 0
    notional_micros: int = 0
    reason: Reason | None = None
    detail: str = ""


class Status(StrEnum):
    """What the venue knows of an order: nothing, that it is still working, or that it is over."""

    UNKNOWN = "UNKNOWN"
    OPEN = "OPEN"
    OVER = "OVER"


class Found(NamedTuple):
    """An order's status; when it is over, what was filled and the venue's word for how it ended."""

    status: Status
    venue_order_id: int = 0
    filled_micros: int = 0
    word: str = ""


class UnknownAssetError(Exception):
    """The venue lists no such asset."""


class LiveOrders(Protocol):
    """Orders of one venue. Every request is sent once; nothing is retried here."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def start(self) -> None:
        """Read which assets the venue lists, but for those that are seldom traded. Raises VenueUnavailableError or
        WireError."""

    async def know(self, assets: Collection[str]) -> None:
        """Read what `prepare` needs for these assets and is not known yet; what cannot be read stays unknown."""

    def prepare(self, order: OrderSubmitted, key: SigningKey, nonce: int) -> Prepared:
        """The order as it is sent; the same arguments make the same bytes. Raises UnknownAssetError."""

    async def send(self, body: bytes, *, urgent: bool) -> Answered:
        """Send the body once; `urgent` ones go first."""

    def read(self, order: OrderSubmitted, answer: Answered) -> Verdict:
        """What an answer to `send` means."""

    async def status(self, order: OrderSubmitted) -> tuple[Answered, Found | None]:
        """Ask what became of an order; None when the answer cannot be read."""

    async def spare(self) -> None:
        """Wait until requests that can wait delay no order."""

    async def positions(self, account: LiveAccount, assets: Collection[str]) -> dict[str, int] | None:
        """What an account holds now, signed shares by asset, in the parts of the venue that these assets belong to;
        None when it cannot be read."""

    async def fills(self, account: LiveAccount, since: int) -> dict[int, tuple[VenueFill, ...]] | None:
        """The venue's own fills of an account since a time (ns), by its order ids; None while they cannot be read."""
