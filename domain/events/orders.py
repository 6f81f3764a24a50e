"""Events of live orders, in REQUESTS: what is signed, what was sent and answered, and what became of it.

The stage `execute` writes them; `plan` books results and corrections into the subscriber's own events.
"""

from enum import StrEnum

from msgspec import Struct

from domain.events.accounts import LiveAccount
from domain.events.catalogue import Event, stored
from domain.events.executions import OrderSubmitted
from domain.reason_codes import Reason
from domain.venues import Venue


class VenueFill(Struct, frozen=True):
    """A fill of an order as the venue states it; `trade_id` is 0 where only the sum of an order is known."""

    share_micros: int
    price_micros: int
    notional_micros: int
    fee_micros: int
    trade_id: int = 0
    filled_at: int = 0


@stored("order.signed")
class OrderSigned(Event, frozen=True, kw_only=True):
    """The exact request is fixed, and is sent only after this is stored: the same key, nonce and action make the same
    bytes again, whose SHA-256 is `body_sha256`.

    `action` is JSON; `nonce` and `expires_after_ms` are in ms.
    """

    order: OrderSubmitted
    agent_address: str
    nonce: int
    expires_after_ms: int
    action: str
    body_sha256: str
    signed_at: int


@stored("order.sent")
class OrderSent(Event, frozen=True, kw_only=True):
    """One request about an order, and what came back: the action itself, or a question for its status.

    `http_status` is None when there was no answer; `error` says why. `response` is the beginning of the answer's body.
    """

    order_id: str
    subscriber_id: str
    number: int
    what: str
    http_status: int | None
    response: str
    error: str
    sent_at: int
    answered_at: int


class OrderEnd(StrEnum):
    """What became of a live order: all, some or nothing of it filled, or it was refused, never sent, or came too
    late."""

    FILLED = "FILLED"
    PARTLY_FILLED = "PARTLY_FILLED"
    UNFILLED = "UNFILLED"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"
    NOT_SENT = "NOT_SENT"


@stored("order.resulted")
class OrderResulted(Event, frozen=True, kw_only=True):
    """What became of a live order: known, and final but for the fees and prices of its fills, which are those of the
    venue's answer while `provisional`."""

    order: OrderSubmitted
    how: OrderEnd
    venue_order_id: int
    fills: tuple[VenueFill, ...]
    provisional: bool
    reasons: tuple[Reason, ...]
    detail: str
    resulted_at: int


@stored("order.confirmed")
class OrderConfirmed(Event, frozen=True, kw_only=True):
    """The venue's own fills of an order, and by how much they differ from what was booked of its answer."""

    order: OrderSubmitted
    venue_order_id: int
    fills: tuple[VenueFill, ...]
    notional_delta_micros: int
    fee_delta_micros: int
    confirmed_at: int


@stored("account.reported")
class AccountReported(Event, frozen=True, kw_only=True):
    """What a venue account holds while none of its orders is under way: signed shares by asset, flat ones absent."""

    subscriber_id: str
    venue: Venue
    account: LiveAccount
    positions: dict[str, int]
    reported_at: int
