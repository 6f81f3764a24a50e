"""What an influencer does, and the books that a venue shows."""

from typing import Any

from msgspec import structs

from domain.events import (
    AccountSeeded,
    GroupClosed,
    Level,
    PositionState,
    QuoteCaptured,
    QuoteFailed,
    SeededPosition,
    SignalGrouped,
    SignalRecorded,
    TradeSide,
    Venue,
)
from domain.micros import micros, times
from domain.reason_codes import Reason
from domain.signals import Trade, action_of, side_of
from tests.domain.facts.values import ANN, BUY, SELL, at, levels


def trade(
    id: str = "t1", side: TradeSide = BUY, size: str = "1", price: str = "100", *, ms: int = 0, **changes: Any
) -> Trade:
    share, cost = micros(size), micros(price)
    made = Trade(
        source_event_id=id,
        venue=Venue.HYPERLIQUID,
        influencer_id="ann",
        address=ANN,
        asset="BTC",
        market="BTC",
        trade_side=side,
        share_micros=share,
        price_micros=cost,
        notional_micros=times(cost, share),
        taker=True,
        event_time=at(ms),
        detect_time=at(ms + 40),
    )
    return structs.replace(made, **changes)


def seeded(*positions: tuple[str, str], ms: int = 0, section: str = "", leverage: int | None = None) -> AccountSeeded:
    return AccountSeeded(
        seed_id=f"seed@{ms}",
        influencer_id="ann",
        venue=Venue.HYPERLIQUID,
        address=ANN,
        section=section,
        positions=tuple(SeededPosition(asset, micros(size), leverage) for asset, size in positions),
        event_time=at(ms),
        detect_time=at(ms + 40),
    )


def signal(
    id: str = "s1",
    side: TradeSide = BUY,
    size: str = "1",
    price: str = "100",
    *,
    before: str = "0",
    ms: int = 0,
    **changes: Any,
) -> SignalRecorded:
    share, cost, start = micros(size), micros(price), micros(before)
    after = start + share * side.sign
    made = SignalRecorded(
        signal_id=id,
        influencer_id="ann",
        venue=Venue.HYPERLIQUID,
        address=ANN,
        asset="BTC",
        market="BTC",
        action=action_of(start, after),
        side=side_of(after),
        trade_side=side,
        before_micros=start,
        after_micros=after,
        delta_micros=after - start,
        price_micros=cost,
        notional_micros=times(cost, share),
        position_state=PositionState.KNOWN,
        risk_bucket="SMALL",
        taker=True,
        event_time=at(ms),
        detect_time=at(ms + 40),
        source_event_id=f"trade of {id}",
    )
    return structs.replace(made, **changes)


def grouped(signal: SignalRecorded, sequence: int, *, group: str, closes_ms: int) -> SignalGrouped:
    return SignalGrouped(
        group_id=group,
        signal_id=signal.signal_id,
        signal_sequence=sequence,
        influencer_id=signal.influencer_id,
        venue=signal.venue,
        address=signal.address,
        asset=signal.asset,
        market=signal.market,
        trade_side=signal.trade_side,
        before_micros=signal.before_micros,
        after_micros=signal.after_micros,
        delta_micros=signal.delta_micros,
        notional_micros=signal.notional_micros,
        leverage=signal.leverage,
        event_time=signal.event_time,
        detect_time=signal.detect_time,
        closes_at=at(closes_ms),
    )


def group_closed(
    *, before: str = "0", after: str = "1", price: str = "100", ms: int = 0, asset: str = "BTC", **changes: Any
) -> GroupClosed:
    start, end, cost = micros(before), micros(after), micros(price)
    made = GroupClosed(
        group_id="grp-1",
        influencer_id="ann",
        venue=Venue.HYPERLIQUID,
        address=ANN,
        asset=asset,
        market=asset,
        action=action_of(start, end),
        side=side_of(end),
        trade_side=BUY if end > start else SELL,
        before_micros=start,
        after_micros=end,
        delta_micros=end - start,
        notional_micros=times(cost, abs(end - start)),
        price_micros=cost,
        leverage=None,
        signal_ids=("s1",),
        signal_sequences=(1,),
        event_time=at(ms),
        last_event_time=at(ms),
        detect_time=at(ms + 40),
        closed_at=at(ms + 290),
    )
    return structs.replace(made, **changes)


BIDS = levels("99.95 x 5", "99.90 x 10", "99.80 x 20")
ASKS = levels("100.05 x 5", "100.10 x 10", "100.20 x 20")


def captured(
    group: GroupClosed | None = None,
    *,
    bids: tuple[Level, ...] = BIDS,
    asks: tuple[Level, ...] = ASKS,
    lot: str = "0.001",
) -> QuoteCaptured:
    return QuoteCaptured(
        quote_id="quo-1",
        group=group or group_closed(),
        bids=bids,
        asks=asks,
        size_step_micros=micros(lot),
        venue_time=at(900),
        captured_at=at(910),
    )


def no_quote(reason: Reason, group: GroupClosed | None = None) -> QuoteFailed:
    return QuoteFailed(
        quote_id="quo-1", group=group or group_closed(), reason=reason, detail="no book", failed_at=at(910)
    )
