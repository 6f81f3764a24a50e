"""Stages as pure folds: events in, outputs out, no log."""

import itertools
from collections.abc import Iterable
from typing import Any, Generic, TypeVar, cast

import msgspec
from msgspec import Raw

from domain.configuration import Configuration
from domain.events import Event, ExecutionRequested, RawReceived, TradeSide, Venue
from domain.requests import own_part, shared_part
from gateways.hyperliquid.parsing import TradeHead, raw_id
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from handlers.live.mark_prices import LiveMarkPrices
from handlers.services.config_file import parse
from handlers.services.config_import import changes
from streams.connection import Connection
from streams.envelope import Recorded
from streams.processing.stage import Output, Stage
from streams.subjects import Lane

S = TypeVar("S")

CODEC = codec()
SECOND = 1_000_000_000
NOW = 1_795_000_000 * SECOND
ALICE, BOB = "0x" + "a1" * 20, "0x" + "b2" * 20


def recorded(event: Event, sequence: int = 1, *, stream: str = "RAW") -> Recorded:
    """An event as it is read from the log."""
    payload = CODEC.encode(event, id=f"id.{sequence}", source="tests", time_ns=NOW)
    return CODEC.decode(stream, sequence, "a.subject", payload)[0]


def request_payload(*requests: ExecutionRequested) -> bytes:
    """The commit of requests for one group, as match stores it."""
    own = [(request.request_id, own_part(request)) for request in requests]
    return CODEC.encode_commit([("shared", shared_part(requests[0])), *own], source="tests", time_ns=NOW)


def requested(request: ExecutionRequested, sequence: int = 1, *, stream: str = "RAW") -> Recorded:
    """A request as it is read from the log."""
    return CODEC.decode(stream, sequence, "a.subject", request_payload(request))[1]


class Folding(Generic[S]):
    """One lane of a stage, folded in memory. `log` is the output stream: its own events and those of others."""

    def __init__(self, stage: Stage[S]) -> None:
        self.stage = stage
        self.state = stage.initial(Lane(0, 63))
        self.outputs: list[Output] = []
        self.log: list[tuple[int, Event]] = []
        self._sequences = itertools.count(1)

    def given(self, *events: Event, sequence: int = 0) -> "Folding[S]":
        """Events that are stored in the output stream."""
        for event in events:
            place = sequence or next(self._sequences)
            self.log.append((place, event))
            self.stage.evolve(self.state, event, place)
        return self

    def when(self, event: Event | ExecutionRequested, *, sequence: int = 1, now: int = NOW) -> list[Any]:
        """The events that an input leads to, folded as the processor does; stored right away."""
        found = requested(event, sequence) if isinstance(event, ExecutionRequested) else recorded(event, sequence)
        outputs = list(self.stage.handle(self.state, found, now))
        return self._folded(outputs)

    def when_time_passes(self, now: int) -> list[Any]:
        return self._folded(list(self.stage.tick(self.state, now)))

    def _folded(self, outputs: Iterable[Output]) -> list[Any]:
        outputs = list(outputs)
        for output in outputs:
            self.stage.evolve(self.state, output.event, 0)
        for output in outputs:
            place = next(self._sequences)
            self.log.append((place, cast(Event, output.event)))
            self.stage.stored(self.state, output, place)
        self.outputs += outputs
        return [output.event for output in outputs]

    def from_snapshot(self, state: S) -> S:
        """What a snapshot keeps of a state of this lane."""
        stage = self.stage
        if not stage.saved_in_parts:
            return stage.restore(stage.dump(state), Lane(0, 63))
        names = {stage.part_of(output.subject) for output in self.outputs}
        return stage.restore_parts({name: stage.dump_part(state, name) for name in sorted(names)}, Lane(0, 63))

    def replayed(self, *, snapshot_at: int = 0) -> "Folding[S]":
        """The same lane after a restart: a fresh state, or that of a snapshot after so many events, and the log."""
        again = Folding(self.stage)
        for number, (sequence, event) in enumerate(self.log):
            if snapshot_at and number == snapshot_at:
                again.state = self.from_snapshot(again.state)
            stored = recorded(event, sequence)
            again.stage.evolve(again.state, stored.data, sequence)
        if snapshot_at and snapshot_at >= len(self.log):
            again.state = self.from_snapshot(again.state)
        return again


def trade(
    address: str = ALICE, side: str = "B", *, influencer: str = "alice", detect_time: int = NOW, **fields: Any
) -> RawReceived:
    """A raw trade whose aggressor is `address`, on the given side, against Bob."""
    users = (address, BOB) if side == "B" else (BOB, address)
    wire: dict[str, Any] = {
        "coin": "BTC",
        "side": side,
        "px": "100.5",
        "sz": "2.0",
        "time": 1_794_999_999_000,
        "hash": "0x12",
        "tid": 1,
        "users": users,
    } | fields
    head = TradeHead(wire["coin"], side, int(wire["time"]), int(wire["tid"]), users)
    return RawReceived(
        raw_id=raw_id(head, address, TradeSide.BUY if side == "B" else TradeSide.SELL),
        venue=Venue.HYPERLIQUID,
        channel="trades",
        influencer_id=influencer,
        address=address,
        payload=Raw(msgspec.json.encode(wire)),
        detect_time=detect_time,
    )


def account(
    *positions: tuple[str, str], time_ms: int = 1_794_999_998_000, section: str = "", worth: str | None = None
) -> RawReceived:
    """A raw account report of Alice, every position entered at 90."""
    held = [
        {"position": {"coin": coin, "szi": size, "leverage": {"value": 5}, "entryPx": "90.0"}}
        for coin, size in positions
    ]
    margin = {} if worth is None else {"marginSummary": {"accountValue": worth}}
    return RawReceived(
        raw_id=f"hl:account:{section}:{ALICE}:{time_ms}",
        venue=Venue.HYPERLIQUID,
        channel=f"clearinghouseState@{section}" if section else "clearinghouseState",
        influencer_id="alice",
        address=ALICE,
        payload=Raw(msgspec.json.encode({"assetPositions": held, "time": time_ms} | margin)),
        detect_time=NOW,
    )


LINES = [
    '{"kind":"guardrail","scope":"global","values":{"max_signal_age_ms":600000,"max_quote_age_ms":0,'
    '"market_exposure_micros":500000}}',
    f'{{"kind":"influencer","id":"alice","venue":"hyperliquid","addresses":["{ALICE}"]}}',
    '{"kind":"subscriber","id":"ann","deposit_usd":"10000"}',
    '{"kind":"subscriber","id":"ben","deposit_usd":"10000","status":"paused"}',
    '{"kind":"subscription","id":"ann-alice","subscriber_id":"ann","influencer_id":"alice",'
    '"sizing":{"mode":"copy_percent","percent":"10"}}',
    '{"kind":"subscription","id":"ben-alice","subscriber_id":"ben","influencer_id":"alice",'
    '"sizing":{"mode":"fixed_notional","notional_usd":"50"}}',
]


def valued(*events: Event) -> LiveMarkPrices:
    """Mark prices with these events, under sequences 10, 20, 30, ..., that follow no log."""
    valuation = LiveMarkPrices(cast(Connection, None), CODEC)
    for number, event in enumerate(events, 1):
        valuation.marks.evolve(event, number * 10)
    return valuation


def configured(
    lines: Iterable[str] = LINES, *, sequence: int = 10, at: int = NOW - 100 * SECOND, bankroll_micros: int = 0
) -> LiveConfiguration:
    """A configuration made of these lines that follows no log; influencers have portfolios with a bankroll."""
    configuration = LiveConfiguration(cast(Connection, None), CODEC)
    directory = Configuration()
    events, bad = parse(lines, directory, "tests")
    assert not bad
    for event in changes(Configuration(), events, at, bankroll_micros):
        directory.evolve(event, at)
    configuration.directory, configuration.sequence = directory, sequence
    return configuration
