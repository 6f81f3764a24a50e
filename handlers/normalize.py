"""RAW -> SIGNALS: what each raw event changed in an influencer's position."""

from collections.abc import Iterator
from typing import Any

import msgspec

from domain import signals
from domain.events import AccountSeeded, RawReceived, SignalRecorded, Venue
from domain.ids import derived
from domain.signals import Account
from gateways.hyperliquid.wire import parse_account, parse_trade
from gateways.venue import WireError
from streams import subjects
from streams.envelope import Recorded
from streams.errors import UnprocessableError
from streams.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import RAW, SIGNALS

ACCOUNT_CHANNEL = "clearinghouseState"
TRADES_CHANNEL = "trades"
_ACCOUNT_TOKEN = "_account"

Accounts = dict[tuple[Venue, str], Account]
"""Every account of the lane's influencers by (venue, address)."""


class Normalize(Stage[Accounts]):
    name = "normalize"
    description = "turns raw venue events into signals"
    reads = RAW
    writes = SIGNALS
    input_patterns = ("raw.{}.>",)
    state_patterns = ("signals.{}.>",)
    input_types = frozenset({"raw.received"})
    schema = 1

    def initial(self, lane: Lane) -> Accounts:
        return {}

    def dump(self, state: Accounts) -> bytes:
        return msgspec.msgpack.encode(state)

    def restore(self, payload: bytes, lane: Lane) -> Accounts:
        return msgspec.msgpack.decode(payload, type=Accounts)

    def handle(self, state: Accounts, event: Recorded, now: int) -> Iterator[Output]:
        raw: RawReceived = event.data
        channel, _, section = raw.channel.partition("@")
        try:
            if channel == TRADES_CHANNEL:
                yield from _trade(state, raw)
            elif channel == ACCOUNT_CHANNEL:
                yield _account(raw, section)
            else:
                raise UnprocessableError(f"channel {raw.channel!r} of {raw.venue.value} is not understood")
        except WireError as error:
            raise UnprocessableError(str(error)) from error

    def evolve(self, state: Accounts, event: Any, sequence: int) -> None:
        signals.evolve(_account_of(state, event.venue, event.address), event)


def _account_of(state: Accounts, venue: Venue, address: str) -> Account:
    found = state.get((venue, address))
    if found is None:
        found = state[venue, address] = Account()
    return found


def _trade(state: Accounts, raw: RawReceived) -> Iterator[Output]:
    trade = parse_trade(
        bytes(raw.payload),
        source_event_id=raw.raw_id,
        influencer_id=raw.influencer_id,
        address=raw.address,
        detect_time=raw.detect_time,
    )
    holding = _account_of(state, raw.venue, raw.address).holding(trade.asset)
    for signal in signals.record(holding, trade):
        yield _signal_output(signal)


def _signal_output(signal: SignalRecorded) -> Output:
    subject = subjects.signals(signal.influencer_id, signal.venue.value, signal.asset)
    return Output(subject, signal, signal.signal_id, signal.source_event_id)


def _account(raw: RawReceived, section: str) -> Output:
    as_of, positions = parse_account(bytes(raw.payload))
    seeded = AccountSeeded(
        seed_id=derived("seed", raw.raw_id),
        influencer_id=raw.influencer_id,
        venue=raw.venue,
        address=raw.address,
        section=section,
        positions=positions,
        event_time=as_of,
        detect_time=raw.detect_time,
    )
    subject = subjects.signals(raw.influencer_id, raw.venue.value, _ACCOUNT_TOKEN)
    return Output(subject, seeded, seeded.seed_id, raw.raw_id)
