"""Operator switches (docs/design.md, operator switches): as of a CONFIG sequence, and their effect on decisions."""

from typing import Any

import pytest

from domain.decision_inputs import decision_inputs_of
from domain.events import (
    Check,
    ControlChanged,
    ControlState,
    ControlTarget,
    MarketResolved,
    Mode,
    Payout,
    Venue,
)
from domain.guardrails import Policy
from domain.mark_prices import MarkPrices
from domain.micros import micros
from domain.operator_switches import Controls
from domain.reason_codes import Reason
from tests.domain.decision_specs import deciding, executes, skips, the
from tests.domain.facts import (
    at,
    bought,
    executed,
    on_polymarket,
    requested,
)

# --- controls ----------------------------------------------------------------------------------------------


def inputs_after(*switches: tuple[ControlTarget, str, ControlState], detect_ms: int = 40, sequence: int = 100) -> Any:
    """The inputs of a decision after switches recorded at 100 ms, 200 ms, ... under the sequences 10, 20, ..."""
    controls = Controls()
    for number, (target, id, state) in enumerate(switches, 1):
        event = ControlChanged(target=target, id=id, state=state, actor="ops", note="")
        controls.evolve(event, at(100 * number), 10 * number)
    return decision_inputs_of(
        requested(detect_time=at(detect_ms)),
        controls,
        MarkPrices(),
        config_sequence=sequence,
        marks_sequence=5,
    )


PAUSE = (ControlTarget.ENGINE, "", ControlState.PAUSED)
RESUME = (ControlTarget.ENGINE, "", ControlState.RUNNING)
RECORD = (ControlTarget.ENGINE, "", ControlState.RECORD_ONLY)


def test_controls_a_paused_engine_decides_nothing_not_even_a_close() -> None:
    paused = (Reason.ENGINE_PAUSED, Check("engine", "paused", "running", False))
    skips(deciding(requested(), inputs=inputs_after(PAUSE)), paused)
    held = executed(bought("BTC", "0.4", "100"))
    skips(deciding(requested(before="1", after="0"), *held, inputs=inputs_after(PAUSE)), paused)


def test_controls_what_was_detected_in_a_pause_is_not_copied_later() -> None:
    paused = (Reason.ENGINE_PAUSED, Check("engine", "paused", "running", False))
    skips(deciding(requested(), inputs=inputs_after(PAUSE, RESUME, detect_ms=199)), paused)
    executes(deciding(requested(), inputs=inputs_after(PAUSE, RESUME, detect_ms=200)), "0.499")


def test_controls_are_as_of_the_config_sequence_that_the_decision_names() -> None:
    assert inputs_after(PAUSE, sequence=9).stopped is False
    assert inputs_after(PAUSE, sequence=10).stopped is True
    executes(deciding(requested(), inputs=inputs_after(PAUSE, sequence=9)), "0.499")


def test_controls_an_engine_that_only_records_executes_nothing() -> None:
    recording = (Reason.RECORD_ONLY, Check("mode", "record_only (engine)", "paper", False))
    skips(deciding(requested(), inputs=inputs_after(RECORD)), recording)


def test_controls_a_subscriber_who_only_records_executes_nothing() -> None:
    recording = (Reason.RECORD_ONLY, Check("mode", "record_only (subscriber)", "paper", False))
    outcome = deciding(requested(mode=Mode.RECORD_ONLY))
    skips(outcome, recording)
    assert the(outcome).target_notional_micros == micros("50"), "the target is recorded all the same"


def test_controls_record_only_is_not_named_when_another_check_failed() -> None:
    policy = Policy(max_quote_age_ms=0)
    stale = deciding(requested(mode=Mode.RECORD_ONLY), ms=60_001, policy=policy, inputs=inputs_after(RECORD))
    skips(stale, (Reason.STALE_SIGNAL, Check("signal_age_ms", 60_001, 60_000, False)))


@pytest.mark.parametrize(
    ("target", "id", "reason"),
    [
        (ControlTarget.INFLUENCER, "ann", Reason.INFLUENCER_DISABLED),
        (ControlTarget.SUBSCRIBER, "sam", Reason.SUBSCRIBER_DISABLED),
        (ControlTarget.MARKET, "BTC", Reason.MARKET_BLOCKED),
    ],
)
def test_controls_that_disable_keep_openings_out_until_they_enable(
    target: ControlTarget, id: str, reason: Reason
) -> None:
    off, on = (target, id, ControlState.DISABLED), (target, id, ControlState.ENABLED)
    skips(deciding(requested(), inputs=inputs_after(off)), (reason, Check("switches", reason.value, "on", False)))
    executes(deciding(requested(), inputs=inputs_after(off, on)), "0.499")
    executes(deciding(requested(), inputs=inputs_after((target, "another", ControlState.DISABLED))), "0.499")


def test_controls_a_blocked_market_may_be_named_by_its_asset() -> None:
    controls = Controls()
    blocked = ControlChanged(
        target=ControlTarget.MARKET, id="yes", state=ControlState.DISABLED, actor="ops", note="wash trading"
    )
    controls.evolve(blocked, at(0), 7)
    saw = decision_inputs_of(on_polymarket(), controls, MarkPrices(), config_sequence=7, marks_sequence=5)
    assert saw.disabled is Reason.MARKET_BLOCKED


def test_controls_and_marks_count_as_of_their_sequences() -> None:
    marks = MarkPrices(history=True)
    marks.evolve(
        MarketResolved(
            resolution_id="r",
            venue=Venue.POLYMARKET,
            market="race",
            payouts=(Payout("yes", micros("1")),),
            resolved_at=at(0),
            detect_time=at(0),
        ),
        6,
    )

    def as_of(sequence: int) -> bool:
        return decision_inputs_of(
            on_polymarket(), Controls(), marks, config_sequence=7, marks_sequence=sequence
        ).resolved

    assert (as_of(5), as_of(6)) == (False, True)


# --- the switches ------------------------------------------------------------------------------------------

ENGINE = ControlTarget.ENGINE


def switched(*changes: tuple[int, ControlTarget, str, ControlState]) -> Controls:
    """Switches by CONFIG sequence, each recorded at that many milliseconds."""
    controls = Controls()
    for sequence, target, id, state in changes:
        controls.evolve(ControlChanged(target=target, id=id, state=state, actor="eve", note=""), at(sequence), sequence)
    return controls


def test_controls_without_any_everything_runs() -> None:
    controls = Controls()
    assert controls.engine(100) is ControlState.RUNNING
    assert not controls.engine_stops(at(0), 100)
    assert controls.disabled("ann", "sam", "race", "yes", 100) is None
    assert controls.breakers_reset("sam", 100) is None
    assert (controls.now(), controls.orders) == ({}, 0)


def test_controls_the_state_of_the_engine_is_that_of_its_newest_switch_at_a_sequence() -> None:
    controls = switched((10, ENGINE, "", ControlState.PAUSED), (20, ENGINE, "", ControlState.RECORD_ONLY))
    states = [controls.engine(sequence).value for sequence in (9, 10, 19, 20, 99)]
    assert states == ["running", "paused", "paused", "record_only", "record_only"]


@pytest.mark.parametrize(
    ("detect_ms", "sequence", "stops"),
    [
        (0, 9, False),  # before the first pause
        (0, 10, True),
        (15, 10, True),
        (99, 19, True),  # it is paused, whenever the signal came
        (19, 20, True),  # came in the pause
        (20, 20, False),
        (5, 20, True),  # came before the pause and was not decided by then
        (25, 39, True),  # the second pause
        (39, 40, True),
        (40, 40, False),
        (40, 99, False),
    ],
)
def test_controls_the_engine_stops_while_paused_and_for_what_came_before_it_resumed(
    detect_ms: int, sequence: int, stops: bool
) -> None:
    controls = switched(
        (10, ENGINE, "", ControlState.PAUSED),
        (20, ENGINE, "", ControlState.RUNNING),
        (30, ENGINE, "", ControlState.PAUSED),
        (35, ENGINE, "", ControlState.PAUSED),
        (40, ENGINE, "", ControlState.RECORD_ONLY),
    )
    assert controls.engine_stops(at(detect_ms), sequence) is stops


def test_controls_name_the_influencer_before_the_subscriber_before_the_market() -> None:
    off = ControlState.DISABLED
    controls = switched(
        (1, ControlTarget.MARKET, "yes", off),
        (2, ControlTarget.MARKET, "race", off),
        (3, ControlTarget.SUBSCRIBER, "sam", off),
        (4, ControlTarget.INFLUENCER, "ann", off),
    )

    def why(sequence: int) -> Reason | None:
        return controls.disabled("ann", "sam", "race", "yes", sequence)

    assert [why(sequence) for sequence in range(5)] == [
        None,
        Reason.MARKET_BLOCKED,
        Reason.MARKET_BLOCKED,
        Reason.SUBSCRIBER_DISABLED,
        Reason.INFLUENCER_DISABLED,
    ]
    assert controls.disabled("bob", "eve", "match", "no", 99) is None


def test_controls_now_lists_those_that_differ_from_the_usual() -> None:
    controls = switched(
        (1, ENGINE, "", ControlState.PAUSED),
        (2, ControlTarget.MARKET, "race", ControlState.DISABLED),
        (3, ControlTarget.SUBSCRIBER, "sam", ControlState.DISABLED),
        (4, ControlTarget.SUBSCRIBER, "sam", ControlState.ENABLED),
        (5, ControlTarget.BREAKERS, "sam", ControlState.RESET),
    )
    assert controls.now() == {"engine": "paused", "market race": "disabled"}


def test_controls_of_breakers_name_who_ordered_the_newest_reset_and_how_many_there_were() -> None:
    controls = switched(
        (5, ControlTarget.BREAKERS, "sam", ControlState.RESET),
        (8, ControlTarget.BREAKERS, "sam", ControlState.RESET),
    )
    assert controls.orders == 2
    assert controls.breakers_reset("sam", 4) is None
    newest = controls.breakers_reset("sam", 9)
    assert newest is not None
    assert (newest.sequence, newest.actor, newest.at) == (8, "eve", at(8))
    assert controls.breakers_reset("eve", 9) is None
