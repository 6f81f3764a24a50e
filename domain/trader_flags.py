"""Flags: warnings about a trader's record that are shown beside its score and change no score."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import pairwise
from statistics import median_low

from domain.micros import MICRO
from domain.trader_record import DAY, SECOND, Record


class Flag(StrEnum):
    """A warning beside a score; it changes no score."""

    TAIL = "tail"
    AVERAGING_DOWN = "averaging_down"
    CONCENTRATED = "concentrated"
    ONE_MARKET = "one_market"
    HFT = "hft"
    HIDDEN_LOSS = "hidden_loss"
    NEW_WALLET = "new_wallet"
    SIZE_JUMP = "size_jump"
    WASH_SUSPICION = "wash_suspicion"


def _tail(record: Record, _now: int) -> bool:
    wins = [trip.net_micros for trip in record.trips if trip.net_micros > 0]
    return bool(wins) and -min(trip.net_micros for trip in record.trips) > 5 * median_low(wins)


def _averaging_down(record: Record, _now: int) -> bool:
    return 2 * sum(trip.averaged_down for trip in record.trips) > len(record.trips)


def _concentrated(record: Record, _now: int) -> bool:
    total = sum(trip.net_micros for trip in record.trips)
    return total > 0 and 2 * max(trip.net_micros for trip in record.trips) > total


def _one_market(record: Record, _now: int) -> bool:
    return len(record.trips) > 1 and len({trip.asset for trip in record.trips}) == 1


def _hft(record: Record, _now: int) -> bool:
    return bool(record.trips) and median_low([trip.ended - trip.opened for trip in record.trips]) < 60 * SECOND


def _hidden_loss(record: Record, _now: int) -> bool:
    realized = sum(trip.net_micros for trip in record.trips)
    return record.unrealized_micros is not None and -2 * record.unrealized_micros > max(realized, 0)


def _new_wallet(record: Record, now: int) -> bool:
    return record.first_seen is not None and now - record.first_seen < 60 * DAY


def _size_jump(record: Record, _now: int) -> bool:
    """A deposit that made the equity five times what it was."""
    return any(
        before.equity_micros > 0 and after.flow_micros >= 4 * before.equity_micros
        for before, after in pairwise(record.equity)
    )


def _wash_suspicion(record: Record, _now: int) -> bool:
    return record.self_traded_micros is not None and record.self_traded_micros > MICRO // 5


FLAGS: Mapping[Flag, Callable[[Record, int], bool]] = {
    Flag.TAIL: _tail,
    Flag.AVERAGING_DOWN: _averaging_down,
    Flag.CONCENTRATED: _concentrated,
    Flag.ONE_MARKET: _one_market,
    Flag.HFT: _hft,
    Flag.HIDDEN_LOSS: _hidden_loss,
    Flag.NEW_WALLET: _new_wallet,
    Flag.SIZE_JUMP: _size_jump,
    Flag.WASH_SUSPICION: _wash_suspicion,
}
