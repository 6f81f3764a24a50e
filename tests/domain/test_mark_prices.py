"""Marks (docs/design.md, marks and resolutions): worth and payouts of assets as of any sequence of the log."""

from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import Event, MarkCaptured, MarketResolved, MarkSource, Payout, Venue
from domain.mark_prices import Mark, MarkPrices, Resolution
from domain.micros import MICRO, micros
from tests.domain.facts import at, deposited

YES, NO = ("polymarket", "yes"), ("polymarket", "no")


def mark(price: str, *, asset: str = "yes", ms: int = 0, venue: Venue = Venue.POLYMARKET) -> MarkCaptured:
    return MarkCaptured(
        mark_id=f"mrk-{asset}-{ms}",
        venue=venue,
        asset=asset,
        market="race",
        price_micros=micros(price),
        source=MarkSource.MIDPOINT,
        venue_time=at(ms),
        marked_at=at(ms),
    )


def resolved(yes: str = "1", no: str = "0", *, id: str = "res-1", ms: int = 0) -> MarketResolved:
    return MarketResolved(
        resolution_id=id,
        venue=Venue.POLYMARKET,
        market="race",
        payouts=(Payout("yes", micros(yes)), Payout("no", micros(no))),
        resolved_at=at(ms - 60_000),
        detect_time=at(ms),
    )


def marks(*events: Event, history: bool = False) -> MarkPrices:
    """The marks after these events, recorded under sequences 10, 20, 30, ..."""
    made = MarkPrices(history=history)
    for number, event in enumerate(events, 1):
        made.evolve(event, number * 10)
    return made


def test_an_asset_without_a_mark_has_none() -> None:
    assert marks().mark(YES) is None
    assert marks(mark("0.4")).mark(NO) is None
    assert marks(mark("0.4", venue=Venue.HYPERLIQUID)).mark(YES) is None, "assets of two venues are two"


def test_the_newest_mark_counts() -> None:
    assert marks(mark("0.4"), mark("0.5", ms=30)).mark(YES) == Mark(20, micros("0.5"), at(30))


def test_a_mark_is_as_of_a_sequence() -> None:
    past = marks(mark("0.4"), mark("0.7", asset="no"), mark("0.5", ms=30), history=True)
    assert [past.mark(YES, sequence) for sequence in (9, 10, 29, 30, 99)] == [
        None,
        Mark(10, micros("0.4"), at(0)),
        Mark(10, micros("0.4"), at(0)),
        Mark(30, micros("0.5"), at(30)),
        Mark(30, micros("0.5"), at(30)),
    ]


def test_without_history_only_the_newest_is_kept_and_it_answers_for_nothing_older() -> None:
    assert marks(mark("0.4"), mark("0.5")).mark(YES, 15) is None


def test_a_payout_is_the_last_mark() -> None:
    past = marks(mark("0.4"), resolved(ms=60), mark("0.9", ms=90), history=True)
    assert past.mark(YES, 19) == Mark(10, micros("0.4"), at(0))
    assert past.mark(YES, 20) == past.mark(YES) == Mark(20, MICRO, at(60)), "from when it was known, and for good"
    assert past.mark(NO) == Mark(20, 0, at(60))


def test_a_resolution_is_as_of_a_sequence() -> None:
    ended = marks(mark("0.4"), resolved("0.5", "0.5", ms=60))
    assert ended.resolution(YES, 19) is None
    assert ended.resolution(YES, 20) == Resolution(20, MICRO // 2, "race", "res-1", at(60))
    assert ended.resolution(("polymarket", "other")) is None


def test_the_first_resolution_counts() -> None:
    ended = marks(resolved("1", "0"), resolved("0", "1", id="res-2", ms=5))
    found = ended.resolution(YES)
    assert found is not None
    assert (found.price_micros, found.resolution_id) == (MICRO, "res-1")


def test_folding_returns_the_assets_whose_worth_changed() -> None:
    made = MarkPrices()
    assert made.evolve(mark("0.4"), 1) == (YES,)
    assert made.evolve(resolved(), 2) == (YES, NO)
    assert made.evolve(resolved(id="res-2"), 3) == ()
    assert made.evolve(deposited(), 4) == ()
    assert made.sequence == 4


@given_any(
    st.lists(
        st.one_of(
            st.builds(
                lambda asset, price, ms: mark(str(price), asset=asset, ms=ms),
                st.sampled_from(["yes", "no"]),
                st.integers(0, 1),
                st.integers(0, 99),
            ),
            st.builds(lambda yes: resolved(str(yes), str(1 - yes)), st.integers(0, 1)),
        ),
        max_size=15,
    ),
    st.integers(0, 160),
)
def test_history_gives_the_newest_mark_at_every_sequence(events: list[Event], sequence: int) -> None:
    past = marks(*events, history=True)
    then = marks(*events[: sequence // 10])
    for asset in (YES, NO):
        assert past.mark(asset, sequence) == then.mark(asset)
        assert past.resolution(asset, sequence) == then.resolution(asset)
