"""The events of a subscriber as outputs: each under its id, and those that a live order or its account leads to."""

from collections.abc import Iterator

import structlog

from domain import live_orders
from domain.events import (
    AccountReported,
    BreakerReset,
    BreakerTripped,
    CashDeposited,
    CopyDecided,
    EquityMarked,
    Event,
    ExecutionCompleted,
    ExitEnd,
    ExitEnded,
    ExitOwed,
    FillCorrected,
    OrderConfirmed,
    OrderFilled,
    OrderResulted,
    OrderSubmitted,
    PositionChanged,
    PositionCompared,
    PositionSettled,
    SettlementCorrected,
)
from domain.ids import derived
from domain.portfolio import Portfolio
from streams import subjects
from streams.processing.stage import Output

log = structlog.get_logger()


def subscriber_of(event: OrderResulted | OrderConfirmed | AccountReported) -> str:
    """Whose portfolio an event of `execute` concerns."""
    return event.subscriber_id if isinstance(event, AccountReported) else event.order.subscriber_id


def booked(portfolio: Portfolio | None, event: OrderResulted | OrderConfirmed | AccountReported) -> Iterator[Output]:
    """What the result of a live order, the venue's own fills, or the account's positions change of the portfolio."""
    portfolio = portfolio or Portfolio()
    match event:
        case OrderResulted():
            for change in live_orders.book(portfolio, event):
                yield output_of(change, None, event.order.group_id)
        case OrderConfirmed():
            corrected = live_orders.correct(event)
            if corrected is not None:
                yield output_of(corrected, None, event.order.group_id)
        case AccountReported():
            for compared in live_orders.compare(portfolio, event):
                log.warning(
                    "position.compared",
                    subscriber=compared.subscriber_id,
                    asset=compared.asset,
                    held=compared.held_micros,
                    found=compared.found_micros,
                )
                yield output_of(compared, None, event.subscriber_id)


def output_of(event: Event, cause: str | None, correlation: str) -> Output:
    """An event of a subscriber, under its id."""
    subscriber_id: str = event.subscriber_id  # type: ignore[attr-defined]
    return Output(subjects.executions(subscriber_id), event, id_of(event), correlation, cause)


def id_of(event: Event) -> str:
    """The id under which an event is stored. Raises TypeError for one that `plan` does not write."""
    match event:
        case CopyDecided():
            return event.attempt_id
        case OrderSubmitted():
            return event.order_id
        case OrderFilled():
            return event.fill_id
        case FillCorrected():
            return f"{event.order_id}.corrected"
        case ExecutionCompleted():
            return f"{event.order_id}.completed"
        case PositionChanged():
            return f"{event.order_id}.position"
        case CashDeposited():
            return event.deposit_id
        case ExitOwed():
            return f"{event.attempt_id}.owed"
        case ExitEnded(how=ExitEnd.ORDERED):
            return f"{event.exit_id}.{event.ended_at}.ordered"  # it may be ordered several times
        case ExitEnded():
            return f"{event.exit_id}.ended"
        case PositionCompared():
            return derived("cmp", event.subscriber_id, event.venue.value, event.asset, event.compared_at)
        case PositionSettled():
            return event.settlement_id
        case SettlementCorrected():
            return event.correction_id
        case EquityMarked():
            return derived("eqm", event.subscriber_id, event.marked_at, event.equity_micros)
        case BreakerTripped():
            return derived("brk", event.subscriber_id, event.limit, event.tripped_at)
        case BreakerReset():
            return derived("brr", event.subscriber_id, event.limit, event.reset_at)
    raise TypeError(f"{type(event).__name__} is not written by plan")
