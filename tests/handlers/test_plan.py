"""REQUESTS -> EXECUTIONS, as a fold: deposits and breakers first, then one decision per request; and ticks."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from domain.breakers import DAY, next_day
from domain.default_portfolios import EXEC_GLOBAL
from domain.events import (
    Action,
    BreakerLimit,
    BreakerReset,
    BreakerTripped,
    CashDeposited,
    ControlChanged,
    ControlState,
    ControlTarget,
    CopyDecided,
    CopyQueued,
    Decision,
    EquityMarked,
    Event,
    ExecutionCompleted,
    ExecutionRequested,
    ExitOwed,
    GroupCause,
    MarkCaptured,
    MarketResolved,
    Mode,
    OrderFilled,
    OrderSubmitted,
    Payout,
    PortfolioScope,
    PositionChanged,
    PositionSettled,
    RequestedQuote,
    SettlementCorrected,
    Sizing,
    TradeSide,
    Venue,
)
from domain.ids import derived
from domain.paper_execution import execute_on_paper
from domain.portfolio_set import EVALUATION_INTERVAL_NS
from domain.reason_codes import Reason
from domain.venues import VENUES
from handlers.live.configuration import LiveConfiguration, configuration_fold
from handlers.live.mark_prices import LiveMarkPrices
from handlers.plan import QUEUE_MARGIN_NS, Plan, PlanState
from handlers.services.config_import import import_lines
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.errors import UnprocessableError
from streams.processing.commit import messages
from streams.processing.processor import LaneWorker
from streams.processing.stage import Output
from streams.reader import read_all
from streams.subjects import Lane
from tests.handlers.folding import CODEC, LINES, NOW, SECOND, Folding, configured, request_payload, requested, valued
from tests.streams.deadlines import settled
from tests.streams.examples import example

USD = 1_000_000
MS = 1_000_000
LANE = Lane(0, 63)
BULLISH = '{"kind":"influencer","id":"bob","venue":"hyperliquid","addresses":["0x' + "b2" * 20 + '"]}'


def quote(mid: float = 100, size: int = 50) -> RequestedQuote:
    """A book a cent wide on each side of the mid."""
    bid, ask = int(mid * USD) - 10_000, int(mid * USD) + 10_000
    return RequestedQuote("q", bid, ask, ((ask, size * USD),), 10_000, NOW)


def request(
    configuration: LiveConfiguration, number: int = 1, *, mid: float = 100, **fields: Any
) -> ExecutionRequested:
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
            "market": "BTC",
            "action": Action.OPEN,
            "trade_side": TradeSide.BUY,
            "before_micros": 0,
            "after_micros": 5 * USD,
            "notional_micros": 500 * USD,
            "price_micros": int(mid * USD),
            "event_time": NOW - 1_000_000,
            "detect_time": NOW - 1_000_000,
            "quote": quote(mid),
            "quote_reason": None,
            "sizing": Sizing("copy_percent", percent_micros=10 * USD),
            "policy_hash": policy_hash,
            "config_sequence": 10,
            "opening_blocked": None,
            "exit": None,
            "account": None,
        }
        | fields,
    )


def on_polymarket(configuration: LiveConfiguration, number: int = 1, **fields: Any) -> ExecutionRequested:
    """The same in outcome tokens at 0.50."""
    usual: dict[str, Any] = {"venue": Venue.POLYMARKET, "asset": "yes", "market": "race", "after_micros": 1000 * USD}
    return request(configuration, number, mid=0.5, **(usual | {"quote": quote(0.5, 10_000)} | fields))


def planning(configuration: LiveConfiguration, valuation: LiveMarkPrices | None = None) -> Folding[PlanState]:
    return Folding(Plan(configuration, valuation or valued()))


def the_decision(events: list[Any]) -> CopyDecided:
    """The only decision among events."""
    (found,) = [event for event in events if isinstance(event, CopyDecided)]
    return found


def bought(lane: Folding[PlanState], configuration: LiveConfiguration, wanted: ExecutionRequested) -> CopyDecided:
    """A request decided and filled."""
    decision = the_decision(lane.when(wanted))
    assert decision.decision is Decision.EXECUTE, decision.reasons
    return decision


def mark(price: float, *, asset: str = "BTC", venue: Venue = Venue.HYPERLIQUID, at: int = NOW) -> MarkCaptured:
    return example(MarkCaptured, venue=venue, asset=asset, price_micros=int(price * USD), marked_at=at)


def resolved(*, yes: float = 1, id: str = "res-1", corrects: str | None = None) -> MarketResolved:
    payouts = (Payout("yes", int(yes * USD)), Payout("no", USD - int(yes * USD)))
    return example(
        MarketResolved,
        resolution_id=id,
        venue=Venue.POLYMARKET,
        market="race",
        payouts=payouts,
        detect_time=NOW,
        corrects=corrects,
    )


def moves(valuation: LiveMarkPrices, *events: Event) -> None:
    """More of GROUPS."""
    for event in events:
        valuation.marks.evolve(event, valuation.marks.sequence + 10)


def paid(events: list[Any]) -> list[PositionSettled]:
    return [event for event in events if isinstance(event, PositionSettled)]


def kinds(events: list[Any]) -> list[type]:
    return [type(event) for event in events]


# --- deposits and decisions --------------------------------------------------------------------------------


def test_before_the_first_decision_come_the_deposit_and_the_equity_mark() -> None:
    configuration = configured()
    lane = planning(configuration)
    deposited, marked, decided, *_ = lane.when(request(configuration))
    assert isinstance(deposited, CashDeposited)
    assert (deposited.subscriber_id, deposited.cash_delta_micros) == ("ann", 10_000 * USD)
    assert isinstance(marked, EquityMarked)
    assert (marked.subscriber_id, marked.equity_micros, marked.marked_at) == ("ann", 10_000 * USD, NOW)
    assert isinstance(decided, CopyDecided)
    assert (decided.decision, decided.reasons, decided.equity_micros) == (Decision.EXECUTE, (), 10_000 * USD)
    assert decided.share_micros == 490_000, "50 USD at 100.01, in lots of 0.01"
    assert {output.subject for output in lane.outputs} == {subjects.executions("ann")}
    assert [output.id for output in lane.outputs][:3] == [
        deposited.deposit_id,
        derived("eqm", "ann", NOW, 10_000 * USD),
        decided.attempt_id,
    ]
    assert {output.correlation for output in lane.outputs} == {"g1"}
    assert {output.cause for output in lane.outputs} == {None}, "all of it because of the request"
    second, *_ = lane.when(request(configuration, 2))
    assert isinstance(second, CopyDecided), "the deposit is made once, and the day begins once"
    assert kinds(lane.replayed().when(request(configuration, 3)))[0] is CopyDecided


@pytest.mark.parametrize(("amount", "delta"), [("12500.5", 2_500_500_000), ("4000", -6_000 * USD)])
def test_a_changed_deposit_moves_cash_by_the_difference_and_is_no_loss(amount: str, delta: int) -> None:
    before, after = configured(), configured([*LINES[:2], LINES[2].replace("10000", amount), *LINES[3:]], sequence=11)
    lane = planning(before)
    lane.when(request(before, mode=Mode.RECORD_ONLY))
    lane.stage = Plan(after, valued())
    marked, deposited, decided, *_ = lane.when(request(after, 2))
    assert isinstance(marked, EquityMarked), "returns are counted from the equity to which the deposit came"
    assert (deposited.cash_delta_micros, deposited.config_sequence) == (delta, 11)
    assert decided.equity_micros == 10_000 * USD + delta
    assert decided.config_sequence == 11
    assert lane.state.portfolios.of["ann"].breakers.day_micros == 10_000 * USD + delta


def test_a_decision_names_its_inputs() -> None:
    configuration, valuation = configured(), valued(mark(99), mark(100))
    lane = planning(configuration, valuation)
    first = the_decision(lane.when(request(configuration)))
    assert (first.config_sequence, first.marks_sequence) == (10, 20)
    moves(valuation, mark(101))
    second = the_decision(lane.when(request(configuration, 2)))
    assert second.marks_sequence == 30


def test_the_requests_of_one_commit_are_decided_at_one_time_unless_what_they_use_changes() -> None:
    configuration, valuation = configured(), valued(mark(99), mark(100))
    lane = planning(configuration, valuation)
    together = [request(configuration, number, group_id="g") for number in range(4)]
    _, *found = CODEC.decode("REQUESTS", 1, "a.subject", request_payload(*together))

    def decided(number: int, now: int) -> CopyDecided:
        outputs = list(lane.stage.handle(lane.state, found[number], now))
        return the_decision([output.event for output in outputs])

    alone = [the_decision(planning(configuration, valuation).when(one, now=NOW)) for one in together]
    assert [decided(0, NOW), decided(1, NOW + 5)] == alone[:2]
    moves(valuation, mark(101))
    later = decided(2, NOW + 9)
    assert (later.decided_at, later.marks_sequence) == (NOW + 9, 30)
    *_, apart = lane.stage.handle(lane.state, requested(together[3]), NOW + 11)
    assert apart.event.changed_at == NOW + 11  # type: ignore[attr-defined]


def test_a_stored_decision_is_counted_with_its_reasons_and_its_latency() -> None:
    def counted() -> list[float]:
        samples: tuple[tuple[str, dict[str, str]], ...] = (
            ("vibe_decisions_total", {"decision": "SKIP"}),
            ("vibe_decision_reasons_total", {"reason": "NO_QUOTE"}),
            ("vibe_decision_seconds_count", {}),
        )
        return [REGISTRY.get_sample_value(name, labels) or 0.0 for name, labels in samples]

    lane, before = planning(configured()), counted()
    for number in (0, 1):
        skipped = example(CopyDecided, decision=Decision.SKIP, reasons=(Reason.NO_QUOTE,), exit_try=number)
        lane.stage.stored(lane.state, Output("a.subject", skipped, "att", "g"), 1)
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [2, 2, 1]


def test_what_is_executed_on_paper_is_filled_in_the_same_commit() -> None:
    configuration = configured()
    lane = planning(configuration)
    events = lane.when(request(configuration))
    decided = the_decision(events)
    assert kinds(events[events.index(decided) :]) == [
        CopyDecided,
        OrderSubmitted,
        OrderFilled,
        ExecutionCompleted,
        PositionChanged,
    ]
    (commit,) = messages(lane.outputs)
    assert len(commit) == len(events)
    assert (events[-2].filled_micros, events[-1].share_micros) == (decided.share_micros, decided.share_micros)
    assert lane.state.portfolios.of["ann"].holdings["hyperliquid", "BTC"].orders == {}
    again = the_decision(lane.when(request(configuration, 2)))
    spread_micros = decided.share_micros * 10_000 // USD
    assert again.equity_micros == 10_000 * USD - spread_micros - events[-2].fee_micros, "filled a cent above the mid"


def test_what_is_skipped_or_only_recorded_is_not_filled() -> None:
    configuration = configured()
    for fields in ({"mode": Mode.LIVE}, {"mode": Mode.RECORD_ONLY}, {"quote": None, "quote_reason": Reason.NO_QUOTE}):
        *_, last = planning(configuration).when(request(configuration, **fields))
        assert isinstance(last, CopyDecided)


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"policy_hash": "unheard"}, "policy unheard is not in CONFIG"), ({"subscriber_id": "who"}, "'who' is not in")],
)
def test_a_request_without_its_configuration_cannot_be_decided(fields: dict[str, Any], why: str) -> None:
    configuration = configured()
    lane = planning(configuration)
    with pytest.raises(UnprocessableError, match=why):
        lane.when(request(configuration, **fields))
    assert lane.outputs == []


@pytest.mark.parametrize(
    ("mode", "reason"), [(Mode.LIVE, Reason.LIVE_NOT_AVAILABLE), (Mode.RECORD_ONLY, Reason.RECORD_ONLY)]
)
def test_other_modes_are_skipped_with_the_reason(mode: Mode, reason: Reason) -> None:
    configuration = configured()
    decided = the_decision(planning(configuration).when(request(configuration, mode=mode)))
    assert (decided.decision, decided.reasons) == (Decision.SKIP, (reason,))


# --- breakers ----------------------------------------------------------------------------------------------


def losing(configuration: LiveConfiguration, valuation: LiveMarkPrices) -> Folding[PlanState]:
    """Ann holds 10 BTC from 100 USD each, in a portfolio of 10,000 USD, marked this day."""
    lane = planning(configuration, valuation)
    decided = the_decision(lane.when(request(configuration)))
    large = example(
        CopyDecided,
        **{name: getattr(decided, name) for name in CopyDecided.__struct_fields__}
        | {"attempt_id": "att-large", "share_micros": 10 * USD, "levels": ((100 * USD, 50 * USD),)},
    )
    policy = configuration.directory.policy_named(decided.policy_hash)
    assert policy is not None
    lane.given(large, *execute_on_paper(lane.state.portfolios.of["ann"], large, policy, now=NOW))
    return lane


def test_a_loss_trips_before_the_decision_that_it_stops() -> None:
    configuration, valuation = configured(), valued()
    lane = losing(configuration, valuation)
    moves(valuation, mark(69, at=NOW + 1))
    tripped, decided = lane.when(request(configuration, 2), now=NOW + SECOND)
    assert isinstance(tripped, BreakerTripped)
    assert (tripped.limit, tripped.marks_sequence, tripped.config_sequence) == (BreakerLimit.DAILY_LOSS, 10, 10)
    assert Reason.BREAKER_DAILY_LOSS in decided.reasons
    output = lane.outputs[-2]
    assert output.subject == subjects.executions("ann")
    assert output.id == derived("brk", "ann", BreakerLimit.DAILY_LOSS, NOW + SECOND)
    again = the_decision(lane.when(request(configuration, 3), now=NOW + SECOND))
    assert kinds([again]) == [CopyDecided]


def test_a_tick_trips_a_breaker_when_marks_move_and_names_the_mark() -> None:
    configuration, valuation = configured(), valued()
    lane = losing(configuration, valuation)
    assert lane.when_time_passes(NOW + EVALUATION_INTERVAL_NS) == []
    moves(valuation, mark(69, at=NOW + 1))
    (tripped,) = lane.when_time_passes(NOW + 2 * EVALUATION_INTERVAL_NS)
    assert isinstance(tripped, BreakerTripped)
    assert lane.outputs[-1].cause == "GROUPS:10.0"
    assert lane.when_time_passes(NOW + 3 * EVALUATION_INTERVAL_NS) == []
    moves(valuation, mark(68, at=NOW + 2))
    assert lane.when_time_passes(NOW + 4 * EVALUATION_INTERVAL_NS) == []


def test_marks_are_compared_once_a_second() -> None:
    configuration, valuation = configured(), valued()
    lane = losing(configuration, valuation)
    lane.when_time_passes(NOW)
    moves(valuation, mark(69, at=NOW + 1))
    assert lane.when_time_passes(NOW + EVALUATION_INTERVAL_NS - 1) == []
    assert len(lane.when_time_passes(NOW + EVALUATION_INTERVAL_NS)) == 1


def test_the_mark_of_an_asset_not_held_re_evaluates_no_portfolio() -> None:
    configuration, valuation = configured(), valued()
    lane = losing(configuration, valuation)
    lane.when_time_passes(NOW)
    moves(valuation, mark(69, asset="ETH"))
    lane.stage.tick(lane.state, NOW + EVALUATION_INTERVAL_NS)
    assert lane.state.portfolios.to_reevaluate == {}


def test_portfolios_are_re_evaluated_at_midnight_without_any_mark() -> None:
    configuration, valuation = configured(), valued()
    lane = losing(configuration, valuation)
    moves(valuation, mark(69, at=NOW + 1))
    lane.when_time_passes(NOW + EVALUATION_INTERVAL_NS)
    midnight = next_day(NOW)
    assert lane.when_time_passes(midnight - 1) == []
    marked, reset = lane.when_time_passes(midnight - 1 + EVALUATION_INTERVAL_NS)
    assert (type(marked), type(reset), reset.limit) == (EquityMarked, BreakerReset, BreakerLimit.DAILY_LOSS)
    assert lane.outputs[-1].id == derived("brr", "ann", BreakerLimit.DAILY_LOSS, midnight - 1 + EVALUATION_INTERVAL_NS)
    assert lane.when_time_passes(midnight + 2 * EVALUATION_INTERVAL_NS) == []


def test_an_operator_resets_breakers_once() -> None:
    configuration, valuation = configured(), valued()
    lane = losing(configuration, valuation)
    moves(valuation, mark(69, at=NOW + 1))
    lane.when_time_passes(NOW + EVALUATION_INTERVAL_NS)
    order = ControlChanged(target=ControlTarget.BREAKERS, id="ann", state=ControlState.RESET, actor="olga", note="ok")
    configuration.directory.evolve(order, NOW, 12)
    configuration.sequence = 12
    (reset,) = lane.when_time_passes(NOW + 2 * EVALUATION_INTERVAL_NS)
    assert (type(reset), reset.actor, reset.config_sequence) == (BreakerReset, "olga", 12)
    assert lane.when_time_passes(NOW + 3 * EVALUATION_INTERVAL_NS) == []
    moves(valuation, mark(30, at=NOW + 2))
    (tripped,) = lane.when_time_passes(NOW + 4 * EVALUATION_INTERVAL_NS)
    assert isinstance(tripped, BreakerTripped)
    assert lane.when_time_passes(NOW + 5 * EVALUATION_INTERVAL_NS) == [], "the order was given before it tripped"
    again = lane.replayed()
    assert again.when_time_passes(NOW + 6 * EVALUATION_INTERVAL_NS) == [], "nor after a restart"


# --- ordered closings -----------------------------------------------------------------------------------------


def order_closing(configuration: LiveConfiguration, what: str, sequence: int) -> None:
    """An operator's order to close positions."""
    order = ControlChanged(
        target=ControlTarget.POSITIONS, id=what, state=ControlState.CLOSED, actor="olga", note="leaves"
    )
    configuration.directory.evolve(order, NOW, sequence)
    configuration.sequence = sequence


@pytest.mark.parametrize(
    "what",
    ["subscriber:ann", "subscriber:ann BTC", "subscription:ann-alice", "influencer:alice", "influencer:alice BTC"],
)
def test_what_is_ordered_to_close_is_owed_whole_and_once(what: str) -> None:
    configuration, valuation = configured(), valued()
    lane = planning(configuration, valuation)
    held = bought(lane, configuration, request(configuration)).share_micros
    lane.when_time_passes(NOW)
    order_closing(configuration, what, 12)
    owed = next(event for event in lane.when_time_passes(NOW + EVALUATION_INTERVAL_NS) if isinstance(event, ExitOwed))
    assert (owed.subscription_id, owed.share_micros, owed.trade_side) == ("ann-alice", held, TradeSide.SELL)
    assert (owed.cause, owed.price_micros, owed.due_at) == (GroupCause.ORDERED, 0, NOW + EVALUATION_INTERVAL_NS)
    output = next(output for output in lane.outputs if output.event is owed)
    assert (output.id, output.cause) == (f"{owed.exit_id}.12.owed", "CONFIG:12.0")
    again = lane.replayed()
    for later in (lane, again):
        order_closing(configuration, "subscriber:bob", 13)
        made = later.when_time_passes(NOW + 3 * EVALUATION_INTERVAL_NS)
        assert not any(isinstance(event, ExitOwed) for event in made), "it is owed already, also after a restart"


def test_what_is_opened_after_an_order_to_close_is_not_closed() -> None:
    configuration, valuation = configured(), valued()
    lane = planning(configuration, valuation)
    order_closing(configuration, "subscriber:ann", 12)
    bought(lane, configuration, request(configuration))
    made = lane.when_time_passes(NOW + EVALUATION_INTERVAL_NS)
    assert not any(isinstance(event, ExitOwed) for event in made)
    order_closing(configuration, "subscriber:ann DOGE", 13)
    made = lane.when_time_passes(NOW + 3 * EVALUATION_INTERVAL_NS)
    assert not any(isinstance(event, ExitOwed) for event in made), "another asset"


# --- settlement --------------------------------------------------------------------------------------------


def test_a_resolved_market_is_paid_out_exactly_once() -> None:
    configuration, valuation = configured(), valued()
    lane = planning(configuration, valuation)
    decision = bought(lane, configuration, on_polymarket(configuration))
    bought(lane, configuration, on_polymarket(configuration, 2, subscription_id="ann-bob", influencer_id="bob"))
    cash = lane.state.portfolios.of["ann"].cash_micros
    lane.when_time_passes(NOW)
    moves(valuation, mark(0.7, asset="yes", venue=Venue.POLYMARKET), resolved())
    one, first_after, other, last_after, marked = lane.when_time_passes(NOW + EVALUATION_INTERVAL_NS)
    assert isinstance(one, PositionSettled)
    assert kinds([first_after, last_after]) == [PositionChanged, PositionChanged]
    assert (first_after.order_id, first_after.share_micros) == (one.settlement_id, -other.share_delta_micros)
    assert (last_after.order_id, last_after.share_micros) == (other.settlement_id, 0)
    assert isinstance(marked, EquityMarked), "the payout made a new peak"
    assert (one.subscriber_id, one.subscription_id, one.influencer_id) == ("ann", "ann-alice", "alice")
    assert (other.subscription_id, other.influencer_id) == ("ann-bob", "bob")
    assert (one.share_delta_micros, one.cash_delta_micros) == (-decision.share_micros, decision.share_micros)
    assert (one.price_micros, one.market, one.resolution_id) == (USD, "race", "res-1")
    assert one.settled_at == NOW + EVALUATION_INTERVAL_NS
    output = lane.outputs[-5]
    assert (output.id, output.correlation, output.cause) == (one.settlement_id, "res-1", "GROUPS:20.0")
    portfolio = lane.state.portfolios.of["ann"]
    assert portfolio.holdings == {}
    assert portfolio.cash_micros == cash + one.cash_delta_micros + other.cash_delta_micros
    moves(valuation, resolved(yes=0, id="res-2"))
    assert lane.when_time_passes(NOW + 2 * EVALUATION_INTERVAL_NS) == [], "it corrects nothing"
    assert lane.replayed().when_time_passes(NOW + 3 * EVALUATION_INTERVAL_NS) == [], "nor after a restart"


@pytest.mark.parametrize("restart", [False, True])
def test_a_changed_resolution_books_the_difference_once(restart: bool) -> None:
    configuration, valuation = configured(), valued()
    lane = planning(configuration, valuation)
    decision = bought(lane, configuration, on_polymarket(configuration))
    cash = lane.state.portfolios.of["ann"].cash_micros
    moves(valuation, resolved(yes=1))
    _, paid_out, *_ = lane.when_time_passes(NOW)
    moves(valuation, resolved(yes=0, id="res-2", corrects="res-1"))
    if restart:
        lane = lane.replayed()
    corrected, after, *_ = lane.when_time_passes(NOW + EVALUATION_INTERVAL_NS)
    assert isinstance(corrected, SettlementCorrected)
    assert (corrected.subscription_id, corrected.market, corrected.resolution_id) == ("ann-alice", "race", "res-2")
    assert (corrected.share_micros, corrected.paid_price_micros, corrected.price_micros) == (
        decision.share_micros,
        USD,
        0,
    )
    assert corrected.cash_delta_micros == -decision.share_micros
    assert (after.order_id, after.share_micros) == (corrected.correction_id, 0)
    assert after.realized_micros == paid_out.realized_micros - decision.share_micros
    portfolio = lane.state.portfolios.of["ann"]
    assert portfolio.cash_micros == cash
    assert lane.when_time_passes(NOW + 2 * EVALUATION_INTERVAL_NS) == []
    moves(valuation, resolved(yes=1, id="res-3", corrects="res-2"))
    back, *_ = lane.when_time_passes(NOW + 3 * EVALUATION_INTERVAL_NS)
    assert back.cash_delta_micros == decision.share_micros, "a correction is corrected too"


def test_what_was_not_paid_yet_is_paid_as_corrected() -> None:
    configuration, valuation = configured(), valued()
    lane = planning(configuration, valuation)
    bought(lane, configuration, on_polymarket(configuration))
    moves(valuation, resolved(yes=1), resolved(yes=0, id="res-2", corrects="res-1"))
    first, *rest = lane.when_time_passes(NOW)
    assert (first.cash_delta_micros, first.resolution_id) == (0, "res-2")
    assert SettlementCorrected not in kinds(rest)


@pytest.mark.parametrize("yes", [0, 0.5, 1])
def test_a_payout_may_be_nothing_a_half_or_a_dollar(yes: float) -> None:
    configuration, valuation = configured(), valued()
    lane = planning(configuration, valuation)
    decision = bought(lane, configuration, on_polymarket(configuration))
    moves(valuation, resolved(yes=yes))
    settled, *_ = lane.when_time_passes(NOW)
    assert settled.cash_delta_micros == decision.share_micros * yes


def test_a_resolved_market_takes_no_more_orders() -> None:
    configuration, valuation = configured(), valued(resolved())
    decided = the_decision(planning(configuration, valuation).when(on_polymarket(configuration)))
    assert Reason.MARKET_CLOSED in decided.reasons


# --- many portfolios ---------------------------------------------------------------------------------------


def test_many_portfolios_are_re_evaluated_a_bounded_number_at_a_time() -> None:
    lines = [f'{{"kind":"subscriber","id":"s{number}","deposit_usd":"10000"}}' for number in range(450)]
    configuration, valuation = configured([*LINES, *lines]), valued()
    lane = planning(configuration, valuation)
    for number in range(450):
        fields = {"subscriber_id": f"s{number}", "subscription_id": f"s{number}-alice"}
        bought(lane, configuration, on_polymarket(configuration, number, **fields))
    moves(valuation, resolved())
    done: list[str] = []
    for turn in (200, 200, 50):
        settled = paid(lane.when_time_passes(NOW + EVALUATION_INTERVAL_NS))
        assert len(settled) == turn
        done += [event.subscriber_id for event in settled]
        assert lane.stage.due(lane.state) == (0 if len(done) < 450 else NOW + 2 * EVALUATION_INTERVAL_NS)
    assert len(set(done)) == 450


def test_without_positions_no_tick_is_due() -> None:
    configuration = configured()
    lane = planning(configuration)
    assert lane.stage.due(lane.state) is None
    decision = bought(lane, configuration, request(configuration))
    lane.when_time_passes(NOW)
    assert lane.stage.due(lane.state) == NOW + EVALUATION_INTERVAL_NS
    assert lane.state.portfolios.holders == {("hyperliquid", "BTC"): {"ann"}}
    sale: dict[str, Any] = {
        "action": Action.CLOSE,
        "trade_side": TradeSide.SELL,
        "before_micros": 5 * USD,
        "after_micros": 0,
    }
    book = RequestedQuote("q", 99_990_000, 100_010_000, ((99_990_000, 50 * USD),), 10_000, NOW)
    sold = bought(lane, configuration, request(configuration, 2, quote=book, **sale))
    assert sold.share_micros == decision.share_micros
    assert lane.state.portfolios.holders == {}
    assert lane.stage.due(lane.state) is None


# --- the portfolio that copies everyone --------------------------------------------------------------------


def everyone() -> LiveConfiguration:
    return configured([*LINES, BULLISH], bankroll_micros=10_000 * USD)


def for_everyone(
    configuration: LiveConfiguration, number: int, influencer: str, detected: int, **fields: Any
) -> ExecutionRequested:
    """A request of EXEC_GLOBAL, detected so many milliseconds after NOW."""
    directory = configuration.directory
    subscription = directory.subscriptions[f"{EXEC_GLOBAL}/{influencer}"]
    usual: dict[str, Any] = {
        "subscription_id": subscription.id,
        "subscriber_id": EXEC_GLOBAL,
        "influencer_id": influencer,
        "scope": PortfolioScope.EXEC_GLOBAL,
        "policy_hash": directory.policy_of(subscription)[0],
        "event_time": NOW + detected * MS,
        "detect_time": NOW + detected * MS,
    }
    return request(configuration, number, **(usual | fields))


def due_of(configuration: LiveConfiguration, wanted: ExecutionRequested) -> int:
    policy = configuration.directory.policy_named(wanted.policy_hash)
    assert policy is not None
    latency_ns = (policy.latency_ms + policy.latency_jitter_ms) * MS
    return wanted.detect_time + VENUES[wanted.venue].group_window_ns + latency_ns + QUEUE_MARGIN_NS


def test_a_request_of_exec_global_is_queued() -> None:
    configuration = everyone()
    lane = planning(configuration)
    wanted = for_everyone(configuration, 1, "alice", 0)
    (queued,) = lane.when(wanted, sequence=77)
    due = due_of(configuration, wanted)
    assert queued == CopyQueued(request=wanted, request_at="RAW:77.1", due_at=due, queued_at=NOW)
    assert due == NOW + (250 + 1_000 + 250) * MS, "the window, the longest latency, and the margin"
    assert lane.outputs[0].id == "req1.queued"
    assert lane.stage.due(lane.state) == due
    assert lane.when_time_passes(due - 1) == []
    deposited, marked, decided, *_ = lane.when_time_passes(due)
    assert kinds([deposited, marked, decided]) == [CashDeposited, EquityMarked, CopyDecided]
    assert (decided.subscriber_id, decided.scope, decided.decided_at) == (
        EXEC_GLOBAL,
        PortfolioScope.EXEC_GLOBAL,
        due,
    )
    assert {output.cause for output in lane.outputs[1:]} == {"RAW:77.1"}
    assert lane.state.queued == {}
    assert lane.when_time_passes(due + SECOND) == []


def test_first_in_first_out_is_by_detection_for_all_influencers() -> None:
    configuration = everyone()
    lane = planning(configuration)
    arrivals = [(1, "alice", 30), (2, "bob", 10), (3, "alice", 20), (4, "bob", 0)]
    wanted = [for_everyone(configuration, number, who, detected) for number, who, detected in arrivals]
    for sequence, one in enumerate(wanted, 70):
        lane.when(one, sequence=sequence)
    assert lane.stage.due(lane.state) == due_of(configuration, wanted[3])
    events = lane.when_time_passes(due_of(configuration, wanted[2]))
    decided = [event for event in events if isinstance(event, CopyDecided)]
    assert [one.request_id for one in decided] == ["req4", "req2", "req3"], "the one that is not due waits"
    assert [output.cause for output in lane.outputs if isinstance(output.event, CopyDecided)] == [
        "RAW:73.1",
        "RAW:71.1",
        "RAW:72.1",
    ]
    last = the_decision(lane.when_time_passes(due_of(configuration, wanted[0])))
    assert last.request_id == "req1"


def test_a_request_detected_earlier_is_decided_first_although_its_policy_waits_longer() -> None:
    slow = '{"kind":"guardrail","scope":"influencer:bob","values":{"latency_ms":5000}}'
    configuration = configured([*LINES, BULLISH, slow], bankroll_micros=10_000 * USD)
    lane = planning(configuration)
    early, late = for_everyone(configuration, 1, "bob", 0), for_everyone(configuration, 2, "alice", 5)
    lane.when(late)
    lane.when(early)
    assert due_of(configuration, early) > due_of(configuration, late)
    events = lane.when_time_passes(due_of(configuration, late))
    assert [event.request_id for event in events if isinstance(event, CopyDecided)] == ["req1", "req2"]


def test_requests_detected_together_are_ordered_by_group_id() -> None:
    configuration = everyone()
    orders = []
    for numbers in itertools.permutations((1, 2, 3)):
        lane = planning(configuration)
        for number in numbers:
            lane.when(for_everyone(configuration, number, "alice", 0))
        events = lane.when_time_passes(NOW + 5 * SECOND)
        orders.append([event.request_id for event in events if isinstance(event, CopyDecided)])
    assert orders == [["req1", "req2", "req3"]] * 6


def test_every_decision_of_a_tick_counts_those_before_it() -> None:
    tight = (
        '{"kind":"guardrail","scope":"global","values":{"market_exposure_micros":500000,"total_exposure_micros":7000}}'
    )
    configuration = configured([tight, *LINES[1:], BULLISH], bankroll_micros=10_000 * USD)
    lane = planning(configuration)
    percent = Sizing("copy_percent", percent_micros=10 * USD)
    for number, who in ((1, "alice"), (2, "bob"), (3, "alice")):
        lane.when(for_everyone(configuration, number, who, number, sizing=percent))
    decided = [event for event in lane.when_time_passes(NOW + 5 * SECOND) if isinstance(event, CopyDecided)]
    assert [one.decision for one in decided] == [Decision.EXECUTE, Decision.SKIP, Decision.SKIP]
    assert decided[1].reasons[0] is Reason.RISK_CAP_GLOBAL
    assert Reason.EXPOSURE_TOTAL in decided[1].reasons


def test_two_equity_marks_of_a_tick_have_different_ids() -> None:
    configuration, valuation = everyone(), valued()
    lane = planning(configuration, valuation)
    lane.when(for_everyone(configuration, 1, "alice", 0))
    lane.when_time_passes(NOW + 5 * SECOND)
    for number, mid in ((2, 30_000), (3, 60_000), (4, 90_000)):
        lane.when(for_everyone(configuration, number, "bob", 6_000 + number, mid=mid))
    events = lane.when_time_passes(NOW + 12 * SECOND)
    assert sum(isinstance(event, EquityMarked) for event in events) == 2, "each saw a peak that the one before made"
    assert len({output.id for output in lane.outputs}) == len(lane.outputs)


def test_the_queue_survives_a_restart() -> None:
    configuration = everyone()
    lane = planning(configuration)
    for number, detected in ((1, 30), (2, 0)):
        lane.when(for_everyone(configuration, number, "alice", detected), sequence=70 + number)
    again = lane.replayed()
    assert again.stage.due(again.state) == lane.stage.due(lane.state)
    snapshot = planning(configuration)
    snapshot.state = lane.from_snapshot(lane.state)
    later = NOW + 5 * SECOND
    assert lane.when_time_passes(later) == again.when_time_passes(later) == snapshot.when_time_passes(later)


# --- state = fold of the log -------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(st.sampled_from(["ann", "ann", "race", "everyone", "tick", "mark", "resolve"]), st.integers(1, 9)),
    max_size=14,
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(steps, st.integers(1, 40))
def test_a_snapshot_and_the_tail_are_the_whole_log(happened: list[tuple[str, int]], snapshot_at: int) -> None:
    """A restarted lane has the same state."""
    configuration, valuation = everyone(), valued()
    lane = planning(configuration, valuation)
    for number, (what, amount) in enumerate(happened):
        now = NOW + number * 700 * MS
        match what:
            case "ann":
                lane.when(request(configuration, number, mid=90 + amount, event_time=now), now=now)
            case "race":
                lane.when(on_polymarket(configuration, number, event_time=now), now=now)
            case "everyone":
                wanted = for_everyone(configuration, number, "alice", number * 700 - amount * 300)
                lane.when(wanted, sequence=number + 1, now=now)
            case "tick":
                lane.when_time_passes(now + amount % 2 * DAY)
            case "mark":
                moves(valuation, mark(50 * amount, at=now))
            case "resolve":
                moves(valuation, resolved(yes=amount % 2))
    for again in (lane.replayed(), lane.replayed(snapshot_at=snapshot_at)):
        assert again.state.portfolios.of == lane.state.portfolios.of
        assert again.state.queued == lane.state.queued
        assert again.state.portfolios.holders == lane.state.portfolios.holders
    restored = lane.from_snapshot(lane.state)
    assert restored.portfolios.of == lane.state.portfolios.of
    assert restored.queued == lane.state.queued
    settled = [event.settlement_id for _, event in lane.log if isinstance(event, PositionSettled)]
    assert len(set(settled)) == len(settled)
    decided = [event.attempt_id for _, event in lane.log if isinstance(event, CopyDecided)]
    assert len(set(decided)) == len(decided)


# --- a worker ----------------------------------------------------------------------------------------------


async def test_a_request_of_a_later_configuration_does_not_keep_a_worker_from_stopping(log: Connection) -> None:
    await import_lines(log, LINES, actor="tests", now=NOW)
    configuration = LiveConfiguration(log, CODEC)
    await configuration.start()
    wanted = request(configuration, config_sequence=1_000_000)
    await append(log, [Record(subjects.requests(subjects.class_of("ann"), "alice"), request_payload(wanted))])
    stop = asyncio.Event()
    worker = LaneWorker(log, CODEC, Plan(configuration, valued()), LANE, lambda: NOW)
    task = asyncio.create_task(worker.run(stop))
    try:
        await asyncio.wait_for(worker.loaded.wait(), 10)
        stop.set()
        await asyncio.wait_for(task, 2)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await configuration.close()


class Behind(LiveConfiguration):
    """As of an earlier CONFIG sequence until it is let follow."""

    async def load(self, sequence: int) -> None:
        self._fold = await configuration_fold(self._connection, self._codec, until=sequence)
        self.directory, self.sequence = self._fold.directory, self._fold.sequence

    async def follow(self) -> None:
        await self._following.start(self.sequence)


async def executions(log: Connection) -> list[Any]:
    return [
        event.data
        async for batch in read_all(log, "EXECUTIONS", ["executions.*.ann"])
        for stored in batch
        for event in CODEC.decode("EXECUTIONS", stored.sequence, stored.subject, stored.payload)
    ]


async def decided(log: Connection, count: int) -> list[Any]:
    """All events of Ann's portfolio, once there are so many decisions."""
    return await settled(lambda: executions(log), lambda events: kinds(events).count(CopyDecided) >= count)


async def test_a_lane_that_moves_to_a_process_with_older_configuration_books_a_deposit_once(log: Connection) -> None:
    first = await import_lines(log, LINES, actor="tests", now=NOW)
    second = await import_lines(log, [LINES[2].replace("10000", "20000")], actor="tests", now=NOW)
    configuration, behind = LiveConfiguration(log, CODEC), Behind(log, CODEC)
    await configuration.start()
    await behind.load(first.sequence)

    async def ask(number: int) -> None:
        """A request of a match stage that is behind too."""
        wanted = request(configuration, number, config_sequence=first.sequence, mode=Mode.RECORD_ONLY)
        await append(log, [Record(subjects.requests(subjects.class_of("ann"), "alice"), request_payload(wanted))])

    async def work(known: LiveConfiguration, number: int, *, catches_up: bool = False) -> list[Any]:
        stop = asyncio.Event()
        running = asyncio.create_task(LaneWorker(log, CODEC, Plan(known, valued()), LANE, lambda: NOW).run(stop))
        try:
            await ask(number)
            if catches_up:
                await asyncio.sleep(1)
                assert kinds(await executions(log)).count(CopyDecided) == number - 1, "it waits"
                await behind.follow()
            return await decided(log, number)
        finally:
            stop.set()
            await asyncio.wait_for(running, 10)

    try:
        await work(configuration, 1)
        events = await work(behind, 2, catches_up=True)
        assert [event.cash_delta_micros for event in events if isinstance(event, CashDeposited)] == [20_000 * USD]
        decisions = [event for event in events if isinstance(event, CopyDecided)]
        assert [(one.config_sequence, one.equity_micros) for one in decisions] == [(second.sequence, 20_000 * USD)] * 2
    finally:
        await behind.close()
        await configuration.close()
