"""RAW -> SIGNALS: how each raw event changed an influencer's position."""

from collections.abc import Iterator
from datetime import UTC, datetime
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
from domain.venue_times import LONGEST_AHEAD_NS, is_ahead
from gateways.registry import ADAPTERS
from gateways.venue_errors import WireError
from gateways.venue_types import DecodedRaw
from streams import subjects
from streams.envelope import Recorded
from streams.errors import UnprocessableError
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import RAW, SIGNALS

_SECOND = 1_000_000_000


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
        case AccountSeeded():
            return (decoded, *influencer_account.shrunk_by(account, decoded))
        case None:
            return ()
    return (decoded,)


def _decoded(raw: RawReceived) -> DecodedRaw:
    """What a raw event holds. Raises UnprocessableError, also for a venue time that cannot be right."""
    try:
        decoded = ADAPTERS[raw.venue].decode_raw(raw)
    except WireError as error:
        raise UnprocessableError(str(error)) from error
    if decoded is None or isinstance(decoded, MarketDescribed):
        return decoded  # a description is dated by its detection
    if is_ahead(decoded.event_time, decoded.detect_time):
        raise UnprocessableError(
            f"the venue dates this {_time(decoded.event_time)}, but it was detected at {_time(decoded.detect_time)}; "
            f"at most {LONGEST_AHEAD_NS // _SECOND} s ahead are expected. Check this machine's clock; when it is "
            "right, the venue's time is wrong and the event can be dropped"
        )
    return decoded


def _time(ns: int) -> str:
    """A time as UTC and in ns; without UTC beyond the year 9999."""
    try:
        return f"{datetime.fromtimestamp(ns // _SECOND, UTC):%Y-%m-%dT%H:%M:%SZ} ({ns} ns)"
    except (ValueError, OverflowError, OSError):
        return f"{ns} ns"


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
