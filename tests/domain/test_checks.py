"""The checks of a decision (docs/design.md, decisions): one spec per row of `ROWS`, with the recorded input and limit.

The name of a spec begins with its row, so that `pytest --collect-only -q -k spread` lists what proves a row. Exposure,
cash and breakers are in test_portfolio_guardrails.py, controls in test_operator_switches.py, and that reductions pass
the checks of openings is in test_decision.py.
"""

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from domain.events import (
    Check,
    CopyDecided,
    ExecutionRequested,
    Mode,
    PositionState,
    Terms,
    Venue,
)
from domain.guardrails import Policy
from domain.micros import micros
from domain.reason_codes import Reason
from domain.testing import like
from tests.domain.decision_specs import GONE, deciding, executes, failed, skips, the
from tests.domain.facts import (
    ASKS,
    BIDS,
    at,
    bought,
    executed,
    inputs,
    levels,
    on_polymarket,
    requested,
    terms,
)

ROWS = (
    "price_vs_influencer",
    "price_vs_mid",
    "spread",
    "depth",
    "partial_fills",
    "close_guard",
    "exposure",
    "breakers",
    "signal_age",
    "quote_age",
    "venue",
    "filters",
    "controls",
    "exec_global",
    "sizing",
    "clamp",
    "residual",
    "reductions",
    "latency",
    "paper",
    "policy",
    "portfolios",
)


# --- the rows, with the check that each records --------------------------------------------------------------


def quoted_at(request: ExecutionRequested, ms: int, **changes: Any) -> ExecutionRequested:
    """The request with a book that was captured `ms` after the influencer traded."""
    assert request.quote is not None
    return structs.replace(request, quote=structs.replace(request.quote, captured_at=at(ms), **changes))


def test_signal_age_above_its_maximum_is_stale() -> None:
    late = quoted_at(requested(), 60_000)
    skips(deciding(late, ms=60_001), (Reason.STALE_SIGNAL, Check("signal_age_ms", 60_001, 60_000, False)))
    executes(deciding(late, ms=60_001, policy=Policy(max_signal_age_ms=60_001)), "0.499")


def test_signal_age_counts_from_the_venues_time_not_from_ours() -> None:
    detected_late = quoted_at(requested(detect_time=at(60_000)), 60_000)
    skips(deciding(detected_late, ms=60_001), (Reason.STALE_SIGNAL, Check("signal_age_ms", 60_001, 60_000, False)))


@pytest.mark.parametrize(
    "reason",
    [
        Reason.NO_QUOTE,
        Reason.BOOK_EMPTY,
        Reason.BOOK_CROSSED,
        Reason.BOOK_INVALID,
        Reason.UNKNOWN_ASSET,
        Reason.MARKET_CLOSED,
    ],
)
def test_no_quote_for_the_reason_that_the_capture_gave(reason: Reason) -> None:
    outcome = deciding(requested(quote=None, quote_reason=reason))
    skips(outcome, (reason, Check("quote", reason.value, None, False)))
    outcome.then(like(CopyDecided, quote_id=None, mid_micros=0, limit_price_micros=0))


def test_no_quote_without_a_reason_is_no_quote() -> None:
    skips(deciding(requested(quote=None)), (Reason.NO_QUOTE, Check("quote", "NO_QUOTE", None, False)))


def test_spread_above_its_limit_on_hyperliquid() -> None:
    wide = requested(bids=levels("99.86 x 9"), asks=levels("100.10 x 9"))
    limit = micros("0.19996")  # 20 bps of the mid, 99.98
    skips(deciding(wide), (Reason.SPREAD_TOO_WIDE, Check("spread_micros", micros("0.24"), limit, False)))
    executes(deciding(wide, policy=Policy(spread_bps=25)), "0.499")


def test_spread_at_its_limit_is_inside_and_a_micro_more_is_not() -> None:
    exact = requested(bids=levels("99.90 x 9"), asks=levels("100.10 x 9"))
    executes(deciding(exact), "0.499")
    more = requested(bids=levels("99.90 x 9"), asks=levels("100.100001 x 9"), price="100.001")
    skips(deciding(more), (Reason.SPREAD_TOO_WIDE, Check("spread_micros", micros("0.200001"), micros("0.2"), False)))


def test_spread_above_two_cents_on_polymarket() -> None:
    wide = on_polymarket(bids=levels("0.485 x 900"), asks=levels("0.506 x 900"), terms=terms(tick_micros=1_000))
    skips(deciding(wide), (Reason.SPREAD_TOO_WIDE, Check("spread_micros", micros("0.021"), micros("0.02"), False)))
    exact = on_polymarket(bids=levels("0.486 x 900"), asks=levels("0.506 x 900"), terms=terms(tick_micros=1_000))
    executes(deciding(exact), "98.81")


def test_quote_age_above_its_maximum_is_stale() -> None:
    request = quoted_at(requested(), 900)
    executes(deciding(request, ms=5_900), "0.499")
    skips(deciding(request, ms=5_901), (Reason.STALE_QUOTE, Check("quote_age_ms", 5_001, 5_000, False)))
    executes(deciding(request, ms=5_901, policy=Policy(max_quote_age_ms=5_001)), "0.499")


def test_quote_age_counts_from_the_venues_time_of_the_book() -> None:
    """A venue's cache or a node that lags answers at once with the book of ten minutes ago."""
    lagging = quoted_at(requested(), 990, venue_time=at(1000 - 600_000))
    skips(deciding(lagging), (Reason.STALE_QUOTE, Check("quote_age_ms", 600_000, 5_000, False)))
    ahead = quoted_at(requested(), 900, venue_time=at(60_000))
    skips(deciding(ahead, ms=5_901), (Reason.STALE_QUOTE, Check("quote_age_ms", 5_001, 5_000, False)))


def test_quote_age_of_zero_checks_nothing() -> None:
    off = deciding(quoted_at(requested(), 900), ms=60_000, policy=Policy(max_quote_age_ms=0))
    executes(off, "0.499")
    assert "quote_age_ms" not in {check.name for check in the(off).checks}


@pytest.mark.parametrize(
    ("after", "theirs", "best", "limit"),
    [("1", "99.90", "100.05", "99.9999"), ("-1", "100.10", "99.95", "99.9999")],
)
def test_price_vs_influencer_on_hyperliquid(after: str, theirs: str, best: str, limit: str) -> None:
    skips(
        deciding(requested(after=after, price=theirs)),
        (Reason.PRICE_AWAY_FROM_INFLUENCER, Check("price_vs_influencer_micros", micros(best), micros(limit), False)),
        (Reason.NO_LIQUIDITY_WITHIN_BOUNDS, Check("liquidity_in_band_micros", 0, 1, False)),
    )


def test_price_vs_influencer_on_polymarket_may_be_a_cent_worse_either_way() -> None:
    buying = on_polymarket(price="0.499999")
    skips(
        deciding(buying),
        (
            Reason.PRICE_AWAY_FROM_INFLUENCER,
            Check("price_vs_influencer_micros", micros("0.51"), micros("0.509999"), False),
        ),
        (Reason.NO_LIQUIDITY_WITHIN_BOUNDS, Check("liquidity_in_band_micros", 0, 1, False)),
    )
    held = executed(bought("yes", "200", "0.50", venue=Venue.POLYMARKET), market="race")
    selling = on_polymarket(before="1000", after="0", price="0.500001")
    skips(
        deciding(selling, *held),
        (
            Reason.PRICE_AWAY_FROM_INFLUENCER,
            Check("price_vs_influencer_micros", micros("0.49"), micros("0.490001"), False),
        ),
        (Reason.NO_LIQUIDITY_WITHIN_BOUNDS, Check("liquidity_in_band_micros", 0, 1, False)),
    )
    executes(deciding(on_polymarket(before="1000", after="0", price="0.50"), *held), "200", reduce="200")


@pytest.mark.parametrize(
    ("after", "theirs", "best", "limit"),
    [("1", "100.20", "100.25", "100.15"), ("-1", "99.80", "99.75", "99.85")],
)
def test_price_vs_mid_on_hyperliquid(after: str, theirs: str, best: str, limit: str) -> None:
    request = requested(after=after, price=theirs, bids=levels("99.75 x 9"), asks=levels("100.25 x 9"))
    skips(
        deciding(request, policy=Policy(spread_bps=100)),
        (Reason.PRICE_AWAY_FROM_MID, Check("price_vs_mid_micros", micros(best), micros(limit), False)),
        (Reason.NO_LIQUIDITY_WITHIN_BOUNDS, Check("liquidity_in_band_micros", 0, 1, False)),
    )


def test_price_vs_mid_on_polymarket_may_be_a_cent_and_a_half_worse() -> None:
    request = on_polymarket(price="0.60", bids=levels("0.48 x 900"), asks=levels("0.512 x 900"))
    skips(
        deciding(request, policy=Policy(spread_micros=100_000)),
        (Reason.PRICE_AWAY_FROM_MID, Check("price_vs_mid_micros", micros("0.512"), micros("0.511"), False)),
        (Reason.NO_LIQUIDITY_WITHIN_BOUNDS, Check("liquidity_in_band_micros", 0, 1, False)),
    )


def test_price_vs_influencer_better_than_theirs_is_never_too_far() -> None:
    executes(deciding(requested(after="1", price="120")), "0.499")
    executes(deciding(requested(after="-1", price="80")), "0.5")


def test_price_vs_influencer_and_mid_may_be_further_for_reductions_by_the_policys_factor() -> None:
    wider = Policy(reduction_band_micros=3_000_000)
    held = executed(bought("BTC", "0.4", "100"))
    closing = requested(before="1", after="0", price="100.20")  # 100.0998 without, 99.8994 with it
    assert the(deciding(closing, *held)).reasons[0] is Reason.PRICE_AWAY_FROM_INFLUENCER
    executes(deciding(closing, *held, policy=wider), "0.4", reduce="0.4")
    opening = requested(before="0", after="-1", price="100.20")
    assert the(deciding(opening, policy=wider)).reasons[0] is Reason.PRICE_AWAY_FROM_INFLUENCER


def test_depth_inside_the_band_below_its_multiple_of_the_order() -> None:
    thin = requested(asks=levels("100.05 x 0.623", "100.11 x 100"))
    available, wanted = micros("62.33115"), micros("49.92495") * 5 // 4
    skips(deciding(thin), (Reason.INSUFFICIENT_DEPTH, Check("depth_in_band_micros", available, wanted, False)))
    executes(deciding(requested(asks=levels("100.05 x 0.624", "100.11 x 100"))), "0.499")


def test_depth_of_a_flip_must_do_for_both_its_parts() -> None:
    held = executed(bought("BTC", "0.4", "100"))
    flip = requested(before="1", after="-1", bids=levels("99.95 x 1"))
    executes(deciding(flip, *held), "0.4", reduce="0.4", despite=(Reason.INSUFFICIENT_DEPTH,))
    assert failed(deciding(flip, *held)) == [
        Check("depth_in_band_micros", micros("99.95"), micros("89.955") * 5 // 4, False)
    ]


def test_partial_fills_of_an_opening_are_allowed_where_less_depth_is_asked_for() -> None:
    half = Policy(depth_ratio_micros=0)
    request = requested(asks=levels("100.05 x 0.2", "101 x 9"))
    executes(deciding(request, policy=half), "0.499")
    assert the(deciding(request, policy=half)).levels == levels("100.05 x 0.2")


def test_partial_fills_of_a_reduction_are_allowed_at_any_depth() -> None:
    held = executed(bought("BTC", "0.4", "100"))
    closing = requested(before="1", after="0", bids=levels("99.95 x 0.1", "99 x 9"))
    executes(deciding(closing, *held), "0.4", reduce="0.4")
    assert the(deciding(closing, *held)).levels == levels("99.95 x 0.1")


def test_partial_fills_of_nothing_are_a_skip() -> None:
    held = executed(bought("BTC", "0.4", "100"))
    nothing = (Reason.NO_LIQUIDITY_WITHIN_BOUNDS, Check("liquidity_in_band_micros", 0, 1, False))
    tick = Terms(size_step_micros=1_000, tick_micros=micros("0.5"))
    request = requested(before="1", after="0")
    assert request.quote is not None
    off_tick = structs.replace(request, quote=structs.replace(request.quote, terms=tick))
    skips(deciding(off_tick, *held), nothing)


@pytest.mark.parametrize(
    ("after", "theirs", "bids", "asks", "limit"),
    [
        ("1", "9.9995", "9.9985 x 50", "9.9995 x 50", "10.009"),  # 10 bps beyond theirs: 10.009499
        ("-1", "10.0014", "10.001 x 50", "10.002 x 50", "9.9914"),  # 9.991399
    ],
)
def test_price_vs_influencer_the_limit_has_the_digits_of_its_own_magnitude(
    after: str, theirs: str, bids: str, asks: str, limit: str
) -> None:
    coin = Terms(size_step_micros=10_000, tick_micros=100, market="BTC", significant_digits=5)
    request = requested(after=after, price=theirs, bids=levels(bids), asks=levels(asks), lot="0.01")
    assert request.quote is not None
    request = structs.replace(request, quote=structs.replace(request.quote, terms=coin))
    assert the(deciding(request)).limit_price_micros == micros(limit)


def test_close_guard_keeps_openings_out_of_the_last_half_hour() -> None:
    closing = on_polymarket(terms=terms(closes_at=at(1000 + 1_799_999)))
    skips(deciding(closing), (Reason.MARKET_CLOSING, Check("ms_to_close", 1_799_999, 1_800_000, False)))
    executes(deciding(closing, policy=Policy(close_guard_ms=1_799_999)), "98.03")
    executes(deciding(on_polymarket(terms=terms(closes_at=None))), "98.03")


@pytest.mark.parametrize(
    ("minutes", "closing_ms"), [(5, 75_000), (15, 225_000), (119, 1_785_000), (120, 1_800_000), (10_000, 1_800_000)]
)
def test_close_guard_takes_a_quarter_of_a_short_market(minutes: int, closing_ms: int) -> None:
    """In a market of five minutes nothing was opened at all."""

    def closing(left_ms: int) -> ExecutionRequested:
        end = 1000 + left_ms
        return on_polymarket(terms=terms(closes_at=at(end), opens_at=at(end - minutes * 60_000)))

    executes(deciding(closing(closing_ms)), "98.03")
    late = Check("ms_to_close", closing_ms - 1, closing_ms, False)
    skips(deciding(closing(closing_ms - 1)), (Reason.MARKET_CLOSING, late))
    whole = Check("ms_to_close", closing_ms - 1, 1_800_000, False)
    skips(deciding(closing(closing_ms - 1), policy=Policy(close_guard_share_micros=0)), (Reason.MARKET_CLOSING, whole))


def test_close_guard_past_the_listed_end_the_market_decides() -> None:
    executes(deciding(on_polymarket(terms=terms(closes_at=at(0)))), "98.03")
    ended = on_polymarket(terms=terms(closes_at=at(0), accepting=False))
    skips(deciding(ended), (Reason.MARKET_CLOSED, Check("market", "closed", "open", False)))


def test_close_guard_of_zero_is_off() -> None:
    closing = on_polymarket(terms=terms(closes_at=at(1001)))
    executes(deciding(closing, policy=Policy(close_guard_ms=0)), "98.03")


def test_close_guard_a_market_that_takes_no_orders_is_closed_to_reductions_too() -> None:
    closed = (Reason.MARKET_CLOSED, Check("market", "closed", "open", False))
    held = executed(bought("yes", "200", "0.50", venue=Venue.POLYMARKET), market="race")
    skips(deciding(on_polymarket(terms=terms(accepting=False))), closed)
    skips(deciding(on_polymarket(before="9", after="0", terms=terms(accepting=False)), *held), closed)
    skips(deciding(on_polymarket(before="9", after="0"), *held, inputs=inputs(resolved=True)), closed)


def test_filters_name_the_one_that_blocks_the_opening() -> None:
    skips(
        deciding(requested(opening_blocked="HOUR_NOT_WANTED")),
        (Reason.FILTERED, Check("filters", "HOUR_NOT_WANTED", "wanted", False)),
    )


def test_filters_a_position_before_the_trade_that_is_only_assumed_opens_nothing() -> None:
    skips(
        deciding(requested(position_state=PositionState.ASSUMED)),
        (Reason.POSITION_UNKNOWN, Check("position_state", "ASSUMED", "KNOWN", False)),
    )


# --- all of them -------------------------------------------------------------------------------------------


def test_every_reason_that_applies_is_listed() -> None:
    outcome = deciding(requested(bids=levels("90 x 1"), mode=Mode.LIVE), GONE, ms=61_000)
    assert the(outcome).reasons == (
        Reason.LIVE_NOT_AVAILABLE,
        Reason.PRICE_AWAY_FROM_MID,
        Reason.NO_LIQUIDITY_WITHIN_BOUNDS,
        Reason.NO_EQUITY,
    )
    outcome = deciding(requested(bids=levels("99.70 x 1"), opening_blocked="SIDE_NOT_WANTED"), ms=61_000)
    assert the(outcome).reasons == (
        Reason.PRICE_AWAY_FROM_MID,
        Reason.NO_LIQUIDITY_WITHIN_BOUNDS,
        Reason.STALE_SIGNAL,
        Reason.STALE_QUOTE,
        Reason.FILTERED,
        Reason.SPREAD_TOO_WIDE,
    )


def specs() -> str:
    return "".join(path.read_text() for path in sorted(Path(__file__).parents[1].rglob("test_*.py")))


def test_every_reason_has_a_spec() -> None:
    written = specs()
    assert [reason for reason in Reason if f"Reason.{reason}" not in written] == []


def test_every_row_of_the_table_has_a_spec() -> None:
    written = specs()
    assert [row for row in ROWS if f"def test_{row}_" not in written] == []


def test_the_default_book_is_the_documented_one() -> None:
    assert BIDS[0] == (micros("99.95"), micros("5"))
    assert ASKS[0] == (micros("100.05"), micros("5"))
