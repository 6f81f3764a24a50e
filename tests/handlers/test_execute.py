"""EXECUTIONS -> EXECUTIONS, as a fold: orders, fills and results on paper."""

from typing import Any

import pytest

from domain import portfolio as portfolios
from domain.events import (
    CopyDecided,
    Decision,
    ExecutionCompleted,
    Mode,
    OrderFilled,
    OrderSubmitted,
    PositionChanged,
    PositionSettled,
    Terms,
    TradeSide,
    Venue,
)
from domain.micros import times
from domain.portfolio import Portfolio
from domain.reason_codes import Reason
from handlers.execute import Execute
from handlers.live.configuration import LiveConfiguration
from streams import subjects
from streams.errors import UnprocessableError
from tests.handlers.folding import NOW, Folding, configured
from tests.streams.examples import example

USD = 1_000_000


def decision(configuration: LiveConfiguration, number: int = 1, **fields: Any) -> CopyDecided:
    """Ann buys 3 shares; the book has 2 at 100 and 5 at 101."""
    policy_hash, _ = configuration.directory.policy_of(configuration.directory.subscriptions["ann-alice"])
    return example(
        CopyDecided,
        **{
            "attempt_id": f"att{number}",
            "group_id": "g",
            "subscription_id": "ann-alice",
            "subscriber_id": "ann",
            "mode": Mode.PAPER,
            "venue": Venue.HYPERLIQUID,
            "asset": "BTC",
            "trade_side": TradeSide.BUY,
            "decision": Decision.EXECUTE,
            "share_micros": 3 * USD,
            "reduce_micros": 0,
            "levels": ((100 * USD, 2 * USD), (101 * USD, 5 * USD)),
            "policy_hash": policy_hash,
            "terms": None,
        }
        | fields,
    )


def settled(
    number: int, share: int, price: int, *, subscription: str = "ann-alice", asset: str = "BTC"
) -> PositionSettled:
    """A market pays `price` micros for each of the micros of shares that a subscription holds."""
    return example(
        PositionSettled,
        settlement_id=f"set{number}",
        subscriber_id="ann",
        subscription_id=subscription,
        venue=Venue.HYPERLIQUID,
        asset=asset,
        resolution_id="res",
        share_delta_micros=-share,
        cash_delta_micros=times(price, share),
        settled_at=NOW,
    )


def test_an_order_is_filled_level_by_level() -> None:
    configuration = configured()
    lane = Folding(Execute(configuration))
    submitted, one, two, completed, position = lane.when(decision(configuration))
    assert isinstance(submitted, OrderSubmitted)
    assert isinstance(one, OrderFilled)
    assert isinstance(two, OrderFilled)
    assert isinstance(completed, ExecutionCompleted)
    assert isinstance(position, PositionChanged)
    assert [(fill.price_micros, fill.share_micros) for fill in (one, two)] == [(100 * USD, 2 * USD), (101 * USD, USD)]
    assert one.fee_micros == 200 * USD * 450 // 1_000_000
    assert one.cash_delta_micros == -200 * USD - one.fee_micros
    assert (completed.filled_micros, completed.notional_micros, completed.reasons) == (3 * USD, 301 * USD, ())
    assert (position.share_micros, position.cost_micros) == (3 * USD, 301 * USD)
    assert [output.id for output in lane.outputs] == [
        submitted.order_id,
        one.fill_id,
        two.fill_id,
        f"{submitted.order_id}.completed",
        f"{submitted.order_id}.position",
    ]
    assert {(output.subject, output.correlation) for output in lane.outputs} == {(subjects.executions("ann"), "g")}


def test_outcome_tokens_pay_the_fee_of_their_market() -> None:
    configuration = configured()
    terms = Terms(size_step_micros=10_000, fee_rate_micros=50_000)
    book = ((400_000, 2 * USD), (500_000, 5 * USD))
    tokens = decision(configuration, venue=Venue.POLYMARKET, asset="yes", levels=book, terms=terms)
    _, one, two, completed, _ = Folding(Execute(configuration)).when(tokens)
    assert (one.fee_micros, two.fee_micros) == (24_000, 12_500), "5 % of shares x p x (1 - p)"
    assert one.cash_delta_micros == -800_000 - 24_000
    assert completed.fee_micros == 36_500


def test_a_book_that_ends_fills_in_part_and_an_empty_one_not_at_all() -> None:
    configuration = configured()
    lane = Folding(Execute(configuration))
    *_, completed, position = lane.when(decision(configuration, share_micros=9 * USD))
    assert (completed.reasons, completed.filled_micros) == ((Reason.PARTIAL_FILL,), 7 * USD)
    _, completed, same = lane.when(decision(configuration, 2, levels=()))
    assert completed.reasons == (Reason.NO_LIQUIDITY_WITHIN_BOUNDS,)
    assert (same.share_micros, same.cost_micros) == (position.share_micros, position.cost_micros)


def test_positions_add_up_and_survive_a_restart() -> None:
    configuration = configured()
    lane = Folding(Execute(configuration))
    lane.when(decision(configuration))
    sale = decision(
        configuration,
        2,
        trade_side=TradeSide.SELL,
        share_micros=2 * USD,
        reduce_micros=2 * USD,
        levels=((110 * USD, 9 * USD),),
    )
    *_, after_restart = lane.replayed().when(sale)
    *_, after_snapshot = lane.replayed(snapshot_at=99).when(sale)
    *_, position = lane.when(sale)
    assert after_restart == after_snapshot == position
    assert (position.share_micros, position.realized_micros) == (USD, 220 * USD - 301 * USD * 2 // 3)


def test_a_reduction_never_exceeds_what_the_subscription_holds() -> None:
    configuration = configured()
    lane = Folding(Execute(configuration))
    lane.when(decision(configuration, share_micros=USD))
    sale = decision(
        configuration,
        2,
        trade_side=TradeSide.SELL,
        share_micros=5 * USD,
        reduce_micros=5 * USD,
        levels=((100 * USD, 9 * USD),),
    )
    submitted, fill, completed, position = lane.when(sale)
    assert (submitted.share_micros, fill.share_micros, position.share_micros) == (USD, USD, 0)
    assert completed.reasons == (Reason.REDUCED_TO_POSITION,)


def test_a_subscription_cannot_sell_what_another_holds() -> None:
    configuration = configured()
    lane = Folding(Execute(configuration))
    lane.when(decision(configuration))
    sale: dict[str, Any] = {
        "subscription_id": "ann-bob",
        "trade_side": TradeSide.SELL,
        "reduce_micros": 3 * USD,
        "levels": ((100 * USD, 9 * USD),),
    }
    submitted, completed, position = lane.when(decision(configuration, 2, **sale))
    assert (submitted.share_micros, completed.reasons) == (0, (Reason.NO_POSITION,))
    assert position.share_micros == 3 * USD


def test_a_closed_copy_leaves_memory() -> None:
    configuration = configured()
    lane = Folding(Execute(configuration))
    lane.when(decision(configuration))
    sale: dict[str, Any] = {
        "trade_side": TradeSide.SELL,
        "share_micros": 3 * USD,
        "reduce_micros": 3 * USD,
        "levels": ((100 * USD, 9 * USD),),
    }
    *_, position = lane.when(decision(configuration, 2, **sale))
    assert position.share_micros == 0
    assert lane.state.copied == {}


# --- settlement --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("price", "profit"), [(USD, -298 * USD), (0, -301 * USD), (USD // 2, -299_500_000)])
def test_a_settlement_is_followed_by_the_position_after_it(price: int, profit: int) -> None:
    configuration = configured()
    lane = Folding(Execute(configuration))
    lane.when(decision(configuration))
    payout = settled(1, 3 * USD, price)
    lane.given(payout)
    (position,) = lane.when(payout)
    assert position == PositionChanged(
        subscriber_id="ann",
        venue=Venue.HYPERLIQUID,
        asset="BTC",
        order_id="set1",
        share_micros=0,
        cost_micros=0,
        average_price_micros=0,
        realized_micros=profit,
        changed_at=NOW,
    )
    output = lane.outputs[-1]
    assert (output.subject, output.id, output.correlation) == (subjects.executions("ann"), "set1.position", "res")
    assert lane.state.copied == {}


def test_each_subscriptions_settlement_takes_its_own_part() -> None:
    configuration = configured()
    lane = Folding(Execute(configuration))
    lane.when(decision(configuration, share_micros=2 * USD))
    lane.when(decision(configuration, 2, subscription_id="ann-bob", share_micros=2 * USD))
    payouts = [settled(1, 2 * USD, USD), settled(2, 2 * USD, USD, subscription="ann-bob")]
    # Both stand in the log before the first is answered.
    lane.given(*payouts)
    positions = [position for payout in payouts for position in lane.when(payout)]
    assert [position.share_micros for position in positions] == [2 * USD, 0]
    assert positions[-1].realized_micros == 4 * USD - 400 * USD
    assert lane.replayed().state == lane.replayed(snapshot_at=9).state == lane.state


def test_the_stored_positions_are_those_of_the_portfolio() -> None:
    """Two stages fold the same fills: the positions of one are those of the other."""
    configuration = configured()
    lane = Folding(Execute(configuration))
    portfolio = Portfolio()
    sale: dict[str, Any] = {"trade_side": TradeSide.SELL, "levels": ((110 * USD, 9 * USD),)}
    for number, fields in enumerate(
        [
            {},
            sale | {"reduce_micros": USD, "share_micros": USD},
            sale | {"reduce_micros": 2 * USD, "share_micros": 5 * USD},
        ]
    ):
        made = decision(configuration, number, **fields)
        portfolios.evolve(portfolio, made)
        for event in lane.when(made):
            portfolios.evolve(portfolio, event)
        changed = lane.outputs[-1].event
        held = portfolio.positions["hyperliquid", "BTC"]
        assert isinstance(changed, PositionChanged)
        assert (changed.share_micros, changed.cost_micros) == (held.share_micros, held.cost_micros)
        assert changed.realized_micros == portfolios.realized(portfolio)
    payout = settled(9, held.share_micros, USD)
    (last,) = lane.when(payout)
    portfolios.evolve(portfolio, payout)
    assert (last.share_micros, portfolio.positions) == (0, {})
    assert last.realized_micros == portfolios.realized(portfolio)


@pytest.mark.parametrize(
    "fields", [{"decision": Decision.SKIP}, {"mode": Mode.LIVE}, {"mode": Mode.RECORD_ONLY}], ids=str
)
def test_skips_and_other_modes_have_no_orders(fields: dict[str, Any]) -> None:
    configuration = configured()
    assert Folding(Execute(configuration)).when(decision(configuration, **fields)) == []


def test_an_unknown_policy_cannot_be_executed() -> None:
    configuration = configured()
    with pytest.raises(UnprocessableError, match="policy gone is not in CONFIG"):
        Folding(Execute(configuration)).when(decision(configuration, policy_hash="gone"))
