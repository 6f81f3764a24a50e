"""A replay without the last trade received of its coin is a gap; everything else is not."""

import pytest

from handlers.ingest.hyperliquid.gap_detector import REPLAY, GapDetector


def trades(*times: int) -> list[tuple[int, int]]:
    """Trades at these times; the tid is the time, and a tenth of it more for each in the same block."""
    return [(time, time * 10 + times[:at].count(time)) for at, time in enumerate(times)]


def replay(first: int) -> list[tuple[int, int]]:
    return trades(*range(first, first + REPLAY))


@pytest.fixture
def detector() -> GapDetector:
    """The last trade received of BTC is at 100."""
    found = GapDetector()
    found.connected(["BTC", "ETH"])
    assert found.missed("BTC", replay(71)) is None
    found.connected(["BTC", "ETH"])
    return found


def test_a_replay_with_the_last_trade_closes_the_gap(detector: GapDetector) -> None:
    assert detector.missed("BTC", replay(100)) is None


def test_a_replay_that_begins_later_is_a_gap_since_the_last_trade(detector: GapDetector) -> None:
    assert detector.missed("BTC", replay(101)) == 100


def test_inside_a_block_only_the_trade_itself_is_proof(detector: GapDetector) -> None:
    same_block = [(100, 77), *replay(101)[1:]]
    assert detector.missed("BTC", same_block) == 100


def test_a_replay_that_reaches_back_further_is_no_gap(detector: GapDetector) -> None:
    assert detector.missed("BTC", replay(50)) is None, "an older one, from a slower server"
    detector.connected(["BTC"])
    assert detector.missed("BTC", replay(101)) == 100, "and the coin has not gone back"


def test_a_short_replay_is_all_there_ever_was(detector: GapDetector) -> None:
    assert detector.missed("BTC", replay(101)[1:]) is None


def test_only_the_first_frame_after_subscribing_is_a_replay(detector: GapDetector) -> None:
    assert detector.missed("BTC", replay(100)) is None
    assert detector.missed("BTC", replay(500)) is None
    assert detector.newest_ms == 529


def test_a_trade_that_is_dated_wrongly_is_not_the_last_one(detector: GapDetector) -> None:
    assert detector.missed("BTC", trades(100, 10**9), latest_ms=1_000) is None
    assert detector.missed("BTC", trades(10**9), latest_ms=1_000) is None
    assert detector.newest_ms == 100
    detector.connected(["BTC"])
    assert detector.missed("BTC", replay(101), latest_ms=1_000) == 100


def test_a_trade_that_is_dated_wrongly_counts_in_a_replay(detector: GapDetector) -> None:
    assert detector.missed("BTC", [*replay(101)[1:], (10**9, 1)], latest_ms=1_000) == 100


def test_a_replay_of_wrong_dates_alone_proves_nothing(detector: GapDetector) -> None:
    assert detector.missed("BTC", replay(10**9), latest_ms=1_000) == 100


def test_another_coin_that_goes_on_proves_nothing(detector: GapDetector) -> None:
    assert detector.missed("ETH", replay(5_000)) is None, "never received, and nothing in the log"
    assert detector.missed("BTC", replay(101)) == 100


def test_a_coin_without_trades_counts_from_the_newest_time_in_the_log() -> None:
    detector = GapDetector(stored_ms=100)
    detector.connected(["BTC", "ETH"])
    assert detector.missed("BTC", replay(101)) == 100
    assert detector.missed("ETH", replay(90)) is None


def test_a_frame_in_disorder_leaves_the_newest(detector: GapDetector) -> None:
    detector.missed("BTC", trades(130, 120))
    detector.connected(["BTC"])
    assert detector.missed("BTC", replay(130)) is None
