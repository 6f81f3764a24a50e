"""Orders on paper (docs/design.md, paper fills): intent, fills, result and position of one decision, in one step."""

from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import (
    CopyDecided,
    Event,
    ExecutionCompleted,
    OrderFilled,
    OrderSubmitted,
    PositionChanged,
    TradeSide,
    Venue,
)
from domain.guardrails import Policy
from domain.ids import cloid, fill_id, related
from domain.micros import micros
from domain.paper_execution import fill_on_paper
from domain.position import Position, fill_position
from domain.reason_codes import Reason
from domain.testing import Aggregate, given, like
from tests.domain.facts import ASKS, BIDS, BUY, SELL, at, decided, levels, terms


def evolve(position: Position, event: Event) -> Position:
    if isinstance(event, OrderFilled):
        return fill_position(position, event.share_delta_micros, event.notional_micros)
    return position


def holding(share: str = "0", cost: str = "0") -> Aggregate[Position]:
    return Aggregate(lambda: Position(share_micros=micros(share), cost_micros=micros(cost)), evolve)


def filling(
    position: Position, decision: CopyDecided, *, copied: str | None = None, policy: Policy | None = None
) -> tuple[Event, ...]:
    """The copied part is the whole position, by default."""
    held = position.share_micros if copied is None else micros(copied)
    return fill_on_paper(decision, position, held, policy or Policy(), now=at(1000))


ORDER = related("ord", "att-1")


def test_an_order_that_fills_on_two_levels() -> None:
    given(holding()).when(filling, decided("6", limit_price_micros=micros("100.10"))).then(
        OrderSubmitted(
            order_id=ORDER,
            cloid=cloid("att-1"),
            attempt_id="att-1",
            subscription_id="sam-ann",
            subscriber_id="sam",
            mode=decided().mode,
            venue=Venue.HYPERLIQUID,
            asset="BTC",
            trade_side=BUY,
            share_micros=micros("6"),
            reduce_micros=0,
            limit_price_micros=micros("100.10"),
            submitted_at=at(1000),
        ),
        OrderFilled(
            fill_id=fill_id(ORDER, 0),
            order_id=ORDER,
            attempt_id="att-1",
            subscription_id="sam-ann",
            subscriber_id="sam",
            influencer_id="ann",
            venue=Venue.HYPERLIQUID,
            asset="BTC",
            trade_side=BUY,
            share_micros=micros("5"),
            price_micros=micros("100.05"),
            notional_micros=micros("500.25"),
            fee_micros=micros("0.225112"),
            share_delta_micros=micros("5"),
            cash_delta_micros=micros("-500.475112"),
            filled_at=at(1000),
        ),
        like(
            OrderFilled,
            fill_id=fill_id(ORDER, 1),
            share_micros=micros("1"),
            price_micros=micros("100.10"),
            fee_micros=micros("0.045045"),
            cash_delta_micros=micros("-100.145045"),
        ),
        ExecutionCompleted(
            order_id=ORDER,
            attempt_id="att-1",
            subscription_id="sam-ann",
            subscriber_id="sam",
            venue=Venue.HYPERLIQUID,
            asset="BTC",
            requested_micros=micros("6"),
            filled_micros=micros("6"),
            notional_micros=micros("600.35"),
            fee_micros=micros("0.270157"),
            average_price_micros=100_058_333,
            reasons=(),
            completed_at=at(1000),
        ),
        PositionChanged(
            subscriber_id="sam",
            venue=Venue.HYPERLIQUID,
            asset="BTC",
            order_id=ORDER,
            share_micros=micros("6"),
            cost_micros=micros("600.35"),
            average_price_micros=100_058_333,
            realized_micros=0,
            changed_at=at(1000),
        ),
    )


def test_a_sale_brings_cash_less_the_fee() -> None:
    sale = decided("1", side=SELL, levels=BIDS)
    given(holding()).when(filling, sale).then(
        like(OrderSubmitted, trade_side=SELL),
        like(OrderFilled, share_delta_micros=micros("-1"), cash_delta_micros=micros("99.905023")),
        like(ExecutionCompleted, fee_micros=micros("0.044977")),
        like(PositionChanged, share_micros=micros("-1"), cost_micros=micros("-99.95")),
    )


def test_partial_fills_are_recorded_with_requested_and_filled_size() -> None:
    given(holding()).when(filling, decided("2", levels=levels("100 x 0.5"))).then(
        like(OrderSubmitted, share_micros=micros("2")),
        like(OrderFilled, share_micros=micros("0.5")),
        like(
            ExecutionCompleted,
            requested_micros=micros("2"),
            filled_micros=micros("0.5"),
            reasons=(Reason.PARTIAL_FILL,),
        ),
        like(PositionChanged, share_micros=micros("0.5")),
    )


def test_partial_fills_of_nothing_have_their_reason() -> None:
    given(holding("1", "90")).when(filling, decided("2", levels=())).then(
        like(OrderSubmitted, share_micros=micros("2")),
        like(
            ExecutionCompleted,
            filled_micros=0,
            average_price_micros=0,
            fee_micros=0,
            reasons=(Reason.NO_LIQUIDITY_WITHIN_BOUNDS,),
        ),
        like(PositionChanged, share_micros=micros("1"), cost_micros=micros("90")),
    )


def test_a_close_realizes_the_profit() -> None:
    closing = decided("2", reduce="2", side=SELL, levels=BIDS)
    given(holding("2", "180")).when(filling, closing).then(
        like(OrderSubmitted, reduce_micros=micros("2")),
        like(OrderFilled, share_micros=micros("2")),
        like(ExecutionCompleted, reasons=()),
        like(PositionChanged, share_micros=0, cost_micros=0, realized_micros=micros("19.9"), average_price_micros=0),
    )


@pytest.mark.parametrize(("side", "share"), [(SELL, "0.5"), (BUY, "-0.5")])
def test_a_reduction_never_exceeds_what_the_subscription_holds(side: TradeSide, share: str) -> None:
    """An earlier order filled less than was expected when this one was decided."""
    book = BIDS if side is SELL else ASKS
    given(holding(share, share)).when(filling, decided("2", reduce="2", side=side, levels=book)).then(
        like(OrderSubmitted, share_micros=micros("0.5"), reduce_micros=micros("0.5")),
        like(OrderFilled, share_micros=micros("0.5")),
        like(ExecutionCompleted, requested_micros=micros("2"), filled_micros=micros("0.5")),
        like(PositionChanged, share_micros=0),
    )


def test_the_holdings_of_other_subscriptions_are_not_touched() -> None:
    given(holding("5", "500")).when(filling, decided("2", reduce="2", side=SELL, levels=BIDS), copied="0.25").then(
        like(OrderSubmitted, share_micros=micros("0.25")),
        like(OrderFilled, share_micros=micros("0.25")),
        like(ExecutionCompleted, filled_micros=micros("0.25")),
        like(PositionChanged, share_micros=micros("4.75")),
    )


def test_a_close_needs_no_net_position() -> None:
    """Two subscriptions hold against each other: each closes its own, and the net position turns over."""
    given(holding()).when(filling, decided("2", reduce="2", side=SELL, levels=BIDS), copied="2").then(
        like(OrderSubmitted, share_micros=micros("2")),
        like(OrderFilled, share_micros=micros("2")),
        like(ExecutionCompleted, reasons=()),
        like(PositionChanged, share_micros=micros("-2")),
    )


@pytest.mark.parametrize("copied", ["0", "-1"])
def test_nothing_held_is_nothing_sold(copied: str) -> None:
    nothing_left = decided("2", reduce="2", side=SELL, levels=BIDS)
    given(holding("3", "300")).when(filling, nothing_left, copied=copied).then(
        like(OrderSubmitted, share_micros=0, reduce_micros=0),
        like(ExecutionCompleted, filled_micros=0, reasons=(Reason.NO_POSITION,)),
        like(PositionChanged, share_micros=micros("3")),
    )


def test_a_flip_of_nothing_held_still_opens() -> None:
    given(holding()).when(filling, decided("3", reduce="2", side=SELL, levels=BIDS), copied="0").then(
        like(OrderSubmitted, share_micros=micros("1"), reduce_micros=0),
        like(OrderFilled, share_micros=micros("1")),
        like(ExecutionCompleted, requested_micros=micros("3"), filled_micros=micros("1")),
        like(PositionChanged, share_micros=micros("-1")),
    )


def test_a_reduction_limited_to_the_position_has_its_reason() -> None:
    given(holding("0.5", "50")).when(filling, decided("2", reduce="2", side=SELL, levels=BIDS)).then(
        like(OrderSubmitted, share_micros=micros("0.5")),
        like(OrderFilled, share_micros=micros("0.5")),
        like(ExecutionCompleted, reasons=(Reason.REDUCED_TO_POSITION,)),
        like(PositionChanged, share_micros=0),
    )


def test_an_outcome_pays_the_fee_of_its_market() -> None:
    """25 shares at 0.64 in crypto, as recorded: 0.4032 USD on top of a buy, off a sale."""
    market: dict[str, Any] = {
        "venue": Venue.POLYMARKET,
        "asset": "yes",
        "market": "race",
        "terms": terms(fee_rate_micros=70_000),
    }
    buying = decided("25", levels=levels("0.64 x 100"), **market)
    given(holding()).when(filling, buying).then(
        like(OrderSubmitted, venue=Venue.POLYMARKET),
        like(OrderFilled, fee_micros=micros("0.4032"), cash_delta_micros=micros("-16.4032")),
        like(ExecutionCompleted, fee_micros=micros("0.4032"), reasons=()),
        like(PositionChanged, cost_micros=micros("16"), average_price_micros=micros("0.64")),
    )
    selling = decided("25", reduce="25", side=SELL, levels=levels("0.64 x 100"), **market)
    given(holding("25", "10")).when(filling, selling).then(
        like(OrderSubmitted, reduce_micros=micros("25")),
        like(OrderFilled, fee_micros=micros("0.4032"), cash_delta_micros=micros("15.5968")),
        like(ExecutionCompleted, reasons=()),
        like(PositionChanged, share_micros=0, realized_micros=micros("6")),
    )


def test_an_outcome_without_fees_pays_none() -> None:
    free = decided("25", levels=levels("0.64 x 100"), venue=Venue.POLYMARKET, terms=terms(fee_rate_micros=0))
    _, fill, *_ = filling(Position(), free)
    assert isinstance(fill, OrderFilled)
    assert fill.fee_micros == 0


# --- what holds of every order -----------------------------------------------------------------------------

whole = st.integers(-(10**12), 10**12)
books = st.lists(st.tuples(st.integers(1, 10**11), st.integers(1, 10**12)), max_size=6).map(tuple)


@given_any(st.sampled_from([BUY, SELL]), books, st.integers(1, 10**12), st.integers(0, 10**12), whole, whole)
def test_what_holds_of_every_order(
    side: TradeSide, book: tuple[tuple[int, int], ...], share: int, reduce: int, held: int, copied: int
) -> None:
    reduce = min(reduce, share)
    decision = decided(side=side, levels=book, share_micros=share, reduce_micros=reduce)
    position = Position(share_micros=held, cost_micros=held * 3)
    events = fill_on_paper(decision, position, copied, Policy(), now=at(1000))
    assert events == fill_on_paper(decision, position, copied, Policy(), now=at(1000))

    submitted, *fills, completed, changed = events
    assert isinstance(submitted, OrderSubmitted)
    assert isinstance(completed, ExecutionCompleted)
    assert isinstance(changed, PositionChanged)
    assert submitted.share_micros <= share
    assert submitted.reduce_micros <= max(0, -copied * side.sign)
    assert submitted.share_micros - submitted.reduce_micros == share - reduce, "what opens is never cut"

    orders = [fill for fill in fills if isinstance(fill, OrderFilled)]
    assert len(orders) == len(fills)
    assert [fill.fill_id for fill in orders] == [fill_id(ORDER, number) for number in range(len(orders))]
    assert completed.filled_micros == sum(fill.share_micros for fill in orders) <= submitted.share_micros
    assert completed.notional_micros == sum(fill.notional_micros for fill in orders)
    assert completed.fee_micros == sum(fill.fee_micros for fill in orders)
    for fill in orders:
        assert fill.share_delta_micros == side.sign * fill.share_micros
        assert fill.cash_delta_micros == -side.sign * fill.notional_micros - fill.fee_micros
        position = evolve(position, fill)
    assert (changed.share_micros, changed.cost_micros, changed.realized_micros) == (
        position.share_micros,
        position.cost_micros,
        position.realized_micros,
    )
    assert bool(completed.reasons) == (completed.filled_micros < share)
