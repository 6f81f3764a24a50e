"""RAW -> SIGNALS, as a fold."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from domain.events import (
    AccountSeeded,
    Action,
    FillObserved,
    GapDetected,
    GapKind,
    MarketDescribed,
    PositionState,
    RawReceived,
    SeededPosition,
    SignalRecorded,
    Venue,
)
from domain.ids import derived
from domain.influencer_account import Account
from domain.venue_times import LONGEST_AHEAD_NS
from handlers.normalize import Known, Normalize
from streams import subjects
from streams.errors import UnprocessableError
from tests.handlers.folding import ALICE, BOB, NOW, SECOND, Folding, account, configured, trade
from tests.handlers.raws import MARKET, NO, THEN, YES, activity, chain, fill, market, moved, positions, raw


def folding(*addresses: str) -> Folding[Any]:
    """A lane whose configuration has Alice with these addresses; with none it has no influencer."""
    line = {"kind": "influencer", "id": "alice", "venue": "hyperliquid", "addresses": addresses}
    return Folding(Normalize(configured([json.dumps(line)] if addresses else [])))


def steps(signals: list[SignalRecorded]) -> list[tuple[Action, int, int, PositionState]]:
    return [(signal.action, signal.before_micros, signal.after_micros, signal.position_state) for signal in signals]


def test_a_trade_becomes_one_signal_with_all_its_facts() -> None:
    raw = trade(px="100.5", sz="2.25")
    lane = folding()
    (signal,) = lane.when(raw)
    assert signal.signal_id == derived("sig", raw.raw_id)
    assert (signal.price_micros, signal.delta_micros, signal.notional_micros) == (100_500_000, 2_250_000, 226_125_000)
    assert (signal.influencer_id, signal.venue, signal.address, signal.asset) == (
        "alice",
        Venue.HYPERLIQUID,
        ALICE,
        "BTC",
    )
    assert (signal.event_time, signal.detect_time) == (1_794_999_999_000_000_000, NOW)
    assert signal.metadata == {"tid": "1", "hash": "0x12"}
    assert signal.taker
    (output,) = lane.outputs
    assert output.subject == subjects.signals("alice", "hyperliquid", "BTC")
    assert (output.id, output.correlation, output.cause) == (signal.signal_id, raw.raw_id, None)


def test_positions_are_folded_trade_by_trade() -> None:
    lane = folding()
    signals = [
        signal
        for number, (side, size) in enumerate([("B", "2"), ("B", "1"), ("A", "1"), ("A", "4"), ("B", "2")], 1)
        for signal in lane.when(trade(side=side, sz=size, tid=number, time=1_794_999_999_000 + number))
    ]
    assumed = PositionState.ASSUMED
    assert steps(signals) == [
        (Action.OPEN, 0, 2_000_000, assumed),
        (Action.INCREASE, 2_000_000, 3_000_000, assumed),
        (Action.DECREASE, 3_000_000, 2_000_000, assumed),
        (Action.FLIP, 2_000_000, -2_000_000, assumed),
        (Action.CLOSE, -2_000_000, 0, assumed),
    ]


def test_an_account_snapshot_sets_the_position() -> None:
    lane = folding()
    (seeded,) = lane.when(account(("BTC", "-3.5"), ("ETH", "1")))
    assert isinstance(seeded, AccountSeeded)
    assert seeded.positions == (
        SeededPosition("BTC", -3_500_000, 5, "BTC", 90_000_000),
        SeededPosition("ETH", 1_000_000, 5, "ETH", 90_000_000),
    )
    assert lane.outputs[0].subject == subjects.signals("alice", "hyperliquid", "_account")
    (signal,) = lane.when(trade(sz="1"))
    assert steps([signal]) == [(Action.DECREASE, -3_500_000, -2_500_000, PositionState.KNOWN)]
    assert signal.leverage == 5
    (flat,) = lane.when(trade(coin="SOL", sz="1", tid=2))
    assert steps([flat]) == [(Action.OPEN, 0, 1_000_000, PositionState.KNOWN)], "what is not listed is flat"


def test_a_section_sets_its_own_assets_only() -> None:
    lane = folding()
    lane.when(account(("xyz:GOLD", "2"), section="xyz"))
    (gold,) = lane.when(trade(coin="xyz:GOLD", sz="1", tid=1))
    (bitcoin,) = lane.when(trade(coin="BTC", sz="1", tid=2))
    assert (gold.position_state, bitcoin.position_state) == (PositionState.KNOWN, PositionState.ASSUMED)
    assert gold.before_micros == 2_000_000


def test_a_trade_before_the_snapshot_is_history() -> None:
    lane = folding()
    lane.when(account(("BTC", "5"), time_ms=1_794_999_999_500))
    (old,) = lane.when(trade(sz="1", time=1_794_999_999_500))
    assert steps([old]) == [(Action.INCREASE, 4_000_000, 5_000_000, PositionState.HISTORIC)]
    (new,) = lane.when(trade(sz="1", tid=2, time=1_794_999_999_501))
    assert steps([new]) == [(Action.INCREASE, 5_000_000, 6_000_000, PositionState.KNOWN)]


def test_a_duplicate_trade_has_no_signal() -> None:
    lane = folding()
    assert len(lane.when(trade())) == 1
    assert lane.when(trade()) == []
    assert lane.replayed().when(trade()) == [], "nor after a restart"


def test_both_sides_of_a_trade_with_oneself() -> None:
    lane = folding()
    both: dict[str, Any] = {"users": (ALICE, ALICE)}
    (bought,) = lane.when(trade(side="B", **both))
    sale = trade(side="A", **both)
    (sold,) = lane.when(sale)
    assert (bought.delta_micros, sold.delta_micros) == (2_000_000, -2_000_000)
    assert bought.signal_id != sold.signal_id


def test_a_restart_knows_every_position() -> None:
    lane = folding()
    lane.when(account(("BTC", "5")))
    lane.when(trade(sz="1"))
    (before,) = lane.replayed().when(trade(sz="2", tid=9))
    (expected,) = lane.when(trade(sz="2", tid=9))
    assert before == expected
    assert before.before_micros == 6_000_000


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"px": "abc"}, "not a plain decimal"),
        ({"px": "1e5"}, "not a plain decimal"),
        ({"px": "NaN"}, "not a plain decimal"),
        ({"px": ""}, "not a plain decimal"),
        ({"px": "0.0"}, "not above zero"),
        ({"px": 100.5}, "not a trade"),
        ({"sz": "-1"}, "not above zero"),
        ({"sz": "0"}, "not above zero"),
        ({"sz": "0.0000001"}, "more than six decimal places"),
        ({"sz": None}, "not a trade"),
        ({"hash": 5}, "not a trade"),
        ({"side": "X"}, "neither 'A' nor 'B'"),
        ({"users": (BOB, BOB)}, "belongs to"),
        ({"users": (ALICE,)}, "not a trade"),
    ],
)
def test_an_unreadable_trade(fields: dict[str, Any], why: str) -> None:
    raw = trade()
    wire = msgspec.json.decode(raw.payload) | fields
    lane = folding()
    with pytest.raises(UnprocessableError, match=why):
        lane.when(msgspec.structs.replace(raw, payload=Raw(msgspec.json.encode(wire))))
    assert len(lane.when(trade())) == 1, "and it leaves no trace"


AHEAD = NOW + LONGEST_AHEAD_NS
YEAR = 365 * 86_400 * SECOND


def dated(time: int) -> dict[str, RawReceived]:
    """What each venue reports with a time, from which a position follows."""
    return {
        "a trade": trade(tid=9, time=time // 1_000_000),
        "an own fill": fill(tid=9, time=time // 1_000_000),
        "an account snapshot": account(("BTC", "5"), time_ms=time // 1_000_000),
        "a row of activity": activity(timestamp=time // SECOND, transactionHash="0x" + "0d" * 32),
        "a movement": moved("REDEEM", 1, 1, asset=YES, timestamp=time // SECOND),
        "a conversion": moved("CONVERSION", 1, 1, timestamp=time // SECOND),
        "a log on chain": msgspec.structs.replace(chain(block="0e"), venue_time=time, detect_time=NOW),
        "a wallet snapshot": positions((YES, 5), as_of=time // SECOND),
    }


@pytest.mark.parametrize("what", dated(NOW))
def test_a_venue_time_beyond_the_bound_is_refused_with_both_times(what: str) -> None:
    with pytest.raises(UnprocessableError, match=rf"2027-11-18T.*\({NOW + YEAR} ns\).*2026-11-18T.*\({NOW} ns\)"):
        folding().when(dated(NOW + YEAR)[what])
    with pytest.raises(UnprocessableError, match="at most 300 s ahead"):
        folding().when(dated(AHEAD + SECOND)[what])
    assert folding().when(dated(AHEAD)[what]), "clocks differ"


@pytest.mark.parametrize("what", dated(NOW))
def test_a_venue_time_beyond_the_bound_leaves_no_trace(what: str) -> None:
    lane, undisturbed = folding(), folding()
    later = [trade(tid=1), trade(side="A", tid=2), account(("BTC", "3")), trade(tid=3), activity(), positions((YES, 7))]
    for each in (lane, undisturbed):
        each.when(account(time_ms=THEN * 1000 - 5_000))
        each.when(positions((YES, 1)))
    with pytest.raises(UnprocessableError):
        lane.when(dated(NOW + YEAR)[what])
    for one in later:
        assert lane.when(one) == undisturbed.when(one)
    assert lane.stage.dump(lane.replayed().state) == undisturbed.stage.dump(undisturbed.replayed().state)


def test_a_venue_time_beyond_all_calendars_is_refused() -> None:
    with pytest.raises(UnprocessableError, match="dates this"):
        folding().when(trade(time=10**15))


@pytest.mark.parametrize("channel", ["activity", "", "trades.x", "l2Book@xyz"])
def test_an_unknown_channel(channel: str) -> None:
    with pytest.raises(UnprocessableError, match="is unknown; known are"):
        folding().when(msgspec.structs.replace(trade(), channel=channel))


@pytest.mark.parametrize(
    "payload", [b"[]", b"null", b'{"time":1}', b'{"assetPositions":[{"position":{"coin":"BTC","szi":"x"}}],"time":1}']
)
def test_an_unreadable_account_snapshot(payload: bytes) -> None:
    raw: RawReceived = msgspec.structs.replace(account(), payload=Raw(payload))
    with pytest.raises(UnprocessableError, match=r"not an account snapshot|not a plain decimal"):
        folding().when(raw)


# --- snapshots and other sources ---------------------------------------------------------------------------


def test_the_fill_of_a_known_trade_has_no_signal() -> None:
    lane = folding()
    lane.when(account())
    assert len(lane.when(trade())) == 1
    assert lane.when(fill()) == []
    other = folding()
    assert len(other.when(fill())) == 1
    assert other.when(trade()) == []


def test_a_gap_comes_before_its_signal_on_a_subject_of_its_own() -> None:
    lane = folding()
    lane.when(account(("BTC", "5")))
    gap, signal = lane.when(fill(startPosition="8.0"))
    assert isinstance(gap, GapDetected)
    assert (gap.kind, gap.expected_micros, gap.found_micros) == (GapKind.START_POSITION, 5_000_000, 8_000_000)
    assert steps([signal]) == [(Action.INCREASE, 8_000_000, 10_000_000, PositionState.KNOWN)]
    of_gap, of_signal = lane.outputs[-2:]
    assert (of_gap.subject, of_gap.id) == (subjects.signals("alice", "hyperliquid", "_gap"), gap.gap_id)
    assert of_signal.subject == subjects.signals("alice", "hyperliquid", "BTC")
    (late,) = lane.when(fill(tid=2, time=THEN * 1000 - 1, startPosition="5.0"))
    assert late.position_state is PositionState.HISTORIC, "the snapshot contained it"


def test_a_duplicate_or_late_snapshot_has_no_event() -> None:
    lane = folding()
    newest = account(("BTC", "5"), time_ms=2_000)
    assert len(lane.when(newest)) == 1
    assert lane.when(newest) == []
    assert lane.when(account(("BTC", "1"), time_ms=1_999)) == []
    _, gap = lane.when(account(time_ms=2_001))
    assert (gap.kind, gap.asset, gap.expected_micros, gap.found_micros) == (GapKind.SNAPSHOT, "BTC", 5_000_000, 0)
    assert lane.outputs[-1].subject == subjects.signals("alice", "hyperliquid", "_gap")
    assert len(lane.when(account(section="xyz", time_ms=1))) == 1


def test_the_equity_of_an_account_is_in_its_signals() -> None:
    lane = folding()
    lane.when(account(worth="1000.5"))
    lane.when(account(section="xyz", worth="0.5"))
    (signal,) = lane.when(trade())
    assert signal.influencer_equity_micros == 1_001_000_000


# --- Polymarket --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_first", [True, False])
def test_a_row_and_its_log_are_one_signal_and_one_observation(log_first: bool) -> None:
    lane = folding()
    lane.when(positions())
    first, second = (chain(), activity()) if log_first else (activity(), chain())
    (signal,) = lane.when(first)
    assert steps([signal]) == [(Action.OPEN, 0, 10_000_000, PositionState.KNOWN)]
    (observed,) = lane.when(second)
    assert isinstance(observed, FillObserved)
    assert observed.signal_id == signal.signal_id
    output = lane.outputs[-1]
    assert output.subject == subjects.signals("alice", "polymarket", YES)
    assert (output.id, output.correlation) == (f"{second.raw_id}.observed", second.raw_id)
    assert lane.when(first) == lane.when(second) == []
    assert lane.replayed().when(first) == lane.replayed().when(second) == [], "nor after a restart"


def test_a_log_of_a_known_asset_has_its_market() -> None:
    lane = folding()
    (unknown,) = lane.when(chain())
    lane.when(activity())
    (known,) = lane.when(chain(index=2, transactionHash="0x" + "0d" * 32))
    assert (unknown.market, known.market) == ("", MARKET)


def test_a_removed_log_is_compensated() -> None:
    lane = folding()
    lane.when(positions())
    lane.when(chain())
    (back,) = lane.when(chain(removed=True))
    assert steps([back]) == [(Action.CLOSE, 10_000_000, 0, PositionState.KNOWN)]
    assert len(lane.when(chain(block="0e"))) == 1


def test_a_market_is_described_on_a_subject_of_its_own() -> None:
    lane = folding()
    event = market()
    (described,) = lane.when(event)
    assert isinstance(described, MarketDescribed)
    (output,) = lane.outputs
    assert output.subject == subjects.signals("alice", "polymarket", "_market")
    assert output.id == f"{described.description_id}@{event.raw_id}", "two influencers trade in it"


def test_a_split_needs_the_description_of_its_market() -> None:
    lane = folding()
    lane.when(positions())
    split = moved("SPLIT", 10, 10)
    with pytest.raises(
        UnprocessableError, match="was never described; the venue's next account snapshot corrects the position"
    ):
        lane.when(split)
    assert lane.state.accounts[Venue.POLYMARKET, ALICE] == lane.replayed().state.accounts[Venue.POLYMARKET, ALICE]
    lane.when(market())
    signals = lane.when(split)
    assert [(signal.asset, signal.action, signal.delta_micros) for signal in signals] == [
        (YES, Action.SPLIT, 10_000_000),
        (NO, Action.SPLIT, 10_000_000),
    ]
    assert len({output.id for output in lane.outputs}) == len(lane.outputs)
    assert lane.when(split) == []
    (merged, _) = lane.when(moved("MERGE", 4, 4))
    assert (merged.action, merged.after_micros) == (Action.MERGE, 6_000_000)


def test_a_payout_closes_the_position_once() -> None:
    lane = folding()
    lane.when(positions((YES, 10), (NO, 4)))
    payout = moved("REDEEM", 10, 10)
    won, lost = lane.when(payout)
    assert (won.asset, won.after_micros, won.notional_micros) == (YES, 0, 10_000_000)
    assert (lost.asset, lost.after_micros, lost.notional_micros) == (NO, 0, 0)
    assert lane.when(payout) == [], "although nothing of its market is held any more"
    with pytest.raises(UnprocessableError, match="fits 0 of 0 held assets"):
        lane.when(moved("REDEEM", 11, 11))


def test_a_conversion_is_a_gap() -> None:
    lane = folding()
    lane.when(positions((YES, 10)))
    (gap,) = lane.when(moved("CONVERSION", 3, 0))
    assert gap.kind is GapKind.CONVERSION
    assert lane.outputs[-1].subject == subjects.signals("alice", "polymarket", "_gap")
    (signal,) = lane.when(activity())
    assert signal.before_micros == 10_000_000


def test_selling_an_unknown_position_is_a_gap() -> None:
    lane = folding()
    lane.when(positions())
    gap, signal = lane.when(activity(side="SELL", usdcSize=3.99))
    assert (gap.kind, gap.found_micros) == (GapKind.BELOW_ZERO, 10_000_000)
    assert steps([signal]) == [(Action.CLOSE, 10_000_000, 0, PositionState.KNOWN)]


def test_cash_movements_have_no_event() -> None:
    lane = folding()
    assert lane.when(moved("REWARD", 5, 5, conditionId="")) == []
    assert lane.when(raw("pm:profile:1", "profile", b"{}")) == []
    assert lane.state == lane.stage.initial(None)  # type: ignore[arg-type]


def test_venues_and_addresses_are_accounts_of_their_own() -> None:
    lane = folding()
    lane.when(account(("BTC", "5")))
    lane.when(positions((YES, 10)))
    lane.when(trade(BOB, users=(BOB, ALICE)))
    assert set(lane.state.accounts) == {
        (Venue.HYPERLIQUID, ALICE),
        (Venue.POLYMARKET, ALICE),
        (Venue.HYPERLIQUID, BOB),
    }


# --- state = fold of the outputs ---------------------------------------------------------------------------

happenings = st.lists(
    st.one_of(
        st.builds(
            lambda side, size, tid, ms: trade(side=side, sz=size, tid=tid, time=THEN * 1000 + ms),
            st.sampled_from("AB"),
            st.sampled_from(["1.0", "2.5"]),
            st.integers(1, 4),
            st.integers(0, 3),
        ),
        st.builds(
            lambda side, start, tid, ms: fill(side, startPosition=start, tid=tid, time=THEN * 1000 + ms),
            st.sampled_from("AB"),
            st.sampled_from(["0.0", "2.0", "-1.5"]),
            st.integers(1, 6),
            st.integers(0, 3),
        ),
        st.builds(
            lambda size, ms: account(("BTC", size), time_ms=THEN * 1000 + ms),
            st.sampled_from(["1", "-2"]),
            st.integers(0, 3),
        ),
        st.builds(
            lambda side, tx, number: activity(side=side, transactionHash="0x" + tx * 32, number=number),
            st.sampled_from(["BUY", "SELL"]),
            st.sampled_from(["0c", "0d"]),
            st.integers(0, 1),
        ),
        st.builds(
            lambda side, tx, block, index, removed: chain(
                side, transactionHash="0x" + tx * 32, block=block, index=index, removed=removed
            ),
            st.sampled_from(["BUY", "SELL"]),
            st.sampled_from(["0c", "0d"]),
            st.sampled_from(["0b", "0e"]),
            st.integers(1, 2),
            st.booleans(),
        ),
        st.builds(
            lambda kind, size: moved(kind, size, size),
            st.sampled_from(["SPLIT", "MERGE", "REDEEM", "CONVERSION"]),
            st.integers(1, 3),
        ),
        st.builds(
            lambda yes, as_of: positions((YES, yes), (NO, 3), as_of=as_of),
            st.integers(0, 20),
            st.integers(THEN - 1, THEN + 1),
        ),
        st.sampled_from([market(), moved("REWARD", 1, 1), trade(px="junk"), activity(size=0)]),
    ),
    max_size=16,
)


def folded(happened: list[RawReceived], processed: list[RawReceived] | None = None) -> Folding[Known]:
    """A lane after these events; unprocessable ones are skipped, as in the processor."""
    lane: Folding[Known] = folding()
    for event in happened:
        try:
            lane.when(event)
        except UnprocessableError:
            continue
        if processed is not None:
            processed.append(event)
    return lane


@settings(derandomize=True, deadline=None, max_examples=100)
@given(happenings, st.integers(1, 20))
def test_the_outputs_alone_are_the_whole_state(happened: list[RawReceived], snapshot_at: int) -> None:
    lane = folded(happened)
    assert lane.replayed().state == lane.state
    assert lane.replayed(snapshot_at=snapshot_at).state == lane.state
    assert lane.stage.restore(lane.stage.dump(lane.state), None) == lane.state  # type: ignore[arg-type]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(happenings)
def test_duplicates_change_no_position(happened: list[RawReceived]) -> None:
    """An unprocessable event may be processed the second time; a processed one is not."""
    processed: list[RawReceived] = []
    lane = folded(happened, processed)
    before = held(lane.state)
    again = folded([*happened, *processed])
    new = again.outputs[len(lane.outputs) :]
    assert held(again.state) == before
    assert {type(output.event) for output in new} <= {MarketDescribed, GapDetected}
    assert all(output.event.kind is GapKind.CONVERSION for output in new if isinstance(output.event, GapDetected))


def held(known: Known) -> dict[str, int]:
    accounts: list[Account] = list(known.accounts.values())
    return {asset: holding.share_micros for account in accounts for asset, holding in account.holdings.items()}


def test_a_snapshot_of_a_whole_account_comes_back() -> None:
    lane = folded(
        [account(("BTC", "5")), trade(), positions((YES, 10)), market(), chain(), activity(), chain(removed=True)]
    )
    known = lane.stage.restore(lane.stage.dump(lane.state), None)  # type: ignore[arg-type]
    assert known == lane.state
    assert known.markets == {(Venue.POLYMARKET, MARKET): (YES, NO)}
    assert known.accounts[Venue.HYPERLIQUID, ALICE].seeded_at == {"": (THEN - 1) * SECOND}
    assert NOW == THEN * SECOND + SECOND
