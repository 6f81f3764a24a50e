"""Filters (docs/design.md, matching): they block openings and let reductions through."""

from datetime import datetime

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import (
    Event,
    Filters,
    OnClose,
    Status,
)
from domain.matching import OPENING_ONLY, Filtered, filter_of, match
from tests.domain.facts import (
    BUY,
    SELL,
    at,
    captured,
    configuration,
    group_closed,
    influencer,
    subscriber,
    subscription,
)

EVERYONE = (influencer(), subscriber(), subscription())


def test_filters_nothing_of_an_active_subscription_without_any() -> None:
    known = configuration(*EVERYONE)
    for group in (group_closed(), group_closed(after="-1"), group_closed(asset="xyz:SP500")):
        assert filter_of(known, subscription(), group) is None


@pytest.mark.parametrize(
    ("status", "why"),
    [(Status.PAUSED, Filtered.INFLUENCER_PAUSED), (Status.CLOSED, Filtered.INFLUENCER_CLOSED)],
)
def test_filters_status_of_the_influencer(status: Status, why: Filtered) -> None:
    known = configuration(influencer(status=status), subscriber(), subscription())
    assert filter_of(known, subscription(), group_closed()) is why


def test_filters_unknown_influencer() -> None:
    known = configuration(subscriber(), subscription())
    assert filter_of(known, subscription(), group_closed()) is Filtered.INFLUENCER_INACTIVE


@pytest.mark.parametrize(
    ("status", "why"),
    [(Status.PAUSED, Filtered.SUBSCRIPTION_PAUSED), (Status.CLOSED, Filtered.SUBSCRIPTION_CLOSED)],
)
def test_filters_status_of_the_subscription(status: Status, why: Filtered) -> None:
    changed = subscription(status=status)
    assert filter_of(configuration(*EVERYONE, changed), changed, group_closed()) is why


@pytest.mark.parametrize(
    ("status", "why"),
    [(Status.PAUSED, Filtered.SUBSCRIBER_PAUSED), (Status.CLOSED, Filtered.SUBSCRIBER_CLOSED)],
)
def test_filters_status_of_the_subscriber(status: Status, why: Filtered) -> None:
    known = configuration(influencer(), subscriber(status=status), subscription())
    assert filter_of(known, subscription(), group_closed()) is why


def test_filters_unknown_subscriber() -> None:
    known = configuration(influencer(), subscription())
    assert filter_of(known, subscription(), group_closed()) is Filtered.SUBSCRIBER_INACTIVE


def test_filters_what_happened_before_a_resume_was_paused_and_still_reduces() -> None:
    known = configuration(*EVERYONE, ms=0)
    known.evolve(subscription(status=Status.PAUSED), at(100))
    known.evolve(subscription(), at(200))
    assert filter_of(known, subscription(), group_closed(ms=199)) is Filtered.SUBSCRIPTION_PAUSED
    assert Filtered.SUBSCRIPTION_PAUSED in OPENING_ONLY


def test_filters_what_an_influencer_traded_before_it_was_resumed_was_paused() -> None:
    known = configuration(*EVERYONE, ms=0)
    known.evolve(influencer(status=Status.PAUSED), at(100))
    known.evolve(influencer(), at(200))
    assert filter_of(known, subscription(), group_closed(ms=199)) is Filtered.INFLUENCER_PAUSED
    assert filter_of(known, subscription(), group_closed(ms=200)) is None


def test_filters_what_was_closed_and_opened_again_still_follows_exits_from_before() -> None:
    known = configuration(*EVERYONE, ms=0)
    known.evolve(subscription(status=Status.CLOSED), at(100))
    known.evolve(subscription(), at(200))
    assert filter_of(known, subscription(), group_closed(ms=150)) is Filtered.SUBSCRIPTION_PAUSED
    assert filter_of(known, subscription(), group_closed(ms=200)) is None
    assert filter_of(known, subscription(), group_closed(ms=200)) is None


def test_signal_age_a_new_subscription_never_copies_what_came_before_it() -> None:
    known = configuration(*EVERYONE, ms=100)
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
    assert filter_of(configuration(*EVERYONE, choosy), choosy, group_closed(after="1")) is why


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        (Filters(allowed_markets=("match", "race")), None),
        (Filters(allowed_markets=("match",)), Filtered.MARKET_NOT_ALLOWED),
        (Filters(blocked_markets=("match",)), None),
        (Filters(blocked_markets=("race",)), Filtered.MARKET_BLOCKED),
        (Filters(allowed_markets=("race",), blocked_markets=("race",)), Filtered.MARKET_BLOCKED),
        (Filters(allowed_markets=("race",), blocked_assets=("yes",)), Filtered.ASSET_BLOCKED),
    ],
)
def test_filters_by_market(filters: Filters, why: Filtered | None) -> None:
    choosy = subscription(filters=filters)
    group = group_closed(asset="yes", market="race")
    assert filter_of(configuration(*EVERYONE, choosy), choosy, group) is why


def day_and_hour(filters: Filters, when: str) -> Filtered | None:
    """The filter that blocks a trade at a UTC time such as '2026-07-20 09:30:00'; None when none does."""
    time = int(datetime.fromisoformat(f"{when}+00:00").timestamp()) * 1_000_000_000
    choosy = subscription(filters=filters)
    return filter_of(configuration(*EVERYONE, choosy, ms=-2 * 10**12), choosy, group_closed(event_time=time))


@pytest.mark.parametrize(
    ("when", "wanted"), [("2026-07-20 00:00", True), ("2026-07-24 23:59", True), ("2026-07-25 00:00", False)]
)
def test_filters_by_day_of_the_week_in_utc(when: str, wanted: bool) -> None:
    weekdays = Filters(days=(1, 2, 3, 4, 5))
    assert day_and_hour(weekdays, when) is (None if wanted else Filtered.DAY_NOT_WANTED)


@pytest.mark.parametrize(
    ("hours", "when", "wanted"),
    [
        ((480, 1020), "07:59:59", False),
        ((480, 1020), "08:00:00", True),
        ((480, 1020), "16:59:59", True),
        ((480, 1020), "17:00:00", False),
        ((1320, 360), "21:59:59", False),  # 22:00 to 06:00
        ((1320, 360), "22:00:00", True),
        ((1320, 360), "00:00:00", True),
        ((1320, 360), "05:59:59", True),
        ((1320, 360), "06:00:00", False),
        ((0, 1440), "23:59:59", True),
    ],
)
def test_filters_by_time_of_day_may_run_over_midnight(hours: tuple[int, int], when: str, wanted: bool) -> None:
    expected = None if wanted else Filtered.HOUR_NOT_WANTED
    assert day_and_hour(Filters(hours=(hours,)), f"2026-07-22 {when}") is expected


def test_filters_by_time_of_day_want_any_of_several_ranges() -> None:
    twice = Filters(hours=((60, 120), (600, 660)))
    assert [day_and_hour(twice, f"2026-07-22 {hour}:30") for hour in ("01", "05", "10")] == [
        None,
        Filtered.HOUR_NOT_WANTED,
        None,
    ]


@given_any(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))
def test_filters_know_every_weekday(when: datetime) -> None:
    text = when.replace(microsecond=0).isoformat(sep=" ")
    others = tuple(day for day in range(1, 8) if day != when.isoweekday())
    assert day_and_hour(Filters(days=(when.isoweekday(),)), text) is None
    assert day_and_hour(Filters(days=others), text) is Filtered.DAY_NOT_WANTED


NOT_NOW = {
    Filtered.INFLUENCER_PAUSED: (influencer(status=Status.PAUSED),),
    Filtered.INFLUENCER_CLOSED: (influencer(status=Status.CLOSED),),
    Filtered.SUBSCRIPTION_CLOSED: (subscription(status=Status.CLOSED),),
    Filtered.SUBSCRIBER_CLOSED: (subscriber(status=Status.CLOSED),),
    Filtered.SUBSCRIPTION_PAUSED: (subscription(status=Status.PAUSED),),
    Filtered.SUBSCRIBER_PAUSED: (subscriber(status=Status.PAUSED),),
    Filtered.ASSET_NOT_ALLOWED: (subscription(filters=Filters(allowed_assets=("ETH",))),),
    Filtered.ASSET_BLOCKED: (subscription(filters=Filters(blocked_assets=("BTC",))),),
    Filtered.MARKET_NOT_ALLOWED: (subscription(filters=Filters(allowed_markets=("ETH",))),),
    Filtered.MARKET_BLOCKED: (subscription(filters=Filters(blocked_markets=("BTC",))),),
    Filtered.SIDE_NOT_WANTED: (subscription(filters=Filters(sides=())),),
    Filtered.DAY_NOT_WANTED: (subscription(filters=Filters(days=(7,))),),
    Filtered.HOUR_NOT_WANTED: (subscription(filters=Filters(hours=((1200, 1210),))),),
}
NEVER = {
    Filtered.INFLUENCER_INACTIVE: (influencer(status=Status.CLOSED, on_close=OnClose.ABANDON),),
    Filtered.SUBSCRIPTION_INACTIVE: (subscription(status=Status.CLOSED, on_close=OnClose.ABANDON),),
    Filtered.SUBSCRIBER_INACTIVE: (subscriber(status=Status.CLOSED, on_close=OnClose.ABANDON),),
}


def asking(
    changes: tuple[Event, ...], why: Filtered, before: str, after: str
) -> tuple[list[str | None], dict[str, int]]:
    """The filter that each request names, and the counts of the rest in the summary."""
    group = group_closed(before=before, after=after)
    if why is Filtered.SIDE_NOT_WANTED:
        changes = (subscription(filters=Filters(sides=(SELL if group.trade_side is BUY else BUY,))),)
    requests, summary = match(configuration(*EVERYONE, *changes), captured(group), 7)
    assert summary.matched == len(requests)
    return [request.opening_blocked for request in requests], summary.filtered


@pytest.mark.parametrize("why", NOT_NOW)
def test_filters_let_reductions_through_and_are_named(why: Filtered) -> None:
    changes = NOT_NOW[why]
    assert asking(changes, why, "0", "1") == asking(changes, why, "1", "2") == ([], {why.value: 1})
    for before, after in (("2", "1"), ("1", "0"), ("1", "-1"), ("-1", "0")):
        assert asking(changes, why, before, after) == ([why.value], {})


@pytest.mark.parametrize("why", NEVER)
def test_filters_of_what_was_abandoned_let_nothing_through(why: Filtered) -> None:
    for before, after in (("0", "1"), ("2", "1"), ("1", "0"), ("1", "-1")):
        assert asking(NEVER[why], why, before, after) == ([], {why.value: 1})


def test_filters_every_one_is_specified_here() -> None:
    assert {*NOT_NOW, *NEVER, Filtered.BEFORE_SUBSCRIPTION} == set(Filtered)
    assert set(NOT_NOW) == OPENING_ONLY
