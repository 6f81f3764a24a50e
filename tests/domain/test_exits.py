"""Owed exits (docs/design.md, owed exits): what the influencer gives up is owed by every copy until it is done."""

from typing import Any

import pytest
from msgspec import structs

from domain import exits
from domain.decision_inputs import DecisionInputs
from domain.events import (
    Action,
    Check,
    ControlState,
    Decision,
    ExecutionRequested,
    ExitEnd,
    ExitEnded,
    ExitOwed,
    GroupCause,
    Mode,
    PositionSettled,
    Venue,
)
from domain.exits import Widening
from domain.guardrails import Policy
from domain.micros import micros
from domain.reason_codes import Reason
from domain.testing import like
from tests.domain.exit_specs import AWAY, CLOSE, HELD, Copy, again
from tests.domain.facts import (
    BUY,
    SELL,
    at,
    bought,
    executed,
    fixed,
    inputs,
    levels,
    on_polymarket,
    requested,
    sold,
)

PAUSED = inputs(engine=ControlState.PAUSED, stopped=True)
RESUMED = inputs(stopped=True)
"""The engine runs again; what was detected in the pause stays stopped."""
NO_BOOK = structs.replace(CLOSE, quote=None, quote_reason=Reason.NO_QUOTE)
NEAR = levels("99.95 x 5")
FAR = levels("99.50 x 5")


# --- what becomes owed -------------------------------------------------------------------------------------------


def test_a_close_15_bps_away_is_owed_whole_and_tried_after_a_second() -> None:
    copy = Copy(*HELD)
    decision, changes = copy.decides(AWAY)
    assert decision.reasons == (Reason.PRICE_AWAY_FROM_INFLUENCER, Reason.NO_LIQUIDITY_WITHIN_BOUNDS)
    assert (decision.decision, decision.owed_micros) == (Decision.SKIP, micros("0.5"))
    assert list(changes) == [
        like(
            ExitOwed,
            exit_id=decision.exit_id,
            share_micros=micros("0.5"),
            trade_side=SELL,
            action=Action.CLOSE,
            price_micros=micros("100"),
            cause=GroupCause.TRADE,
            owed_since=at(40),
            tries=0,
            refused=1,
            reasons=decision.reasons,
            due_at=at(2290),
            owed_at=at(1000),
        )
    ]


@pytest.mark.parametrize(
    ("request_", "saw", "reason", "refused"),
    [
        (NO_BOOK, inputs(), Reason.NO_QUOTE, 0),
        (CLOSE, PAUSED, Reason.ENGINE_PAUSED, 0),
        (CLOSE, inputs(resolved=True), Reason.MARKET_CLOSED, 0),
        (CLOSE, inputs(engine=ControlState.RECORD_ONLY), Reason.RECORD_ONLY, 0),
        (requested(before="1", after="0", bids=FAR), inputs(), Reason.PRICE_AWAY_FROM_INFLUENCER, 1),
    ],
)
def test_whatever_stops_a_close_it_is_owed(
    request_: ExecutionRequested, saw: DecisionInputs, reason: Reason, refused: int
) -> None:
    copy = Copy(*HELD)
    decision, _ = copy.decides(request_, inputs=saw)
    assert decision.reasons[0] is reason
    assert (copy.owed.share_micros, copy.owed.refused) == (micros("0.5"), refused)


def test_half_a_book_leaves_the_other_half_owed() -> None:
    copy = Copy(*HELD)
    thin = requested(before="1", after="0", bids=levels("99.95 x 0.1", "99.5 x 50"))
    decision, _ = copy.decides(thin)
    assert (decision.decision, decision.reduce_micros) == (Decision.EXECUTE, micros("0.5"))
    assert (copy.held_micros, copy.owed.share_micros) == (micros("0.4"), micros("0.4"))


def test_what_is_taken_of_a_thin_book_is_whole_lots() -> None:
    copy = Copy(*HELD)
    copy.decides(requested(before="1", after="0", bids=levels("99.95 x 0.1234", "99.5 x 50")))
    assert copy.held_micros == micros("0.377")


def test_a_decrease_owes_the_fraction_and_the_next_one_the_fraction_of_the_rest() -> None:
    copy = Copy(*HELD)
    copy.decides(requested(before="2", after="1", bids=FAR))
    assert copy.owed.share_micros == micros("0.25")
    first = copy.owed.exit_id
    copy.decides(requested(before="1", after="0.5", bids=FAR))
    assert (copy.owed.share_micros, copy.owed.exit_id) == (micros("0.375"), first)
    assert copy.owed.action is Action.DECREASE
    copy.decides(requested(before="0.5", after="0"), ms=1500)
    assert (copy.held_micros, copy.portfolio.exits) == (0, {})


def test_a_close_after_a_refused_decrease_does_all_at_once_and_ends_the_exit() -> None:
    copy = Copy(*HELD)
    copy.decides(requested(before="2", after="1", bids=FAR))
    decision, changes = copy.decides(CLOSE, ms=1500)
    assert decision.reduce_micros == micros("0.5")
    assert list(changes) == [like(ExitEnded, how=ExitEnd.FILLED, tries=0, share_micros=micros("0.25"))]


def test_a_flip_that_is_refused_owes_its_closing_half_and_opens_nothing_later() -> None:
    copy = Copy(*HELD)
    copy.decides(requested(before="1", after="-1", bids=FAR))
    assert (copy.owed.share_micros, copy.owed.action) == (micros("0.5"), Action.CLOSE)
    copy.tries()
    assert (copy.held_micros, copy.portfolio.exits) == (0, {})


def test_a_reduction_that_was_not_traded_has_no_price_of_the_influencer() -> None:
    """An account snapshot shows that Ann's position is gone: only the mid limits the price."""
    gone = requested(before="1", after="0", bids=FAR, asks=levels("99.60 x 5"), cause=GroupCause.GAP, price_micros=0)
    copy = Copy(*HELD)
    decision, _ = copy.decides(gone)
    assert (decision.decision, copy.held_micros) == (Decision.EXECUTE, 0)
    assert decision.limit_price_micros == micros("99.400675")  # 15 bps below the mid


def test_nothing_is_owed_of_what_is_not_held() -> None:
    copy = Copy()
    decision, changes = copy.decides(AWAY)
    assert (changes, decision.owed_micros, decision.exit_id) == ((), 0, None)


def test_reduce_by_notional_leaves_no_owed_exit() -> None:
    copy = Copy(*HELD, policy=Policy(reduce_by_notional=1))
    _, changes = copy.decides(AWAY)
    assert (changes, copy.portfolio.exits) == ((), {})


def test_a_small_decrease_waits_and_a_refused_one_is_owed_with_what_waited() -> None:
    copy = Copy(*HELD)
    small = requested(before="1", after="0.95")  # 0.025 BTC, 2.50 USD: below 10 USD
    decision, changes = copy.decides(small)
    assert (decision.reasons, changes) == ((Reason.ACCUMULATED,), ())
    assert decision.residual_share_micros == micros("0.025")
    decision, _ = copy.decides(requested(before="0.95", after="0.475", bids=FAR))
    assert copy.owed.share_micros == micros("0.2625")  # 0.025 and half of the other 0.475
    assert decision.residual_share_micros == 0


def test_a_part_below_the_minimum_waits_again_and_the_exit_ends() -> None:
    copy = Copy(*HELD)
    copy.decides(structs.replace(requested(before="1", after="0.95"), quote=None, quote_reason=Reason.NO_QUOTE))
    assert copy.owed.share_micros == micros("0.025")
    decision, changes = copy.tries()
    assert decision.residual_share_micros == micros("0.025")
    assert list(changes) == [like(ExitEnded, how=ExitEnd.BELOW_MINIMUM)]


def test_a_whole_position_below_the_minimum_is_closed() -> None:
    copy = Copy(*executed(bought("BTC", "0.04", "100")))
    copy.decides(AWAY)
    copy.tries()
    assert (copy.held_micros, copy.portfolio.exits) == (0, {})


def test_a_short_is_owed_as_a_purchase() -> None:
    copy = Copy(*executed(sold("BTC", "0.5", "100")))
    copy.decides(requested(before="-1", after="0", asks=levels("100.5 x 5")))
    assert (copy.owed.trade_side, copy.owed.share_micros) == (BUY, micros("0.5"))
    copy.tries()
    assert copy.held_micros == 0


# --- tries -------------------------------------------------------------------------------------------------------


def test_a_try_that_fills_whole_ends_the_exit() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    decision, changes = copy.tries()
    assert (decision.exit_try, decision.reduce_micros) == (1, micros("0.5"))
    assert list(changes) == [like(ExitEnded, exit_id=decision.exit_id, how=ExitEnd.FILLED, tries=1, ended_at=at(2290))]
    assert (copy.held_micros, copy.portfolio.exits) == (0, {})


def test_fills_lower_what_is_owed() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    copy.tries(bids=levels("99.95 x 0.2"))
    assert (copy.owed.share_micros, copy.owed.tries, copy.held_micros) == (micros("0.3"), 1, micros("0.3"))


def test_tries_come_after_1_2_5_10_30_and_60_seconds_and_then_every_minute() -> None:
    copy = Copy(*HELD)
    copy.decides(NO_BOOK, ms=1290)  # when the book of the group is captured at the latest
    waits = []
    for _ in range(8):
        before = copy.owed
        waits.append((before.due_at - before.owed_at) // 1_000_000)
        copy.tries(quote=None, quote_reason=Reason.NO_QUOTE)
    assert waits == [1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 60_000, 60_000]
    assert (copy.owed.tries, copy.owed.refused, copy.owed.owed_since) == (8, 0, at(40))


def test_tries_keep_their_times_whether_decisions_come_some_milliseconds_earlier_or_later() -> None:
    early, late = Copy(*HELD), Copy(*HELD)
    early.decides(NO_BOOK, ms=1_100)
    late.decides(NO_BOOK, ms=1_310)
    assert early.owed.due_at == late.owed.due_at == at(2290)
    late.decides(again(late.owed, quote=None, quote_reason=Reason.NO_QUOTE), ms=2_400)
    assert late.owed.due_at == at(4290)


def test_after_a_decision_that_came_late_the_waits_count_from_it() -> None:
    copy = Copy(*HELD)
    copy.decides(NO_BOOK, ms=9_000)
    assert copy.owed.due_at == at(10_000)


def test_the_band_widens_with_every_refusal_and_then_any_price_is_taken() -> None:
    usual = Policy()
    assert [exits.widening(usual, refused).bps for refused in range(7)] == [0, 25, 50, 100, 200, 400, 800]
    dollars = [exits.widening(usual, refused).absolute_micros for refused in range(7)]
    assert dollars == [0, 3_125, 6_250, 12_500, 25_000, 50_000, 100_000]
    assert exits.widening(usual, 7) == Widening(at_market=True)


def test_the_band_of_a_try_is_never_narrower_than_that_of_a_reduction() -> None:
    copy = Copy(*HELD, policy=Policy(reduction_band_micros=5_000_000))
    copy.decides(requested(before="1", after="0", bids=levels("99.45 x 5"), asks=levels("99.9 x 5")))
    assert copy.owed.refused == 1
    decision, _ = copy.tries(bids=FAR)
    assert decision.limit_price_micros == micros("99.50")  # 5 x 10 bps, and not 25 bps


def test_a_try_8_percent_away_is_done_by_the_widest_band() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    crash: dict[str, Any] = {"bids": levels("92.50 x 5"), "asks": levels("92.55 x 5")}
    refused = 0
    while copy.portfolio.exits:
        refused = copy.owed.refused
        copy.tries(**crash)
    assert (refused, copy.held_micros) == (6, 0)


def test_a_try_further_away_than_the_widest_band_goes_at_the_market() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    crash: dict[str, Any] = {"bids": levels("60 x 0.2", "50 x 5"), "asks": levels("61 x 5")}
    while copy.portfolio.exits:
        decision, _ = copy.tries(**crash)
    assert decision.limit_price_micros == micros("50")
    assert Check("price_vs_influencer_micros", micros("60"), micros("50"), True) in decision.checks
    assert (decision.exit_try, copy.held_micros) == (7, 0)


def test_without_widening_every_try_has_the_plain_band() -> None:
    copy = Copy(*HELD, policy=Policy(exit_widening=0))
    copy.decides(AWAY)
    for _ in range(9):
        copy.tries(bids=FAR)
    assert (copy.owed.refused, copy.held_micros) == (10, micros("0.5"))
    copy.tries(bids=NEAR)
    assert copy.held_micros == 0


def test_a_try_without_a_book_widens_nothing() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    copy.tries(quote=None, quote_reason=Reason.NO_QUOTE)
    assert (copy.owed.tries, copy.owed.refused) == (1, 1)


def test_on_polymarket_a_close_two_cents_away_is_done_by_a_try() -> None:
    copy = Copy(*executed(bought("yes", "100", "0.5", venue=Venue.POLYMARKET), market="race"))
    away = on_polymarket(before="1000", after="0", bids=levels("0.48 x 5000"), asks=levels("0.50 x 1000"))
    copy.decides(away)
    assert copy.owed.share_micros == micros("100")
    while copy.portfolio.exits:
        tried = again(copy.owed, venue=Venue.POLYMARKET, asset="yes", market="race", quote=away.quote)
        decision, _ = copy.decides(tried, ms=(copy.owed.due_at - at(0)) // 1_000_000)
    assert (decision.exit_try, copy.held_micros) == (4, 0)  # 2.5 cents


def test_an_outdated_try_changes_nothing() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    tried = again(copy.owed)
    copy.tries(bids=FAR)
    owed = copy.owed
    decision, changes = copy.decides(tried, ms=9000)
    assert (decision.reasons, decision.owed_micros, changes) == ((Reason.EXIT_NOT_OWED,), micros("0.5"), ())
    assert copy.owed is owed
    copy.tries()
    decision, changes = copy.decides(tried, ms=9500)
    assert (decision.reasons, changes) == ((Reason.EXIT_NOT_OWED,), ())


def test_a_try_is_checked_like_every_decision() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    decision, _ = copy.tries()
    assert [check.name for check in decision.checks] == [
        "exit",
        "engine",
        "quote",
        "market",
        "price_vs_influencer_micros",
        "price_vs_mid_micros",
        "liquidity_in_band_micros",
        "copied_position_micros",
    ]


# --- pauses ------------------------------------------------------------------------------------------------------


def test_a_paused_engine_holds_an_exit_and_does_it_after_the_pause() -> None:
    copy = Copy(*HELD)
    copy.decides(CLOSE, inputs=PAUSED)
    decision, _ = copy.tries(inputs=PAUSED)
    assert (decision.reasons, copy.held_micros) == ((Reason.ENGINE_PAUSED,), micros("0.5"))
    copy.tries(inputs=RESUMED)
    assert copy.held_micros == 0


def test_exits_while_paused_lets_reductions_and_tries_through_and_opens_nothing() -> None:
    through = Policy(exits_while_paused=1)
    copy = Copy(*HELD, policy=through)
    decision, _ = copy.decides(requested(before="1", after="-1"), inputs=PAUSED)
    assert (decision.decision, decision.share_micros) == (Decision.EXECUTE, micros("0.5"))
    assert decision.reasons == (Reason.ENGINE_PAUSED,)
    assert copy.held_micros == 0
    copy = Copy(*HELD, policy=through)
    copy.decides(AWAY, inputs=PAUSED)
    copy.tries(inputs=PAUSED)
    assert copy.held_micros == 0
    decision, _ = copy.decides(requested(), inputs=PAUSED)
    assert (decision.decision, decision.reasons) == (Decision.SKIP, (Reason.ENGINE_PAUSED,))


# --- openings while something is owed ----------------------------------------------------------------------------


def test_the_opening_half_of_a_flip_waits_for_what_is_owed() -> None:
    copy = Copy(*HELD)
    copy.decides(requested(before="2", after="1", bids=FAR))
    decision, _ = copy.decides(requested(before="1", after="-1"), ms=1500)
    assert (decision.decision, decision.share_micros, decision.reduce_micros) == (
        Decision.EXECUTE,
        micros("0.5"),
        micros("0.5"),
    )
    assert decision.reasons == (Reason.EXIT_OWED,)
    assert Check("owed_micros", micros("0.25"), 0, False) in decision.checks


def test_nothing_is_opened_the_other_way_while_something_is_owed() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    decision, changes = copy.decides(requested(before="0", after="-1"), ms=1500)
    assert (decision.decision, decision.reasons) == (Decision.SKIP, (Reason.EXIT_OWED,))
    assert (changes, copy.owed.share_micros) == ((), micros("0.5"))


def test_an_opening_on_the_same_side_is_kept_instead_of_bought() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    decision, changes = copy.decides(requested(sizing=fixed("20")), ms=1500)
    assert (decision.decision, decision.reasons) == (Decision.SKIP, (Reason.EXIT_KEPT,))
    assert (decision.kept_micros, decision.owed_micros) == (micros("0.2"), micros("0.3"))
    assert list(changes) == [like(ExitOwed, share_micros=micros("0.3"), tries=0, due_at=at(2290), group_id="grp-1")]
    copy.tries()
    assert copy.held_micros == micros("0.2")


def test_an_opening_that_keeps_all_ends_the_exit_and_buys_the_rest() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    decision, changes = copy.decides(requested(sizing=fixed("70")), ms=1500)
    assert (decision.decision, decision.kept_micros, decision.share_micros) == (
        Decision.EXECUTE,
        micros("0.5"),
        micros("0.199"),
    )
    assert list(changes) == [like(ExitEnded, how=ExitEnd.OPENED_AGAIN)]
    assert (copy.held_micros, copy.portfolio.exits) == (micros("0.699"), {})


def test_what_is_kept_needs_no_book_and_no_price() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    decision, _ = copy.decides(requested(quote=None, quote_reason=Reason.NO_QUOTE), ms=1500)
    assert (decision.kept_micros, copy.portfolio.exits) == (micros("0.5"), {})


@pytest.mark.parametrize(
    ("request_", "saw"),
    [
        (requested(opening_blocked="SIDE_NOT_WANTED"), inputs()),
        (requested(), inputs(disabled=Reason.SUBSCRIBER_DISABLED)),
        (requested(), PAUSED),
        (requested(mode=Mode.RECORD_ONLY), inputs()),
    ],
)
def test_a_copy_that_may_not_open_keeps_nothing(request_: ExecutionRequested, saw: DecisionInputs) -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    decision, changes = copy.decides(request_, ms=1500, inputs=saw)
    assert (decision.kept_micros, changes, copy.owed.share_micros) == (0, (), micros("0.5"))


def test_a_flip_back_keeps_what_the_first_flip_owed() -> None:
    copy = Copy(*HELD)
    copy.decides(requested(before="1", after="-1", bids=FAR))
    decision, _ = copy.decides(requested(before="-1", after="1"), ms=1500)
    assert (decision.kept_micros, copy.portfolio.exits, copy.held_micros) == (micros("0.5"), {}, micros("0.5"))


# --- settlement --------------------------------------------------------------------------------------------------


def test_a_settlement_ends_what_is_owed() -> None:
    copy = Copy(*HELD)
    copy.decides(AWAY)
    settled = PositionSettled(
        settlement_id="set-1",
        subscriber_id="sam",
        subscription_id="sam-ann",
        influencer_id="ann",
        venue=Venue.HYPERLIQUID,
        asset="BTC",
        market="BTC",
        price_micros=micros("1"),
        share_delta_micros=-micros("0.5"),
        cash_delta_micros=micros("0.5"),
        resolution_id="res-1",
        settled_at=at(1500),
    )
    copy.happened(settled)
    assert copy.portfolio.exits == {}
