"""From fills to signals: an influencer's position in one asset, folded trade by trade (docs/design.md, signals).

Account snapshots seed the fold; trades at or before a snapshot are contained in it. A trade that was processed before
(feeds replay) changes nothing. Where a fill states the position before it, the fold follows the venue: a disagreement
is a gap. Two sources may report one economic fill: it makes one signal, and the second report is an observation. A
report that is taken back, and that no other source confirms, makes a compensating signal.
"""

from bisect import insort

from msgspec import Struct, field
from msgspec.structs import replace

from domain.events import (
    Action,
    Event,
    FillObserved,
    GapDetected,
    GapKind,
    PositionState,
    Side,
    SignalRecorded,
    TradeSide,
    Venue,
)
from domain.ids import derived
from domain.micros import MICRO
from domain.venues import VENUES

REMEMBERED = 256
"""Trades remembered per (influencer, asset) to recognise replays; older ones are known by their time."""
REMOVED = ":removed"
"""How the id of a removal ends; before it is the id of the report that is taken back."""
FILL, REVERTS = "fill", "reverts"
"""Keys of a signal's metadata: its economic fill, and the signal that it takes back."""


class Trade(Struct, frozen=True, kw_only=True):
    """One fill of an influencer, parsed from a raw event; sizes and prices in micros, times in ns.

    `start_micros` is the signed position before the fill, where the venue states it. `fill_key` names, without its
    size, the economic fill when several sources report it; `removed` takes such a report back. `twin_id` is the id of
    the other side of the same trade: in a self-trade the venue states the same position before for both sides.
    """

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
    start_micros: int | None = None
    fee_micros: int | None = None
    order_type: str | None = None
    fill_key: str | None = None
    removed: bool = False
    twin_id: str | None = None


class Reported(Struct):
    """How often each source reported one economic fill, how many signals it has, and the newest of them.

    `made` counts all signals ever made of it, including those that took others back.
    """

    by_source: dict[str, int] = {}
    signals: int = 0
    made: int = 0
    signal_id: str = ""


class Holding(Struct):
    """What is known of one (influencer, asset): position, how sure, and the trades (time, id, delta) that led here.

    `recent` is in order of time; `forgotten` is the time up to which trades may have been dropped from it.
    """

    share_micros: int = 0
    seeded_at: int | None = None
    leverage: int | None = None
    recent: list[tuple[int, str, int]] = []
    processed: set[str] = field(default_factory=set, name="seen")
    forgotten: int = 0
    fills: dict[str, Reported] = {}
    market: str = ""

    @property
    def newest(self) -> int:
        """The time of the newest trade, ns; 0 when there was none."""
        return self.recent[-1][0] if self.recent else 0

    def remember(self, time: int, event_id: str, delta: int) -> None:
        """Keep a trade; beyond `REMEMBERED` the oldest go, all of one time together."""
        insort(self.recent, (time, event_id, delta))
        self.processed.add(event_id)
        while len(self.recent) > REMEMBERED and self.recent[0][0] < self.recent[-1][0]:
            self.forgotten = self.recent[0][0]
            while self.recent[0][0] == self.forgotten:
                self.processed.discard(self.recent.pop(0)[1])
        while len(self.fills) > 2 * max(REMEMBERED, len(self.recent)):
            del self.fills[next(iter(self.fills))]


def action_of(before: int, after: int) -> Action:
    """The action that leads from one signed position to another."""
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


def source_of(source_event_id: str) -> str:
    """The source that reported an event: what its id begins with, such as 'hl', 'pm' or 'pm-log'."""
    return source_event_id.partition(":")[0]


def is_replay(holding: Holding, trade: Trade) -> bool:
    """True when this trade was folded before: its id is remembered, or it is older than all that is remembered."""
    return trade.source_event_id in holding.processed or trade.event_time <= holding.forgotten


def record(holding: Holding, trade: Trade, equity_micros: int | None = None) -> tuple[Event, ...]:
    """The events of a trade: a signal, before it the gap that it reveals, or an observation; none for a replay."""
    if is_replay(holding, trade):
        return ()
    if trade.fill_key is not None:
        trade = replace(trade, fill_key=_fill_of(holding, trade))
        reported = holding.fills.get(trade.fill_key or "", Reported())
        source = source_of(trade.source_event_id)
        count = reported.by_source.get(source, 0) + counts(holding, trade.source_event_id)
        real = max((reported.by_source | {source: count}).values())
        if real == reported.signals:
            return (_observed(trade, reported),)
        if real < reported.signals:
            return signals_of(holding, _reversed(trade, reported), equity_micros)
    return signals_of(holding, trade, equity_micros)


def counts(holding: Holding, source_event_id: str) -> int:
    """What a report adds to the count of its fill: 1, or -1 when it takes back one that was processed.

    0 for a removal that arrives before its report, and for that report.
    """
    original = source_event_id.removesuffix(REMOVED)
    if original != source_event_id:
        return -1 if original in holding.processed else 0
    return 0 if original + REMOVED in holding.processed else 1


def _fill_of(holding: Holding, trade: Trade) -> str:
    """The fill that a trade reports, under the size that came first: sources differ by a micro of rounding."""
    keys = [f"{trade.fill_key}:{trade.share_micros + apart}" for apart in (0, 1, -1)]
    source = source_of(trade.source_event_id)
    for key in keys:
        reported = holding.fills.get(key)
        if reported is not None:
            own = reported.by_source.get(source, 0)
            if own > 0 if trade.removed else own < reported.signals:
                return key
    return keys[0]


def _reversed(trade: Trade, reported: Reported) -> Trade:
    """The trade that takes back what was reported, at the same price."""
    other = TradeSide.SELL if trade.trade_side is TradeSide.BUY else TradeSide.BUY
    metadata = {**trade.metadata, REVERTS: reported.signal_id}
    fee = None if trade.fee_micros is None else -trade.fee_micros
    return replace(trade, trade_side=other, fee_micros=fee, metadata=metadata)


def _observed(trade: Trade, reported: Reported) -> FillObserved:
    assert trade.fill_key is not None
    return FillObserved(
        source_event_id=trade.source_event_id,
        fill_key=trade.fill_key,
        signal_id=reported.signal_id,
        influencer_id=trade.influencer_id,
        venue=trade.venue,
        address=trade.address,
        asset=trade.asset,
        market=trade.market,
        event_time=trade.event_time,
        detect_time=trade.detect_time,
    )


def signals_of(holding: Holding, trade: Trade, equity_micros: int | None) -> tuple[Event, ...]:
    """The signal of a trade that is new, and before it the gap that it reveals."""
    delta = trade.share_micros * trade.trade_side.sign
    if holding.seeded_at is not None and trade.event_time <= holding.seeded_at:
        # Contained in the snapshot: recorded as a step that led to it, never folded or copied.
        before = holding.share_micros - delta if trade.start_micros is None else trade.start_micros
        return (_signal(trade, before, PositionState.HISTORIC, holding, equity_micros),)
    state = PositionState.ASSUMED if holding.seeded_at is None else PositionState.KNOWN
    before, found, kind = holding.share_micros, None, GapKind.START_POSITION
    self_trade = trade.twin_id is not None and trade.twin_id in holding.processed
    if trade.start_micros is not None and trade.event_time >= holding.newest and not self_trade:
        # An older fill that arrives late does not state the current position.
        state = PositionState.KNOWN
        found = trade.start_micros if holding.seeded_at is None or trade.start_micros != before else None
    elif not VENUES[trade.venue].short_allowed and before + delta < 0:
        # Where nothing can be sold short, at least what was sold had been held.
        found, kind = -delta, GapKind.BELOW_ZERO
    if found is None or found == before:
        return (_signal(trade, before, state, holding, equity_micros),)
    signal = _signal(trade, found, state, holding, equity_micros)
    if holding.seeded_at is None and kind is GapKind.START_POSITION:
        return (signal,)  # nothing was known, so nothing is contradicted
    return (gap(trade, kind, before, found), signal)


def gap(trade: Trade, kind: GapKind, expected_micros: int, found_micros: int) -> GapDetected:
    """A contradiction between the fold (`expected`) and the venue (`found`), both signed micros of shares."""
    return GapDetected(
        gap_id=derived("gap", trade.source_event_id),
        kind=kind,
        influencer_id=trade.influencer_id,
        venue=trade.venue,
        address=trade.address,
        asset=trade.asset,
        expected_micros=expected_micros,
        found_micros=found_micros,
        source_event_id=trade.source_event_id,
        event_time=trade.event_time,
        detect_time=trade.detect_time,
        market=trade.market,
    )


def _signal_id(holding: Holding, trade: Trade) -> str:
    """Of an economic fill, the same whichever source reports it first."""
    if trade.fill_key is None:
        return derived("sig", trade.source_event_id)
    return derived("sig", trade.address, trade.fill_key, holding.fills.get(trade.fill_key, Reported()).made)


def _signal(
    trade: Trade, before: int, state: PositionState, holding: Holding, equity_micros: int | None
) -> SignalRecorded:
    delta = trade.share_micros * trade.trade_side.sign
    after = before + delta
    metadata = trade.metadata if trade.fill_key is None else {**trade.metadata, FILL: trade.fill_key}
    return SignalRecorded(
        signal_id=_signal_id(holding, trade),
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
        order_type=trade.order_type,
        metadata=metadata,
        fee_micros=trade.fee_micros,
        influencer_equity_micros=equity_micros,
    )
