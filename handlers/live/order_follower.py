"""Following a live order to a certain result: what is sent, when the venue is asked, and what its answers mean
(docs/design.md, live orders).

An answer that does not come proves nothing, a refusal only where nothing was sent before. The same bytes may be sent
again: their nonce is taken once.
"""

import asyncio
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import NamedTuple

import structlog

from domain.events import (
    LiveAccount,
    OrderEnd,
    OrderSent,
    OrderSigned,
    OrderSubmitted,
    Venue,
    VenueFill,
)
from domain.micros import MICRO, nearest
from domain.reason_codes import Reason
from gateways.keys.sources import AgentKeys
from gateways.live_orders import Answered, AnswerKind, Found, LiveOrders, Status, UnknownAssetError, Verdict
from handlers.live.metrics import ORDER_ANSWERS

log = structlog.get_logger()

_SECOND = 1_000_000_000
_FRESH_NS = _SECOND
"""An order that was signed longer ago may have been sent by a process that is gone: the venue is asked first."""
_UNSEEN_NS = 2 * _SECOND
"""How long after its expiry an order that the venue does not know is certain never to be known."""
_WAITS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Seconds between questions about an order, the last one from then on."""
_LARGEST_RECORD = 20
"""Requests about an order that are recorded: the first ones, and the last."""
_READ_AGAIN_SECONDS = 2.0
"""How long the venue's own fills are waited for between two readings of an account."""
_WORDS = {
    "iocCancelRejected": Reason.NO_LIQUIDITY_WITHIN_BOUNDS,
    "marketOrderNoLiquidityRejected": Reason.NO_LIQUIDITY_WITHIN_BOUNDS,
    "canceled": Reason.NO_LIQUIDITY_WITHIN_BOUNDS,
    "minTradeNtlRejected": Reason.BELOW_MINIMUM,
    "tickRejected": Reason.ORDER_INVALID,
    "perpMarginRejected": Reason.INSUFFICIENT_MARGIN,
    "insufficientSpotBalanceRejected": Reason.INSUFFICIENT_MARGIN,
    "reduceOnlyRejected": Reason.POSITION_DIFFERS,
}
"""Why nothing filled, by the venue's word for how an order ended; other words are a refusal."""


class Known(NamedTuple):
    """What is certain of an order. `provisional`: its fills are those that the venue's answer promised."""

    how: OrderEnd
    venue_order_id: int
    fills: tuple[VenueFill, ...]
    provisional: bool
    reason: Reason | None
    detail: str


class OrderFollower:
    """The orders of one process at its venues."""

    def __init__(self, venues: Mapping[Venue, LiveOrders], keys: AgentKeys, clock: Callable[[], int]) -> None:
        self._venues = venues
        self._keys = keys
        self._clock = clock
        self._readings: dict[str, asyncio.Task[dict[int, tuple[VenueFill, ...]] | None]] = {}

    async def follow(self, signed: OrderSigned, record: "RequestRecord") -> Known:
        """Send a signed order, or ask the venue for it, until it is certain what became of it; `record` gets every
        request that is made."""
        order, orders = signed.order, self._venues[signed.order.venue]
        await orders.know([order.asset])
        body = self._body_of(signed, orders)
        # What was sent before, by this process or another one, may have arrived: then only the venue knows.
        untouched = self._clock() - signed.signed_at < _FRESH_NS
        waits = iter(_WAITS)
        while True:
            found: Found | None = Found(Status.UNKNOWN)
            if not untouched:
                answer, found = await orders.status(order)
                record.add("status", answer)
            if found is not None and found.status is Status.OVER:
                return await self._over(order, found)
            late = self._clock() - order.expires_at
            if found is not None and found.status is Status.UNKNOWN and (late > _UNSEEN_NS or (untouched and late > 0)):
                detail = "the venue does not know it after its expiry"
                return Known(OrderEnd.EXPIRED, 0, (), False, Reason.ORDER_EXPIRED, detail)
            if body is not None and found is not None and found.status is Status.UNKNOWN and late <= 0:
                answer = await orders.send(body, urgent=order.reduce_micros > 0)
                ORDER_ANSWERS.observe((answer.answered_at - answer.sent_at) / _SECOND)
                record.add("order", answer)
                verdict = orders.read(order, answer)
                if verdict.kind is AnswerKind.DONE:
                    return _done(order, verdict)
                if verdict.kind is AnswerKind.REFUSED and untouched:
                    return Known(OrderEnd.REFUSED, 0, (), False, verdict.reason, verdict.detail)
                log.warning("order.unclear", order=order.order_id, detail=verdict.detail)
            untouched = False
            await asyncio.sleep(next(waits, _WAITS[-1]))

    def _body_of(self, signed: OrderSigned, orders: LiveOrders) -> bytes | None:
        """The bytes that were signed, made again; None where that is not possible: then the venue is only asked."""
        account = signed.order.account
        key = self._keys.get(account.agent) if account is not None else None
        if key is None or key.address != signed.agent_address:
            log.warning("order.key_changed", order=signed.order.order_id, agent=signed.agent_address)
            return None
        try:
            body = orders.prepare(signed.order, key, signed.nonce).body
        except UnknownAssetError:
            return None
        return body if sha256(body).hexdigest() == signed.body_sha256 else None

    async def _over(self, order: OrderSubmitted, found: Found) -> Known:
        """The result of an order that the venue says is over, with its own fills."""
        if not found.filled_micros:
            reason = _WORDS.get(found.word, Reason.ORDER_REFUSED)
            return Known(OrderEnd.UNFILLED, found.venue_order_id, (), False, reason, found.word)
        fills = await self.fills(order, found.venue_order_id, found.filled_micros)
        how, why = _how_much(order, found.filled_micros)
        return Known(how, found.venue_order_id, fills, False, why, found.word)

    async def fills(self, order: OrderSubmitted, venue_order_id: int, filled_micros: int) -> tuple[VenueFill, ...]:
        """The venue's own fills of an order, once all of them are there. Orders of an account share a reading."""
        assert order.account is not None
        while True:
            found = await self._reading(order.venue, order.account, order.submitted_at - _SECOND)
            fills = (found or {}).get(venue_order_id, ())
            if sum(fill.share_micros for fill in fills) >= filled_micros:
                return fills
            await asyncio.sleep(_READ_AGAIN_SECONDS)

    async def _reading(self, venue: Venue, account: LiveAccount, since: int) -> dict[int, tuple[VenueFill, ...]] | None:
        key = account.trading_address
        task = self._readings.get(key)
        if task is None or task.done():
            task = self._readings[key] = asyncio.create_task(self._venues[venue].fills(account, since))
        return await asyncio.shield(task)


class RequestRecord:
    """The requests about one order, as they are stored: the first ones, and the last."""

    def __init__(self, order: OrderSubmitted) -> None:
        self._order = order
        self._number = 0
        self.requests: list[OrderSent] = []

    def add(self, what: str, answer: Answered) -> None:
        """Note a request: the order itself, or a question for its status."""
        if len(self.requests) == _LARGEST_RECORD:
            self.requests.pop()
        self.requests.append(
            OrderSent(
                order_id=self._order.order_id,
                subscriber_id=self._order.subscriber_id,
                number=self._number,
                what=what,
                http_status=answer.http_status,
                response=answer.payload.decode(errors="replace"),
                error=answer.error,
                sent_at=answer.sent_at,
                answered_at=answer.answered_at,
            )
        )
        self._number += 1


def _how_much(order: OrderSubmitted, filled_micros: int) -> tuple[OrderEnd, Reason | None]:
    if filled_micros < order.share_micros:
        return OrderEnd.PARTLY_FILLED, Reason.PARTIAL_FILL
    return OrderEnd.FILLED, None


def _done(order: OrderSubmitted, verdict: Verdict) -> Known:
    """The result by the venue's answer, which states no fees: they are estimated until its fills confirm them."""
    how, reason = _how_much(order, verdict.filled_micros)
    price = nearest(verdict.notional_micros * MICRO, verdict.filled_micros)
    fee = verdict.notional_micros * order.fee_part_micros // MICRO
    fill = VenueFill(verdict.filled_micros, price, verdict.notional_micros, fee)
    return Known(how, verdict.venue_order_id, (fill,), True, reason, verdict.detail)
