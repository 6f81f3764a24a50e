"""REQUESTS -> EXECUTIONS, as a fold: the deposit first, then one decision per request."""

import asyncio
from typing import Any

import pytest

from domain.events import (
    Action,
    CashDeposited,
    CopyDecided,
    Decision,
    ExecutionCompleted,
    ExecutionRequested,
    Mode,
    OrderFilled,
    RequestedQuote,
    Sizing,
    TradeSide,
    Venue,
)
from handlers.configuration import Configuration
from handlers.configure import import_lines
from handlers.plan import Plan
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.errors import UnprocessableError
from streams.processor import LaneWorker
from streams.subjects import Lane
from tests.handlers.folding import CODEC, LINES, NOW, Folding, configured
from tests.streams.examples import example

USD = 1_000_000


def request(configuration: Configuration, number: int = 1, **fields: Any) -> ExecutionRequested:
    """Ann is to copy 10 % of Alice's buy of 500 USD at 100, in a deep and narrow book."""
    policy_hash, _ = configuration.directory.policy_of(configuration.directory.subscriptions["ann-alice"])
    return example(
        ExecutionRequested,
        **{
            "request_id": f"req{number}",
            "subscription_id": "ann-alice",
            "subscriber_id": "ann",
            "influencer_id": "alice",
            "mode": Mode.PAPER,
            "group_id": f"g{number}",
            "venue": Venue.HYPERLIQUID,
            "asset": "BTC",
            "action": Action.OPEN,
            "trade_side": TradeSide.BUY,
            "before_micros": 0,
            "after_micros": 5 * USD,
            "notional_micros": 500 * USD,
            "price_micros": 100 * USD,
            "event_time": NOW - 1_000_000,
            "quote": RequestedQuote("q", 99_990_000, 100_010_000, ((100_010_000, 50 * USD),), 10_000, NOW),
            "quote_reason": None,
            "sizing": Sizing("copy_percent", percent_micros=10 * USD),
            "policy_hash": policy_hash,
            "config_sequence": 10,
        }
        | fields,
    )


def test_the_first_request_deposits_what_is_configured_then_decides() -> None:
    configuration = configured()
    lane = Folding(Plan(configuration))
    deposited, decided = lane.when(request(configuration))
    assert isinstance(deposited, CashDeposited)
    assert (deposited.subscriber_id, deposited.cash_delta_micros) == ("ann", 10_000 * USD)
    assert isinstance(decided, CopyDecided)
    assert (decided.decision, decided.reasons, decided.equity_micros) == (Decision.EXECUTE, (), 10_000 * USD)
    assert decided.share_micros == 490_000, "50 USD at 100.01, in lots of 0.01"
    assert {output.subject for output in lane.outputs} == {subjects.executions("ann")}
    assert [output.id for output in lane.outputs] == [deposited.deposit_id, decided.attempt_id]
    (second,) = lane.when(request(configuration, 2))
    assert isinstance(second, CopyDecided), "the deposit is made once"
    assert [type(event) for event in lane.replayed().when(request(configuration, 2))] == [CopyDecided]


@pytest.mark.parametrize(("amount", "delta"), [("12500.5", 2_500_500_000), ("4000", -6_000 * USD)])
def test_a_changed_deposit_moves_cash_by_the_difference(amount: str, delta: int) -> None:
    before, after = configured(), configured([*LINES[:2], LINES[2].replace("10000", amount), *LINES[3:]])
    lane = Folding(Plan(before))
    lane.when(request(before))
    lane.stage = Plan(after)
    deposited, decided = lane.when(request(after, 2))
    assert deposited.cash_delta_micros == delta
    assert decided.equity_micros == 10_000 * USD + delta


def test_a_decision_names_the_last_fill_that_it_has_seen() -> None:
    configuration = configured()
    lane = Folding(Plan(configuration))
    _, first = lane.when(request(configuration))
    assert first.portfolio_sequence == 0
    for sequence, event in (
        (70, example(OrderFilled, subscriber_id="ann", attempt_id=first.attempt_id, subscription_id="ann-alice")),
        (71, example(ExecutionCompleted, subscriber_id="ann", attempt_id=first.attempt_id)),
    ):
        lane.given(event, sequence=sequence)
    (second,) = lane.when(request(configuration, 2))
    assert second.portfolio_sequence == 71


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"policy_hash": "unheard"}, "policy unheard is not in CONFIG"), ({"subscriber_id": "who"}, "'who' is not in")],
)
def test_what_is_not_configured_cannot_be_decided(fields: dict[str, Any], why: str) -> None:
    configuration = configured()
    lane = Folding(Plan(configuration))
    with pytest.raises(UnprocessableError, match=why):
        lane.when(request(configuration, **fields))
    assert lane.outputs == []


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.RECORD_ONLY])
def test_other_modes_are_skipped_with_the_reason(mode: Mode) -> None:
    configuration = configured()
    _, decided = Folding(Plan(configuration)).when(request(configuration, mode=mode))
    assert decided.decision is Decision.SKIP
    assert len(decided.reasons) == 1


async def test_a_request_from_a_configuration_to_come_does_not_keep_a_worker_from_stopping(log: Connection) -> None:
    await import_lines(log, LINES, actor="tests", now=NOW)
    configuration = Configuration(log, CODEC)
    await configuration.start()
    wanted = request(configuration, config_sequence=1_000_000)
    payload = CODEC.encode(wanted, id="r", source="tests", time_ns=NOW)
    await append(log, [Record(subjects.requests("ann"), payload)])
    stop = asyncio.Event()
    worker = LaneWorker(log, CODEC, Plan(configuration), Lane(0, 63), lambda: NOW)
    task = asyncio.create_task(worker.run(stop))
    try:
        await asyncio.wait_for(worker.loaded.wait(), 10)
        stop.set()
        await asyncio.wait_for(task, 2)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await configuration.close()
