"""EXECUTIONS -> EXECUTIONS, as a fold: orders, fills and results on paper."""

from typing import Any

import pytest

from domain.events import (
    CopyDecided,
    Decision,
    ExecutionCompleted,
    Mode,
    OrderFilled,
    OrderSubmitted,
    PositionChanged,
    TradeSide,
    Venue,
)
from domain.reasons import Reason
from handlers.configuration import Configuration
from handlers.execute import Execute
from streams import subjects
from streams.errors import UnprocessableError
from tests.handlers.folding import Folding, configured
from tests.streams.examples import example

USD = 1_000_000


def decision(configuration: Configuration, number: int = 1, **fields: Any) -> CopyDecided:
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
        }
        | fields,
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
    *_, position = lane.when(sale)
    assert after_restart == position
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


@pytest.mark.parametrize(
    "fields", [{"decision": Decision.SKIP}, {"mode": Mode.LIVE}, {"mode": Mode.RECORD_ONLY}], ids=str
)
def test_skips_and_other_modes_are_left_alone(fields: dict[str, Any]) -> None:
    configuration = configured()
    assert Folding(Execute(configuration)).when(decision(configuration, **fields)) == []


def test_an_unknown_policy_cannot_be_executed() -> None:
    configuration = configured()
    with pytest.raises(UnprocessableError, match="policy gone is not in CONFIG"):
        Folding(Execute(configuration)).when(decision(configuration, policy_hash="gone"))
