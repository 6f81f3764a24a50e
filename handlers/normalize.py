"""RAW -> SIGNALS: what each raw event changed in an influencer's position."""

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
from handlers.ingest.gap_subscription import GAP_TOKEN
from streams import subjects
from streams.envelope import Recorded
from streams.errors import UnprocessableError
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import RAW, SIGNALS

ACCOUNT_TOKEN, MARKET_TOKEN = "_account", "_market"
"""Stand for the asset in the subjects of what concerns a whole account or market."""


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
    said = _decoded(raw)
    account = state.accounts.get((raw.venue, raw.address), Account())
    match said:
        case Trade():
            if not said.market:
                said = msgspec.structs.replace(said, market=account.market_of(said.asset))
            return signals.record(account.holding(said.asset), said, account.equity_micros)
        case Movement():
            try:
                return influencer_account.move(account, said, state.markets.get((said.venue, said.market), ()))
            except UnclearError as error:
                raise UnprocessableError(f"{error}; the position follows the venue's next report") from error
        case AccountSeeded() if influencer_account.is_stale(account, said):
            return ()
        case None:
            return ()
    return (said,)


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
            return Output(subjects.signals(influencer, venue, GAP_TOKEN), event, event.gap_id, raw.raw_id)
        case AccountSeeded():
            return Output(subjects.signals(influencer, venue, ACCOUNT_TOKEN), event, event.seed_id, raw.raw_id)
        case MarketDescribed():
            event_id = f"{event.description_id}@{raw.raw_id}"
            return Output(subjects.signals(influencer, venue, MARKET_TOKEN), event, event_id, raw.raw_id)
    raise TypeError(f"{type(event).__name__} is not written by normalize")
