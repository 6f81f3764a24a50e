"""RAW -> SIGNALS, as a fold."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from domain.events import AccountSeeded, Action, PositionState, RawReceived, SeededPosition, SignalRecorded, Venue
from domain.ids import derived
from handlers.normalize import Normalize
from streams import subjects
from streams.errors import UnprocessableError
from tests.handlers.folding import ALICE, BOB, NOW, Folding, account, trade


def folding() -> Folding[Any]:
    return Folding(Normalize())


def steps(signals: list[SignalRecorded]) -> list[tuple[Action, int, int, PositionState]]:
    return [(signal.action, signal.before_micros, signal.after_micros, signal.position_state) for signal in signals]


def test_a_trade_becomes_one_signal_with_everything_it_says() -> None:
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


def test_an_account_report_seeds_the_position() -> None:
    lane = folding()
    (seeded,) = lane.when(account(("BTC", "-3.5"), ("ETH", "1")))
    assert isinstance(seeded, AccountSeeded)
    assert seeded.positions == (SeededPosition("BTC", -3_500_000, 5), SeededPosition("ETH", 1_000_000, 5))
    assert lane.outputs[0].subject == subjects.signals("alice", "hyperliquid", "_account")
    (signal,) = lane.when(trade(sz="1"))
    assert steps([signal]) == [(Action.DECREASE, -3_500_000, -2_500_000, PositionState.KNOWN)]
    assert signal.leverage == 5
    (flat,) = lane.when(trade(coin="SOL", sz="1", tid=2))
    assert steps([flat]) == [(Action.OPEN, 0, 1_000_000, PositionState.KNOWN)], "what is not listed is flat"


def test_a_section_seeds_its_own_assets_only() -> None:
    lane = folding()
    lane.when(account(("xyz:GOLD", "2"), section="xyz"))
    (gold,) = lane.when(trade(coin="xyz:GOLD", sz="1", tid=1))
    (bitcoin,) = lane.when(trade(coin="BTC", sz="1", tid=2))
    assert (gold.position_state, bitcoin.position_state) == (PositionState.KNOWN, PositionState.ASSUMED)
    assert gold.before_micros == 2_000_000


def test_a_trade_before_the_report_is_history() -> None:
    lane = folding()
    lane.when(account(("BTC", "5"), time_ms=1_794_999_999_500))
    (old,) = lane.when(trade(sz="1", time=1_794_999_999_500))
    assert steps([old]) == [(Action.INCREASE, 4_000_000, 5_000_000, PositionState.HISTORIC)]
    (new,) = lane.when(trade(sz="1", tid=2, time=1_794_999_999_501))
    assert steps([new]) == [(Action.INCREASE, 5_000_000, 6_000_000, PositionState.KNOWN)]


def test_a_trade_that_was_seen_means_nothing() -> None:
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
def test_a_trade_that_cannot_be_understood(fields: dict[str, Any], why: str) -> None:
    raw = trade()
    wire = msgspec.json.decode(raw.payload) | fields
    lane = folding()
    with pytest.raises(UnprocessableError, match=why):
        lane.when(msgspec.structs.replace(raw, payload=Raw(msgspec.json.encode(wire))))
    assert len(lane.when(trade())) == 1, "and it leaves no trace"


@pytest.mark.parametrize("channel", ["userFills", "", "trades.x", "l2Book@xyz"])
def test_an_unknown_channel(channel: str) -> None:
    with pytest.raises(UnprocessableError, match="is not understood"):
        folding().when(msgspec.structs.replace(trade(), channel=channel))


@pytest.mark.parametrize(
    "payload", [b"[]", b"null", b'{"time":1}', b'{"assetPositions":[{"position":{"coin":"BTC","szi":"x"}}],"time":1}']
)
def test_an_account_report_that_cannot_be_understood(payload: bytes) -> None:
    raw: RawReceived = msgspec.structs.replace(account(), payload=Raw(payload))
    with pytest.raises(UnprocessableError, match=r"not an account report|not a plain decimal"):
        folding().when(raw)
