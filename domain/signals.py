"""From fills to signals: an influencer's position in one asset, folded trade by trade (DESIGN 6.2).

The fold is seeded by the venue's own account report; trades at or before the seed are already contained in
it. A trade that was seen before (feeds replay) changes nothing.
"""

from msgspec import Struct

from domain.events import (
    AccountSeeded,
    Action,
    PositionState,
    Side,
    SignalRecorded,
    TradeSide,
    Venue,
)
from domain.ids import derived
from domain.micros import MICRO

REMEMBERED = 256
"""Trades remembered per (influencer, asset) to recognise replays; older ones are known by their time."""


class Trade(Struct, frozen=True, kw_only=True):
    """One fill of an influencer, parsed from a raw event; sizes and prices in micros, times in ns."""

    source_event_id: str
    venue: Venue
    influencer_id: str
    address: str
    asset: str
    market: str
    trade_side: TradeSide
    share_micros: int
    price_micros: int
    notional_micros: int
    taker: bool
    event_time: int
    detect_time: int
    metadata: dict[str, str] = {}


class Holding(Struct):
    """What is known of one (influencer, asset): position, how sure, and the trades (time, id, delta) that led here."""

    share_micros: int = 0
    seeded_at: int | None = None
    leverage: int | None = None
    recent: list[tuple[int, str, int]] = []
    seen: set[str] = set()


def section_of(asset: str) -> str:
    """The section of an account that an asset belongs to: 'xyz' of 'xyz:SP500', '' of 'BTC'."""
    return asset.rpartition(":")[0]


def action_of(before: int, after: int) -> Action:
    """What going from one signed position to another means."""
    if before == 0:
        return Action.OPEN
    if after == 0:
        return Action.CLOSE
    if (before > 0) != (after > 0):
        return Action.FLIP
    return Action.INCREASE if abs(after) > abs(before) else Action.DECREASE


def side_of(position: int) -> Side:
    if position == 0:
        return Side.FLAT
    return Side.LONG if position > 0 else Side.SHORT


def risk_bucket(notional_micros: int) -> str:
    """SMALL below 10,000 USD, MEDIUM below 100,000 USD, LARGE from there."""
    dollars = notional_micros // MICRO
    return "SMALL" if dollars < 10_000 else "MEDIUM" if dollars < 100_000 else "LARGE"


def is_replay(holding: Holding, trade: Trade) -> bool:
    """True when this trade was folded before: its id is remembered, or it is older than all that is remembered."""
    if trade.source_event_id in holding.seen:
        return True
    return len(holding.recent) == REMEMBERED and trade.event_time < holding.recent[0][0]


def record(holding: Holding, trade: Trade) -> tuple[SignalRecorded, ...]:
    """The signal that a trade means, or nothing when it is a replay."""
    if is_replay(holding, trade):
        return ()
    delta = trade.share_micros * trade.trade_side.sign
    historic = holding.seeded_at is not None and trade.event_time <= holding.seeded_at
    # A historic trade is already inside the seed: shown as the step that led to it, never folded or copied.
    before = holding.share_micros - delta if historic else holding.share_micros
    after = before + delta
    if historic:
        state = PositionState.HISTORIC
    else:
        state = PositionState.ASSUMED if holding.seeded_at is None else PositionState.KNOWN
    return (
        SignalRecorded(
            signal_id=derived("sig", trade.source_event_id),
            influencer_id=trade.influencer_id,
            venue=trade.venue,
            address=trade.address,
            asset=trade.asset,
            market=trade.market,
            action=action_of(before, after),
            side=side_of(after),
            trade_side=trade.trade_side,
            before_micros=before,
            after_micros=after,
            delta_micros=delta,
            price_micros=trade.price_micros,
            notional_micros=trade.notional_micros,
            position_state=state,
            risk_bucket=risk_bucket(trade.notional_micros),
            taker=trade.taker,
            event_time=trade.event_time,
            detect_time=trade.detect_time,
            source_event_id=trade.source_event_id,
            leverage=holding.leverage,
            metadata=trade.metadata,
        ),
    )


class Account(Struct):
    """Every holding of one influencer's address, and when each section of the account was last seeded."""

    seeded_at: dict[str, int] = {}
    holdings: dict[str, Holding] = {}

    def holding(self, asset: str) -> Holding:
        found = self.holdings.get(asset)
        if found is None:
            # Flat as of the seed: a seeded section lists every open position.
            found = self.holdings[asset] = Holding(seeded_at=self.seeded_at.get(section_of(asset)))
        return found


def evolve(account: Account, event: object) -> None:
    """Fold one event of this account, in place: there are thousands of them, each many times a second."""
    match event:
        case SignalRecorded():
            holding = account.holding(event.asset)
            if len(holding.recent) == REMEMBERED:
                holding.seen.discard(holding.recent.pop(0)[1])
            holding.recent.append((event.event_time, event.source_event_id, event.delta_micros))
            holding.seen.add(event.source_event_id)
            if event.position_state is not PositionState.HISTORIC:
                holding.share_micros = event.after_micros
        case AccountSeeded():
            account.seeded_at[event.section] = event.event_time
            listed = {position.asset: position for position in event.positions}
            known = {asset for asset in account.holdings if section_of(asset) == event.section}
            for asset in known | listed.keys():
                holding, position = account.holding(asset), listed.get(asset)
                since = sum(delta for time, _, delta in holding.recent if time > event.event_time)
                holding.seeded_at = event.event_time
                holding.share_micros = (position.share_micros if position else 0) + since
                holding.leverage = position.leverage if position else None
