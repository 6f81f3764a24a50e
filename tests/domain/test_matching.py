"""Matching: who wants a group, who does not and why, and the side of the book that a copy would take."""

from collections.abc import Sequence

import pytest

from domain.events import (
    ExecutionRequested,
    Filters,
    GroupMatched,
    GuardrailConfigured,
    Mode,
    RequestedQuote,
    Status,
)
from domain.ids import derived
from domain.matching import Filtered, filter_of, match, quote_of
from domain.micros import micros
from domain.policy import Policy, hash_of
from domain.reasons import Reason
from tests.domain.facts import (
    ANN,
    ASKS,
    BIDS,
    BUY,
    SELL,
    at,
    captured,
    directory,
    group_closed,
    influencer,
    levels,
    no_quote,
    subscriber,
    subscription,
)

EVERYONE = (influencer(), subscriber(), subscription())


# --- filters -----------------------------------------------------------------------------------------------


def test_an_active_subscription_without_filters_wants_everything() -> None:
    known = directory(*EVERYONE)
    for group in (group_closed(), group_closed(after="-1"), group_closed(asset="xyz:SP500")):
        assert filter_of(known, subscription(), group) is None


@pytest.mark.parametrize("status", [Status.PAUSED, Status.CLOSED])
def test_influencer_inactive(status: Status) -> None:
    known = directory(influencer(status=status), subscriber(), subscription())
    assert filter_of(known, subscription(), group_closed()) is Filtered.INFLUENCER_INACTIVE


def test_influencer_unknown() -> None:
    known = directory(subscriber(), subscription())
    assert filter_of(known, subscription(), group_closed()) is Filtered.INFLUENCER_INACTIVE


@pytest.mark.parametrize("status", [Status.PAUSED, Status.CLOSED])
def test_subscription_inactive(status: Status) -> None:
    paused = subscription(status=status)
    assert filter_of(directory(*EVERYONE, paused), paused, group_closed()) is Filtered.SUBSCRIPTION_INACTIVE


@pytest.mark.parametrize("status", [Status.PAUSED, Status.CLOSED])
def test_subscriber_inactive(status: Status) -> None:
    known = directory(influencer(), subscriber(status=status), subscription())
    assert filter_of(known, subscription(), group_closed()) is Filtered.SUBSCRIBER_INACTIVE


def test_subscriber_unknown() -> None:
    known = directory(influencer(), subscription())
    assert filter_of(known, subscription(), group_closed()) is Filtered.SUBSCRIBER_INACTIVE


def test_before_subscription() -> None:
    known = directory(*EVERYONE, ms=100)
    assert filter_of(known, subscription(), group_closed(ms=99)) is Filtered.BEFORE_SUBSCRIPTION
    assert filter_of(known, subscription(), group_closed(ms=100)) is None


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        (Filters(allowed_assets=("ETH", "SOL")), Filtered.ASSET_NOT_ALLOWED),
        (Filters(allowed_assets=("ETH", "BTC")), None),
        (Filters(blocked_assets=("BTC",)), Filtered.ASSET_BLOCKED),
        (Filters(blocked_assets=("ETH",)), None),
        (Filters(allowed_assets=("BTC",), blocked_assets=("BTC",)), Filtered.ASSET_BLOCKED),
        (Filters(sides=(SELL,)), Filtered.SIDE_NOT_WANTED),
        (Filters(sides=(SELL, BUY)), None),
    ],
)
def test_filters_of_a_subscription(filters: Filters, why: Filtered | None) -> None:
    choosy = subscription(filters=filters)
    assert filter_of(directory(*EVERYONE, choosy), choosy, group_closed(after="1")) is why


# --- the book ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "side"), [("1", ASKS), ("-1", BIDS)])
def test_a_quote_is_the_side_that_a_copy_would_take(after: str, side: tuple[tuple[int, int], ...]) -> None:
    assert quote_of(captured(group_closed(after=after))) == (
        RequestedQuote("quo-1", micros("99.95"), micros("100.05"), side, micros("0.001"), at(910)),
        None,
    )


@pytest.mark.parametrize(("bids", "asks"), [((), ASKS), (BIDS, ()), ((), ())])
def test_a_book_without_a_side_is_empty(bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> None:
    assert quote_of(captured(bids=tuple(bids), asks=tuple(asks))) == (None, Reason.BOOK_EMPTY)


@pytest.mark.parametrize("bid", ["100.05", "100.06"])
def test_a_book_whose_best_bid_is_not_below_its_best_ask_is_crossed(bid: str) -> None:
    assert quote_of(captured(bids=levels(f"{bid} x 1"))) == (None, Reason.BOOK_CROSSED)


def test_a_failed_quote_keeps_its_reason() -> None:
    assert quote_of(no_quote(Reason.UNKNOWN_ASSET)) == (None, Reason.UNKNOWN_ASSET)


def test_the_mid_is_rounded_down() -> None:
    assert RequestedQuote("q", 1, 2, (), 1, 0).mid_micros == 1


# --- the fan-out -------------------------------------------------------------------------------------------


def test_a_request_holds_everything_that_the_decision_needs() -> None:
    known = directory(
        GuardrailConfigured(scope="influencer:ann", values={"spread_bps": 3}, actor="ops"),
        influencer(),
        subscriber(mode=Mode.RECORD_ONLY),
        subscription(limits={"latency_ms": 0}),
    )
    group = group_closed(before="2", after="1", price="100.5")
    requests, _ = match(known, captured(group), 42)
    quote, _ = quote_of(captured(group))
    assert requests == [
        ExecutionRequested(
            request_id=derived("req", "sam-ann", "grp-1"),
            subscription_id="sam-ann",
            subscriber_id="sam",
            influencer_id="ann",
            mode=Mode.RECORD_ONLY,
            group_id="grp-1",
            venue=group.venue,
            asset="BTC",
            market="BTC",
            action=group.action,
            trade_side=SELL,
            before_micros=micros("2"),
            after_micros=micros("1"),
            notional_micros=micros("100.5"),
            price_micros=micros("100.5"),
            event_time=at(0),
            detect_time=at(40),
            quote=quote,
            quote_reason=None,
            sizing=subscription().sizing,
            policy_hash=hash_of(Policy(spread_bps=3, latency_ms=0)),
            config_sequence=42,
        )
    ]


def test_a_group_without_a_book_is_still_asked_for_with_the_reason() -> None:
    requests, summary = match(directory(*EVERYONE), no_quote(Reason.NO_QUOTE), 7)
    assert [(request.quote, request.quote_reason) for request in requests] == [(None, Reason.NO_QUOTE)]
    assert summary.matched == 1


def test_the_summary_counts_who_was_matched_and_who_was_filtered_and_why() -> None:
    known = directory(
        *EVERYONE,
        subscriber("eve"),
        subscriber("joe", status=Status.PAUSED),
        subscription("eve-ann", subscriber="eve"),
        subscription("joe-ann", subscriber="joe"),
        subscription("sam-eth", filters=Filters(allowed_assets=("ETH",))),
        subscription("sam-sol", filters=Filters(allowed_assets=("SOL",))),
        influencer("bob", ANN.replace("a", "b")),
        subscription("sam-bob", influencer="bob"),
    )
    requests, summary = match(known, captured(), 7)
    assert [request.subscription_id for request in requests] == ["sam-ann", "eve-ann"]
    assert summary == GroupMatched(
        group_id="grp-1",
        quote_id="quo-1",
        influencer_id="ann",
        matched=2,
        filtered={"SUBSCRIBER_INACTIVE": 1, "ASSET_NOT_ALLOWED": 2},
    )


def test_a_group_nobody_follows_matches_nobody() -> None:
    requests, summary = match(directory(influencer()), captured(), 7)
    assert requests == []
    assert (summary.matched, summary.filtered) == (0, {})
