"""Matching (docs/design.md, matching): the side of the book that a copy would take, and who gets a request."""

from collections.abc import Sequence

import pytest
from msgspec import structs

from domain.events import (
    ExecutionRequested,
    Filters,
    GroupMatched,
    GuardrailConfigured,
    Mode,
    PortfolioScope,
    PositionState,
    RequestedQuote,
    Status,
    Venue,
)
from domain.guardrails import Policy, hash_of
from domain.ids import derived
from domain.matching import match, quote_of
from domain.micros import micros
from domain.reason_codes import Reason
from tests.domain.facts import (
    ANN,
    ASKS,
    BIDS,
    SELL,
    at,
    captured,
    configuration,
    group_closed,
    influencer,
    levels,
    no_quote,
    subscriber,
    subscription,
    terms,
)

EVERYONE = (influencer(), subscriber(), subscription())


# --- the book ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "side"), [("1", ASKS), ("-1", BIDS)])
def test_a_quote_is_the_side_that_a_copy_would_take(after: str, side: tuple[tuple[int, int], ...]) -> None:
    assert quote_of(captured(group_closed(after=after))) == (
        RequestedQuote("quo-1", micros("99.95"), micros("100.05"), side, micros("0.001"), at(910), venue_time=at(900)),
        None,
    )


@pytest.mark.parametrize(("bids", "asks"), [((), ASKS), (BIDS, ()), ((), ())])
def test_a_book_without_a_side_is_empty(bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> None:
    assert quote_of(captured(bids=tuple(bids), asks=tuple(asks))) == (None, Reason.BOOK_EMPTY)


@pytest.mark.parametrize("bid", ["100.05", "100.06"])
def test_a_book_whose_best_bid_is_not_below_its_best_ask_is_crossed(bid: str) -> None:
    assert quote_of(captured(bids=levels(f"{bid} x 1"))) == (None, Reason.BOOK_CROSSED)


@pytest.mark.parametrize(("bid", "ask"), [(0, 10_000), (-10_000, 10_000)])
def test_a_book_with_a_price_of_nothing_is_invalid(bid: int, ask: int) -> None:
    assert quote_of(captured(bids=((bid, 5),), asks=((ask, 5),))) == (None, Reason.BOOK_INVALID)


def test_a_book_up_to_a_price_of_one_is_a_book() -> None:
    quote, reason = quote_of(captured(bids=((999_000, 5),), asks=((1_000_000, 5),)))
    assert reason is None
    assert quote is not None
    assert quote.mid_micros == 999_500


def test_a_quote_keeps_the_terms_of_its_market() -> None:
    quote, _ = quote_of(structs.replace(captured(), terms=terms()))
    assert quote is not None
    assert quote.terms == terms()


def test_a_quote_has_the_venues_time_where_it_is_when_the_venue_read_the_book() -> None:
    """Polymarket's may be the time of the last change: a quiet book would look old."""
    on_hyperliquid, _ = quote_of(captured())
    assert on_hyperliquid is not None
    assert (on_hyperliquid.venue_time, on_hyperliquid.as_of) == (at(900), at(900))
    group = structs.replace(group_closed(), venue=Venue.POLYMARKET)
    on_polymarket, _ = quote_of(captured(group))
    assert on_polymarket is not None
    assert (on_polymarket.venue_time, on_polymarket.as_of) == (None, at(910))


def test_a_quote_is_never_newer_than_its_capture() -> None:
    """The venue's clock may be ahead of ours."""
    quote, _ = quote_of(structs.replace(captured(), venue_time=at(2000)))
    assert quote is not None
    assert quote.as_of == at(910)


@pytest.mark.parametrize(
    ("venue", "current", "as_of"),
    [(Venue.HYPERLIQUID, 905, 900), (Venue.HYPERLIQUID, 895, 895), (Venue.POLYMARKET, 905, 905)],
)
def test_the_age_of_a_live_book_counts_from_when_it_was_known_to_be_the_venues(
    venue: Venue, current: int, as_of: int
) -> None:
    group = structs.replace(group_closed(), venue=venue)
    quote, _ = quote_of(structs.replace(captured(group), current_at=at(current)))
    assert quote is not None
    assert quote.as_of == at(as_of)


def test_a_failed_quote_keeps_its_reason() -> None:
    assert quote_of(no_quote(Reason.UNKNOWN_ASSET)) == (None, Reason.UNKNOWN_ASSET)


def test_the_mid_is_rounded_down() -> None:
    assert RequestedQuote("q", 1, 2, (), 1, 0).mid_micros == 1


# --- the fan-out -------------------------------------------------------------------------------------------


def test_a_request_holds_everything_that_the_decision_needs() -> None:
    known = configuration(
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


def test_a_request_carries_the_scope_and_the_influencers_position_state_and_equity() -> None:
    everyones = structs.replace(subscriber(), scope=PortfolioScope.EXEC_GLOBAL)
    group = group_closed(position_state=PositionState.ASSUMED, influencer_equity_micros=micros("5000"))
    (request,), _ = match(configuration(influencer(), everyones, subscription()), captured(group), 7)
    assert request.scope is PortfolioScope.EXEC_GLOBAL
    assert request.position_state is PositionState.ASSUMED
    assert request.influencer_equity_micros == micros("5000")
    assert request.opening_blocked is None


def test_a_group_without_a_market_takes_that_of_its_quote() -> None:
    group = group_closed(asset="yes", market="")
    choosy = subscription(filters=Filters(allowed_markets=("race",)))
    with_terms = structs.replace(captured(group), terms=terms(market="race"))
    (request,), _ = match(configuration(*EVERYONE, choosy), with_terms, 7)
    assert request.market == "race"
    assert match(configuration(*EVERYONE, choosy), no_quote(Reason.NO_QUOTE, group), 7)[0] == []


def test_policy_of_a_request_is_the_subscriptions() -> None:
    """Global, influencer, subscriber, subscription: each is stronger than the one before."""
    known = configuration(
        *EVERYONE,
        GuardrailConfigured(scope="global", values={"spread_bps": 1, "latency_ms": 1}, actor="ops"),
        GuardrailConfigured(scope="subscriber:sam", values={"spread_bps": 2}, actor="ops"),
    )
    (request,), _ = match(known, captured(), 7)
    assert request.policy_hash == hash_of(Policy(spread_bps=2, latency_ms=1))


def test_a_group_without_a_book_is_still_requested_with_the_reason() -> None:
    requests, summary = match(configuration(*EVERYONE), no_quote(Reason.NO_QUOTE), 7)
    assert [(request.quote, request.quote_reason) for request in requests] == [(None, Reason.NO_QUOTE)]
    assert summary.matched == 1


def test_the_summary_counts_who_was_matched_and_who_was_filtered_and_why() -> None:
    known = configuration(
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
        filtered={"SUBSCRIBER_PAUSED": 1, "ASSET_NOT_ALLOWED": 2},
    )


def test_a_group_without_subscriptions_matches_none() -> None:
    requests, summary = match(configuration(influencer()), captured(), 7)
    assert requests == []
    assert (summary.matched, summary.filtered) == (0, {})
