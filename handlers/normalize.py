"""RAW -> SIGNALS: how each raw event changed an influencer's position."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from domain import influencer_account, signals
from domain.events import (
    AccountSeeded,
    Event,
    FillObserved,
    GapDetected,
    MarketDescribed,
    RawReceived,
    SignalRecorded,
    Venue,
)
from domain.influencer_account import Account, Movement, UnclearError
from domain.signals import Trade
from gateways.registry import ADAPTERS
from gateways.venue_errors import WireError
from gateways.venue_types import DecodedRaw
from streams import subjects
from streams.envelope import Recorded
from streams.errors import UnprocessableError
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import RAW, SIGNALS


class Known(Struct):
    """A lane's accounts by (venue, address), and the assets of every market by (venue, market)."""

    accounts: dict[tuple[Venue, str], Account] = {}
    markets: dict[tuple[Venue, str], tuple[str, ...]] = {}


class Normalize(Stage[Known]):
    name = "normalize"
    description = "turns raw venue events into signals"
    reads = RAW
    writes = SIGNALS
    input_patterns = ("raw.{}.>",)
    state_patterns = ("signals.{}.>",)
    input_types = frozenset({"raw.received"})
    schema = 2

    def initial(self, lane: Lane) -> Known:
        return Known()

    def dump(self, state: Known) -> bytes:
        return msgspec.msgpack.encode(state)

    def restore(self, payload: bytes, lane: Lane) -> Known:
        return msgspec.msgpack.decode(payload, type=Known)

    def handle(self, state: Known, event: Recorded, now: int) -> Iterator[Output]:
        raw: RawReceived = event.data
        for found in _events(state, raw):
            yield _output(raw, found)

    def evolve(self, state: Known, event: Any, sequence: int) -> None:
        if isinstance(event, MarketDescribed):
            state.markets[event.venue, event.market] = tuple(outcome.asset for outcome in event.outcomes)
        else:
            influencer_account.evolve(state.accounts.setdefault((event.venue, event.address), Account()), event)


def _events(state: Known, raw: RawReceived) -> tuple[Event, ...]:
    decoded = _decoded(raw)
    account = state.accounts.get((raw.venue, raw.address), Account())
    match decoded:
        case Trade():
            if not decoded.market:
                decoded = msgspec.structs.replace(decoded, market=account.market_of(decoded.asset))
            return signals.record(account.holding(decoded.asset), decoded, account.equity_micros)
        case Movement():
            try:
                return influencer_account.move(account, decoded, state.markets.get((decoded.venue, decoded.market), ()))
            except UnclearError as error:
                raise UnprocessableError(f"{error}; the venue's next account snapshot corrects the position") from error
        case AccountSeeded() if influencer_account.is_stale(account, decoded):
            return ()
        case None:
            return ()
    return (decoded,)


def _decoded(raw: RawReceived) -> DecodedRaw:
    try:
        return ADAPTERS[raw.venue].decode_raw(raw)
    except WireError as error:
        raise UnprocessableError(str(error)) from error


def _output(raw: RawReceived, event: Event) -> Output:
    influencer, venue = raw.influencer_id, raw.venue.value
    match event:
        case SignalRecorded():
            return Output(subjects.signals(influencer, venue, event.asset), event, event.signal_id, raw.raw_id)
        case FillObserved():
            event_id = f"{raw.raw_id}.observed"
            return Output(subjects.signals(influencer, venue, event.asset), event, event_id, raw.raw_id)
        case GapDetected():
            return Output(subjects.signals(influencer, venue, subjects.GAP_TOKEN), event, event.gap_id, raw.raw_id)
        case AccountSeeded():
            return Output(subjects.signals(influencer, venue, subjects.ACCOUNT_TOKEN), event, event.seed_id, raw.raw_id)
        case MarketDescribed():
            event_id = f"{event.description_id}@{raw.raw_id}"
            return Output(subjects.signals(influencer, venue, subjects.MARKET_TOKEN), event, event_id, raw.raw_id)
    raise TypeError(f"{type(event).__name__} is not written by normalize")
