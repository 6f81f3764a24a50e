"""Live orders: what is sent, what its result books, and that what it does not reduce is owed."""

from typing import Any

import pytest
from msgspec import structs

from domain import exits, live_orders
from domain import portfolio as portfolios
from domain.decision import decide
from domain.events import (
    AccountReported,
    Action,
    CopyDecided,
    Decision,
    Event,
    ExecutionCompleted,
    ExecutionRequested,
    ExitEnd,
    ExitEnded,
    ExitOwed,
    ExitTry,
    FillCorrected,
    LiveAccount,
    Mode,
    OrderConfirmed,
    OrderEnd,
    OrderFilled,
    OrderResulted,
    OrderSubmitted,
    PositionChanged,
    PositionCompared,
    TradeSide,
    Venue,
    VenueFill,
)
from domain.guardrails import Policy
from domain.micros import micros
from domain.portfolio import Portfolio
from domain.reason_codes import Reason
from tests.domain.facts import at, bought, deposited, executed, inputs, requested

POLICY, INPUTS = Policy(), inputs()
ACCOUNT = LiveAccount("0x" + "ac" * 20, "sam-agent")
ASSET = ("hyperliquid", "BTC")
HELD = executed(bought("BTC", "0.5", "100"))


class Copier:
    """A live subscriber with 10,000 USD, and everything that happened to it."""

    def __init__(self, *history: Event) -> None:
        self.portfolio = Portfolio()
        self.seen: list[Event] = []
        self.fold(deposited("10000"), *history)
        self._number = 0

    def fold(self, *events: Event) -> None:
        for event in events:
            portfolios.evolve(self.portfolio, event)
            self.seen.append(event)

    def decides(
        self, request: ExecutionRequested, *, ms: int = 1000
    ) -> tuple[CopyDecided, OrderSubmitted | None, tuple[ExitOwed | ExitEnded, ...]]:
        self._number += 1
        request = structs.replace(request, request_id=f"req_{self._number}", mode=Mode.LIVE, account=ACCOUNT)
        owed = self.portfolio.exits.get((request.subscription_id, ASSET))
        decision = decide(self.portfolio, request, POLICY, INPUTS, now=at(ms))
        order = live_orders.submit(self.portfolio, decision, request, owed, POLICY, now=at(ms))
        changes = exits.follow(decision, request, owed, POLICY, now=at(ms))
        self.fold(decision, *([order] if order else []), *changes)
        return decision, order, changes

    def results(
        self, order: OrderSubmitted, size: str, price: str = "100", *, ms: int = 2000, **more: Any
    ) -> list[Event]:
        share = micros(size)
        notional = share * micros(price) // 1_000_000
        fee = notional * order.fee_part_micros // 1_000_000
        fills = (VenueFill(share, micros(price), notional, fee),) if share else ()
        known: dict[str, Any] = {"how": OrderEnd.FILLED, "reasons": (), "detail": "", **more}
        result = OrderResulted(
            order=order, venue_order_id=7, fills=fills, provisional=True, resulted_at=at(ms), **known
        )
        events = live_orders.book(self.portfolio, result)
        self.fold(*events)
        return list(events)

    @property
    def held(self) -> int:
        return portfolios.part_of(self.portfolio, "sam-ann", ASSET).share_micros

    @property
    def owed(self) -> int:
        owed = self.portfolio.exits.get(("sam-ann", ASSET))
        return owed.share_micros if owed else 0


def opening(**changes: Any) -> ExecutionRequested:
    return requested(**changes)


def closing() -> ExecutionRequested:
    return requested(before="1", after="0")


def sent(order: OrderSubmitted | None) -> OrderSubmitted:
    assert order is not None
    return order


def test_an_opening_is_sent_and_booked() -> None:
    copier = Copier()
    decision, order, changes = copier.decides(opening())
    order = sent(order)
    assert (decision.decision, changes, order.owes) == (Decision.EXECUTE, (), None)
    assert (order.account, order.mode, order.reduce_only) == (ACCOUNT, Mode.LIVE, False)
    assert order.share_micros == decision.share_micros
    assert order.expires_at == at(1000) + live_orders.ORDER_LIFE_NS
    assert copier.held == 0
    assert list(copier.portfolio.holdings[ASSET].orders) == [decision.attempt_id]
    filled, completed, position = copier.results(order, "0.2", reasons=(Reason.PARTIAL_FILL,))
    assert isinstance(filled, OrderFilled)
    assert isinstance(completed, ExecutionCompleted)
    assert isinstance(position, PositionChanged)
    assert (completed.filled_micros, completed.reasons) == (micros("0.2"), (Reason.PARTIAL_FILL,))
    assert (copier.held, position.share_micros) == (micros("0.2"), micros("0.2"))
    assert copier.portfolio.holdings[ASSET].orders == {}
    assert copier.portfolio.cash_micros == micros("9980") - filled.fee_micros


def test_paper_and_skipped_decisions_send_nothing() -> None:
    copier = Copier()
    decision, order, _ = copier.decides(structs.replace(opening(), quote=None, quote_reason=Reason.NO_QUOTE))
    assert (decision.decision, order) == (Decision.SKIP, None)
    paper = decide(copier.portfolio, opening(), POLICY, INPUTS, now=at(1000))
    assert live_orders.submit(copier.portfolio, paper, opening(), None, POLICY, now=at(1000)) is None


def test_what_a_closing_order_fills_is_not_owed() -> None:
    copier = Copier(*HELD)
    decision, order, changes = copier.decides(closing())
    order = sent(order)
    assert (order.trade_side, order.reduce_only, order.reduce_micros) == (TradeSide.SELL, True, micros("0.5"))
    assert (decision.owed_micros, changes, copier.owed) == (0, (), 0)
    events = copier.results(order, "0.5")
    assert not any(isinstance(event, ExitOwed) for event in events)
    assert ASSET not in copier.portfolio.holdings


@pytest.mark.parametrize(("filled", "left"), [("0", "0.5"), ("0.2", "0.3")])
def test_what_a_closing_order_does_not_fill_is_owed(filled: str, left: str) -> None:
    copier = Copier(*HELD)
    _, order, _ = copier.decides(closing())
    *_, owed = copier.results(sent(order), filled, how=OrderEnd.UNFILLED, reasons=(Reason.NO_LIQUIDITY_WITHIN_BOUNDS,))
    assert isinstance(owed, ExitOwed)
    assert (owed.share_micros, owed.tries, owed.refused) == (micros(left), 0, 1)
    assert owed.reasons == (Reason.NO_LIQUIDITY_WITHIN_BOUNDS,)
    assert owed.due_at >= at(2000)
    assert copier.owed == micros(left) == copier.held


def test_tries_of_an_exit_go_on_until_it_is_filled() -> None:
    copier = Copier(*HELD)
    _, order, _ = copier.decides(closing())
    *_, first = copier.results(sent(order), "0", how=OrderEnd.EXPIRED, reasons=(Reason.ORDER_EXPIRED,))
    assert isinstance(first, ExitOwed)
    tried = requested(action=Action.CLOSE, before="0", after="0", trade_side=TradeSide.SELL)
    again = structs.replace(tried, exit=ExitTry(first.exit_id, 1), before_micros=0, after_micros=0, notional_micros=0)
    decision, order, (ended,) = copier.decides(again, ms=3000)
    assert isinstance(ended, ExitEnded)
    assert (decision.exit_try, ended.how, ended.tries, copier.owed) == (1, ExitEnd.ORDERED, 1, 0)
    *_, second = copier.results(sent(order), "0.1", ms=4000, reasons=(Reason.PARTIAL_FILL,))
    assert isinstance(second, ExitOwed)
    assert (second.exit_id, second.tries, second.refused) == (first.exit_id, 1, 2)
    assert second.share_micros == micros("0.4")
    final = structs.replace(again, exit=ExitTry(first.exit_id, 2))
    _, order, _ = copier.decides(final, ms=6000)
    copier.results(sent(order), "0.4", ms=7000)
    assert (copier.owed, copier.held) == (0, 0)


def test_what_is_owed_meanwhile_is_added_to_what_an_order_left() -> None:
    copier = Copier(*HELD)
    _, order, _ = copier.decides(requested(before="1", after="0.6"))  # gives up 40 %: 0.2
    order = sent(order)
    assert order.reduce_micros == micros("0.2")
    _, _, (meanwhile,) = copier.decides(structs.replace(requested(before="0.6", after="0"), quote=None), ms=1500)
    assert isinstance(meanwhile, ExitOwed)
    assert copier.owed == micros("0.3")
    *_, owed = copier.results(order, "0.05", reasons=(Reason.PARTIAL_FILL,))
    assert isinstance(owed, ExitOwed)
    assert (owed.exit_id, copier.owed, copier.held) == (meanwhile.exit_id, micros("0.45"), micros("0.45"))


def test_an_account_that_holds_nothing_in_all_is_not_asked_to_reduce() -> None:
    copier = Copier(*HELD, *executed(bought("BTC", "-0.5", "100", subscription="other", attempt="att-2")))
    assert copier.portfolio.holdings[ASSET].position.share_micros == 0
    _, order, _ = copier.decides(closing())
    assert sent(order).reduce_only is False


def reported(copier: Copier, *, ms: int = 5000, **positions: str) -> list[PositionCompared]:
    report = AccountReported(
        subscriber_id="sam",
        venue=Venue.HYPERLIQUID,
        account=ACCOUNT,
        positions={asset: micros(size) for asset, size in positions.items()},
        reported_at=at(ms),
    )
    changes = live_orders.compare(copier.portfolio, report)
    copier.fold(*changes)
    return list(changes)


def test_a_difference_to_the_account_stops_openings_until_it_is_gone() -> None:
    copier = Copier(*HELD)
    assert reported(copier, BTC="0.5") == []
    (found,) = reported(copier, BTC="0.3")
    assert (found.held_micros, found.found_micros) == (micros("0.5"), micros("0.3"))
    assert reported(copier, BTC="0.3") == [], "it is stored once"
    decision, _, _ = copier.decides(requested(before="1", after="2"))
    assert (decision.decision, decision.reasons) == (Decision.SKIP, (Reason.POSITION_DIFFERS,))
    (again,) = reported(copier, BTC="0.5")
    assert again.held_micros == again.found_micros
    decision, order, _ = copier.decides(requested(before="1", after="2"))
    assert decision.decision is Decision.EXECUTE
    assert reported(copier, BTC="0.9") == [], "an order is under way"
    copier.results(sent(order), "0.5")


def test_reductions_go_on_where_the_account_differs() -> None:
    copier = Copier(*HELD)
    reported(copier, BTC="0.3")
    decision, _, _ = copier.decides(closing())
    assert decision.decision is Decision.EXECUTE


def test_a_position_that_only_the_account_has_is_a_difference() -> None:
    copier = Copier()
    (found,) = reported(copier, ETH="-2")
    assert (found.asset, found.held_micros, found.found_micros) == ("ETH", 0, micros("-2"))
    (gone,) = reported(copier)
    assert (gone.held_micros, gone.found_micros) == (0, 0)


def test_the_venues_fills_correct_what_was_booked() -> None:
    copier = Copier()
    _, order, _ = copier.decides(opening())
    order = sent(order)
    copier.results(order, "0.2")
    before = copier.portfolio.cash_micros, copier.portfolio.fees_micros
    confirmed = OrderConfirmed(
        order=order, venue_order_id=7, fills=(), notional_delta_micros=300, fee_delta_micros=-20, confirmed_at=at(3000)
    )
    corrected = live_orders.correct(confirmed)
    assert isinstance(corrected, FillCorrected)
    copier.fold(corrected)
    assert copier.portfolio.cash_micros == before[0] - 300 + 20
    assert copier.portfolio.fees_micros == before[1] - 20
    known = copier.portfolio
    cost = sum(holding.position.cost_micros for holding in known.holdings.values())
    assert known.cash_micros + cost == known.deposits_micros + portfolios.realized(known) - known.fees_micros
    same = structs.replace(confirmed, notional_delta_micros=0, fee_delta_micros=0)
    assert live_orders.correct(same) is None
