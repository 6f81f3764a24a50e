"""RAW -> SIGNALS: how each raw event changed an influencer's position.

Positions are folded for each address; a signal also states what the influencer's other addresses hold.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from domain import influencer_account, signals
from domain.events import (
    AccountModeStated,
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
from domain.whole_positions import other_addresses, whole_equity, with_others
from gateways.registry import ADAPTERS
from gateways.venue_errors import WireError
from gateways.venue_types import DecodedRaw
from handlers.live.configuration import LiveConfiguration
from streams import subjects
from streams.envelope import Recorded
from streams.errors import UnprocessableError
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import RAW, SIGNALS

_SECOND = 1_000_000_000


class Known(Struct):
    """A lane's accounts by (venue, address), the assets of every market by (venue, market), and the addresses of every
    influencer, by (venue, influencer), that events named, in the order in which they did."""

    accounts: dict[tuple[Venue, str], Account] = {}
    markets: dict[tuple[Venue, str], tuple[str, ...]] = {}
    addresses: dict[tuple[Venue, str], list[str]] = {}


class Normalize(Stage[Known]):
    name = "normalize"
    description = "turns raw venue events into signals"
    reads = RAW
    writes = SIGNALS
    input_patterns = ("raw.{}.>",)
    state_patterns = ("signals.{}.>",)
    input_types = frozenset({"raw.received"})
    schema = 3

    def __init__(self, configuration: LiveConfiguration) -> None:
        self._configuration = configuration

    def config_sequence(self) -> int:
        return self._configuration.sequence

    async def config_reached(self, sequence: int) -> None:
        await self._configuration.reached(sequence)

    def initial(self, lane: Lane) -> Known:
        return Known()

    def dump(self, state: Known) -> bytes:
        return msgspec.msgpack.encode(state)

    def restore(self, payload: bytes, lane: Lane) -> Known:
        return msgspec.msgpack.decode(payload, type=Known)

    def handle(self, state: Known, event: Recorded, now: int) -> Iterator[Output]:
        raw: RawReceived = event.data
        others = self._others(state, raw)
        for found in with_others(_events(state, raw, others), others) if others else _events(state, raw, others):
            yield _output(raw, found)

    def _others(self, state: Known, raw: RawReceived) -> dict[str, Account]:
        """The accounts of the influencer's other addresses."""
        seen = state.addresses.get((raw.venue, raw.influencer_id), [])
        if not seen or seen == [raw.address]:
            return {}
        configured = self._configuration.directory.influencers.get(raw.influencer_id)
        chosen = other_addresses(raw.address, seen, configured.addresses if configured is not None else ())
        return {address: state.accounts[raw.venue, address] for address in chosen}

    def evolve(self, state: Known, event: Any, sequence: int) -> None:
        if isinstance(event, MarketDescribed):
            state.markets[event.venue, event.market] = tuple(outcome.asset for outcome in event.outcomes)
        else:
            influencer_account.evolve(state.accounts.setdefault((event.venue, event.address), Account()), event)
            addresses = state.addresses.setdefault((event.venue, event.influencer_id), [])
            if event.address not in addresses:
                addresses.append(event.address)


def _events(state: Known, raw: RawReceived, others: dict[str, Account]) -> tuple[Event, ...]:
    decoded = _decoded(raw)
    account = state.accounts.get((raw.venue, raw.address), Account())
    match decoded:
        case Trade():
            if not decoded.market:
                decoded = msgspec.structs.replace(decoded, market=account.market_of(decoded.asset))
            equity = whole_equity((account, *others.values())) if others else account.equity_micros
            return signals.record(account.holding(decoded.asset), decoded, equity)
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
        case AccountModeStated():
            event_id = f"{raw.raw_id}.mode"
            return Output(subjects.signals(influencer, venue, subjects.ACCOUNT_TOKEN), event, event_id, raw.raw_id)
        case AccountSeeded():
            return Output(subjects.signals(influencer, venue, subjects.ACCOUNT_TOKEN), event, event.seed_id, raw.raw_id)
        case MarketDescribed():
            event_id = f"{event.description_id}@{raw.raw_id}"
            return Output(subjects.signals(influencer, venue, subjects.MARKET_TOKEN), event, event_id, raw.raw_id)
    raise TypeError(f"{type(event).__name__} is not written by normalize")
