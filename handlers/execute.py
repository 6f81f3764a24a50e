"""EXECUTIONS -> REQUESTS: live orders are signed, sent and followed until it is known what became of them
(docs/design.md, live orders).

First the exact request is fixed and stored (`order.signed`), then an effect sends it, then the result is stored. After
a crash the signed orders without a result are the to-do list: the venue is asked for each by its client order id, and
what it does not know is sent again, the same bytes. Their nonce is taken once, so that a second copy is refused: no
order is made twice. Only a result that is certain is stored; until then the order counts as working, however long that
takes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from domain.events import (
    AccountReported,
    LiveAccount,
    Mode,
    OrderConfirmed,
    OrderEnd,
    OrderResulted,
    OrderSent,
    OrderSigned,
    OrderSubmitted,
    Venue,
)
from domain.ids import derived
from domain.reason_codes import Reason
from gateways.keys.sources import AgentKeys
from gateways.live_orders import LiveOrders, UnknownAssetError
from handlers import metrics
from handlers.live.order_follower import OrderFollower, RequestRecord
from streams import subjects
from streams.envelope import Recorded, address
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import EXECUTIONS, REQUESTS

log = structlog.get_logger()

_MILLISECOND = 1_000_000
_SECOND = 1_000_000_000
_REPORT_SECONDS = 60.0
_CONFIRM_SECONDS = 2.0
"""How long a result waits for its confirmation: others of the account are confirmed by the same reading."""


class Signed(Struct):
    """An order that may have been sent, and its sequence in REQUESTS (0 while it is not stored)."""

    event: OrderSigned
    sequence: int


class Provisional(Struct):
    """A result whose fills the venue has not confirmed yet, and its sequence in REQUESTS."""

    event: OrderResulted
    sequence: int


class Account(Struct):
    """A venue account that orders were signed for: whose it is, what it traded, when it was last reported (ns), and the
    sequence in REQUESTS of the first order that was signed for it (0 while that is not stored)."""

    subscriber_id: str
    venue: Venue
    account: LiveAccount
    assets: set[str]
    reported_at: int = 0
    sequence: int = 0


class Orders(Struct):
    """A lane's orders by id, the highest nonce that each agent's address has used, and the accounts by address."""

    open: dict[str, Signed] = {}
    unconfirmed: dict[str, Provisional] = {}
    nonces: dict[str, int] = {}
    accounts: dict[str, Account] = {}


class Execute(Stage[Orders]):
    name = "execute"
    description = "sends live orders and follows them to their results"
    reads = EXECUTIONS
    writes = REQUESTS
    input_patterns = ("executions.{}.>",)
    state_patterns = ("orders.{}.>",)
    input_types = frozenset({"order.submitted"})
    schema = 2

    def __init__(self, venues: Mapping[Venue, LiveOrders], keys: AgentKeys, clock: Callable[[], int]) -> None:
        self._venues = venues
        self._keys = keys
        self._clock = clock
        self._turns: dict[str, asyncio.Lock] = {}
        self._reported: set[str] = set()
        self._follower = OrderFollower(venues, keys, clock)

    def initial(self, lane: Lane) -> Orders:
        return Orders()

    def dump(self, state: Orders) -> bytes:
        return msgspec.msgpack.encode(state)

    def restore(self, payload: bytes, lane: Lane) -> Orders:
        return msgspec.msgpack.decode(payload, type=Orders)

    async def ready(self, events: list[Recorded]) -> None:
        for venue, orders in self._venues.items():
            live = [event.data for event in events if _is_live(event.data)]
            await orders.know({order.asset for order in live if order.venue is venue})

    def handle(self, state: Orders, event: Recorded, now: int) -> Iterator[Output]:
        order: OrderSubmitted = event.data
        if not _is_live(order) or order.account is None:
            return
        key, orders = self._keys.get(order.account.agent), self._venues.get(order.venue)
        if orders is None or key is None:
            what = f"key {order.account.agent!r}" if key is None else f"way to trade on {order.venue.value}"
            yield _not_sent(order, Reason.AGENT_UNUSABLE, f"this process has no {what}", now)
            return
        if now > order.expires_at:
            yield _not_sent(order, Reason.ORDER_EXPIRED, "it was too late to send it", now)
            return
        nonce = max(now // _MILLISECOND, state.nonces.get(key.address, 0) + 1)
        try:
            prepared = orders.prepare(order, key, nonce)
        except UnknownAssetError:
            yield _not_sent(order, Reason.UNKNOWN_ASSET, f"{order.venue.value} lists no {order.asset!r}", now)
            return
        signed = OrderSigned(
            order=order,
            agent_address=key.address,
            nonce=nonce,
            expires_after_ms=prepared.expires_after_ms,
            action=prepared.action,
            body_sha256=sha256(prepared.body).hexdigest(),
            signed_at=now,
        )
        yield _output(order, signed, "signed", None)

    def dropped(self, state: Orders, event: Recorded, now: int) -> Iterator[Output]:
        """An order that could not be signed was not sent."""
        if _is_live(event.data) and event.data.account is not None:
            yield _not_sent(event.data, Reason.DROPPED, "an operator dropped the dead letter of the order", now)

    def evolve(self, state: Orders, event: Any, sequence: int) -> None:
        match event:
            case OrderSigned():
                state.open[event.order.order_id] = Signed(event, sequence)
                state.nonces[event.agent_address] = max(event.nonce, state.nonces.get(event.agent_address, 0))
                _note_account(state, event.order, sequence)
            case AccountReported():
                known = state.accounts.get(event.account.trading_address)
                if known is not None:
                    known.reported_at = event.reported_at
            case OrderResulted():
                state.open.pop(event.order.order_id, None)
                if event.provisional:
                    state.unconfirmed[event.order.order_id] = Provisional(event, sequence)
            case OrderConfirmed():
                state.unconfirmed.pop(event.order.order_id, None)

    def stored(self, state: Orders, output: Output, sequence: int) -> None:
        event = output.event
        if isinstance(event, OrderSigned | OrderResulted | OrderConfirmed):
            self.evolve(state, event, sequence)
        if isinstance(event, OrderResulted):
            metrics.LIVE_ORDERS.labels(event.how.value).inc()
            log.info("order.resulted", order=event.order.order_id, how=event.how.value, detail=event.detail)

    def intents(self, state: Orders) -> Mapping[str, Callable[[], Awaitable[list[Output]]]]:
        metrics.OPEN_ORDERS.set(len(state.open))
        metrics.UNCONFIRMED_ORDERS.set(len(state.unconfirmed))
        oldest = min((signed.event.signed_at for signed in state.open.values()), default=None)
        metrics.OLDEST_ORDER.set(0 if oldest is None else (self._clock() - oldest) / _SECOND)
        found: dict[str, Callable[[], Awaitable[list[Output]]]] = {
            order_id: partial(self._carry_out, signed) for order_id, signed in state.open.items() if signed.sequence
        }
        for order_id, result in state.unconfirmed.items():
            if result.sequence:
                found[f"{order_id} confirmed"] = partial(self._confirm, result)
        for trading_address, account in state.accounts.items():
            if account.sequence:
                found[f"{trading_address} {account.reported_at}"] = partial(self._report, account)
        return found

    # --- comparing with the account --------------------------------------------------------------------------

    async def _report(self, account: Account) -> list[Output]:
        """What the account holds, at the start and then every minute, at a moment when none of its orders is under way:
        only then do the positions here and there mean the same."""
        key = account.account.trading_address
        if key in self._reported:
            await asyncio.sleep(_REPORT_SECONDS)
        while True:
            await self._venues[account.venue].spare()  # not while the account's orders wait for their turn
            async with self._turns.setdefault(key, asyncio.Lock()):
                positions = await self._venues[account.venue].positions(account.account, account.assets)
            if positions is not None:
                break
            await asyncio.sleep(_REPORT_SECONDS)
        self._reported.add(key)
        now = self._clock()
        reported = AccountReported(
            subscriber_id=account.subscriber_id,
            venue=account.venue,
            account=account.account,
            positions=dict(sorted(positions.items())),
            reported_at=now,
        )
        subject, cause = subjects.orders(account.subscriber_id), address(REQUESTS.name, account.sequence)
        return [Output(subject, reported, derived("rep", key, now), account.subscriber_id, cause, begins=True)]

    # --- carrying an order out -------------------------------------------------------------------------------

    async def _carry_out(self, signed: Signed) -> list[Output]:
        """The result of a signed order, and every request that was made about it."""
        order, cause = signed.event.order, address(REQUESTS.name, signed.sequence)
        assert order.account is not None
        record = RequestRecord(order)
        # One action of an account at a time, in the order in which they were signed.
        async with self._turns.setdefault(order.account.trading_address, asyncio.Lock()):
            known = await self._follower.follow(signed.event, record)
        result = OrderResulted(
            order=order,
            how=known.how,
            venue_order_id=known.venue_order_id,
            fills=known.fills,
            provisional=known.provisional,
            reasons=(known.reason,) if known.reason else (),
            detail=known.detail,
            resulted_at=self._clock(),
        )
        sent = [_output(order, one, f"sent.{one.number}", cause) for one in record.requests]
        return [*sent, _output(order, result, "resulted", cause)]

    async def _confirm(self, provisional: Provisional) -> list[Output]:
        """The venue's own fills of an order that was booked by its answer, and how they differ from that."""
        await asyncio.sleep(_CONFIRM_SECONDS)
        result = provisional.event
        order = result.order
        booked = sum(fill.share_micros for fill in result.fills)
        fills = await self._follower.fills(order, result.venue_order_id, booked)
        confirmed = OrderConfirmed(
            order=order,
            venue_order_id=result.venue_order_id,
            fills=fills,
            notional_delta_micros=sum(fill.notional_micros for fill in fills)
            - sum(fill.notional_micros for fill in result.fills),
            fee_delta_micros=sum(fill.fee_micros for fill in fills) - sum(fill.fee_micros for fill in result.fills),
            confirmed_at=self._clock(),
        )
        return [_output(order, confirmed, "confirmed", address(REQUESTS.name, provisional.sequence))]


def _note_account(state: Orders, order: OrderSubmitted, sequence: int) -> None:
    """The account of an order is compared with the log from now on."""
    assert order.account is not None
    key = order.account.trading_address
    known = state.accounts.get(key)
    if known is None or known.subscriber_id != order.subscriber_id:
        known = state.accounts[key] = Account(order.subscriber_id, order.venue, order.account, set())
    known.account = order.account
    known.assets.add(order.asset)
    known.sequence = known.sequence or sequence


def _is_live(data: Any) -> bool:
    return isinstance(data, OrderSubmitted) and data.mode is Mode.LIVE


def _not_sent(order: OrderSubmitted, reason: Reason, detail: str, now: int) -> Output:
    result = OrderResulted(
        order=order,
        how=OrderEnd.NOT_SENT,
        venue_order_id=0,
        fills=(),
        provisional=False,
        reasons=(reason,),
        detail=detail,
        resulted_at=now,
    )
    return _output(order, result, "resulted", None)


def _output(
    order: OrderSubmitted, event: OrderSigned | OrderSent | OrderResulted | OrderConfirmed, what: str, cause: str | None
) -> Output:
    """An event about an order. Requests share a commit; the others have one of their own, which a sequence names."""
    begins = not isinstance(event, OrderSent)
    subject = subjects.orders(order.subscriber_id)
    return Output(subject, event, f"{order.order_id}.{what}", order.group_id or order.order_id, cause, begins=begins)
