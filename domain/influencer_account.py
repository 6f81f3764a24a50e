"""An influencer's account: its holdings folded from trades, movements and account snapshots (docs/design.md, signals).

A movement changes positions without a trade: SPLIT turns cash into one share of each outcome of a market, MERGE the
reverse, REDEEM turns shares into their payout. Movements make signals, so that the position stays true; what they
give up is followed by copies, and nothing is opened.
"""

from msgspec import Struct
from msgspec.structs import replace

from domain.events import (
    AccountModeStated,
    AccountSeeded,
    Action,
    Event,
    FillObserved,
    GapDetected,
    GapKind,
    PositionState,
    SignalRecorded,
    TradeSide,
    Venue,
)
from domain.ids import derived
from domain.micros import MICRO, nearest
from domain.signals import FILL, REVERTS, Holding, Reported, Trade, counts, is_replay, signals_of, source_of

ROUNDING_MICROS = 2
"""Shares by which two statements of one position may differ because a venue writes sizes as binary fractions."""


class Movement(Struct, frozen=True, kw_only=True):
    """A change of positions without a trade: SPLIT, MERGE or REDEEM of `share_micros`, for `cash_micros` in all.

    `asset` is empty where the venue names only the market.
    """

    source_event_id: str
    venue: Venue
    influencer_id: str
    address: str
    action: Action
    market: str
    asset: str
    share_micros: int
    cash_micros: int
    event_time: int
    detect_time: int


class UnclearError(ValueError):
    """A movement whose assets are not clear: its market was never described, or several assets fit alike."""


def section_of(asset: str) -> str:
    """The section of an account that an asset belongs to: 'xyz' of 'xyz:SP500', '' of 'BTC'."""
    return asset.rpartition(":")[0]


class Account(Struct):
    """Every holding of one influencer's address; time (ns) and equity (micros) of each section's newest snapshot; and
    what counts as equity, where the venue stated the account's mode."""

    seeded_at: dict[str, int] = {}
    holdings: dict[str, Holding] = {}
    equities: dict[str, int] = {}
    mode: AccountModeStated | None = None

    def holding(self, asset: str) -> Holding:
        found = self.holdings.get(asset)
        if found is None:
            # Flat as of the snapshot, which lists every open position of its section.
            found = self.holdings[asset] = Holding(seeded_at=self.seeded_at.get(section_of(asset)))
        return found

    def market_of(self, asset: str) -> str:
        """The market of an asset, where an event of this account named it; else ''."""
        held = self.holdings.get(asset)
        return held.market if held else ""

    @property
    def equity_micros(self) -> int | None:
        """The account's equity: by its newest snapshots, over all sections, or what its mode counts instead; None when
        it is not known."""
        if self.mode is not None and not self.mode.reports_count:
            return self.mode.equity_micros
        return sum(self.equities.values()) if self.equities else None


def move(account: Account, movement: Movement, outcomes: tuple[str, ...]) -> tuple[Event, ...]:
    """The signals of a SPLIT, MERGE or REDEEM, one per asset it changes. Raises UnclearError.

    `outcomes` are the assets of the movement's market; empty when it was never described.
    """
    if any(f"{movement.source_event_id}|{asset}" in held.processed for asset, held in account.holdings.items()):
        return ()  # processed before, and the holdings that it was computed from have changed
    try:
        changes = _changes(account, movement, outcomes)
    except UnclearError:
        if movement.event_time <= account.seeded_at.get("", 0):
            return ()  # contained in the account snapshot
        raise
    events: list[Event] = []
    for asset, delta, cash in changes:
        holding = account.holding(asset)
        trade = Trade(
            source_event_id=f"{movement.source_event_id}|{asset}",
            venue=movement.venue,
            influencer_id=movement.influencer_id,
            address=movement.address,
            asset=asset,
            market=movement.market,
            trade_side=TradeSide.BUY if delta > 0 else TradeSide.SELL,
            share_micros=abs(delta),
            price_micros=nearest(cash * MICRO, abs(delta)),
            notional_micros=cash,
            taker=False,
            event_time=movement.event_time,
            detect_time=movement.detect_time,
            fee_micros=0,
        )
        if is_replay(holding, trade):
            continue
        events += [
            replace(event, action=movement.action) if isinstance(event, SignalRecorded) else event
            for event in signals_of(holding, trade, account.equity_micros)
        ]
    return tuple(events)


def _changes(account: Account, movement: Movement, outcomes: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """(asset, signed shares, cash) of everything that a movement changes."""
    size, cash = movement.share_micros, movement.cash_micros
    if movement.action is Action.REDEEM:
        return [(asset, -share, paid) for asset, share, paid in _redeemed(account, movement)]
    if not outcomes:
        raise UnclearError(f"{movement.action} of market {movement.market}, which was never described")
    each, rest = divmod(cash, len(outcomes))
    sign = 1 if movement.action is Action.SPLIT else -1
    return [(asset, sign * size, each + (rest if number == 0 else 0)) for number, asset in enumerate(outcomes)]


def _redeemed(account: Account, movement: Movement) -> list[tuple[str, int, int]]:
    if movement.asset:
        return [(movement.asset, movement.share_micros, movement.cash_micros)]
    held = {
        asset: holding.share_micros
        for asset, holding in account.holdings.items()
        if holding.market == movement.market and holding.share_micros > 0
    }
    winners = list(held) if len(held) == 1 else [a for a, share in held.items() if share == movement.share_micros]
    if len(winners) != 1:
        raise UnclearError(f"REDEEM of market {movement.market} fits {len(winners)} of {len(held)} held assets")
    # Redeeming burns every outcome of the market; only the winner pays.
    lost = [(asset, share, 0) for asset, share in held.items() if asset != winners[0]]
    return [(winners[0], movement.share_micros, movement.cash_micros), *lost]


def evolve(account: Account, event: object) -> None:
    """Fold one event of this account, in place: there are thousands of accounts, with many events a second."""
    match event:
        case AccountModeStated():
            account.mode = event
        case SignalRecorded():
            _fold_signal(account.holding(event.asset), event)
        case FillObserved():
            holding = account.holding(event.asset)
            holding.remember(event.event_time, event.source_event_id, 0)
            _count(holding, event.fill_key, event.source_event_id)
            holding.market = holding.market or event.market
        case GapDetected():
            if event.kind is not GapKind.CONVERSION:
                holding = account.holding(event.asset)
                holding.share_micros = event.found_micros
                if event.kind is GapKind.START_POSITION:
                    # Older trades are contained in the position that the venue stated.
                    holding.seeded_at = event.event_time - 1
        case AccountSeeded():
            _fold_snapshot(account, event)


def _fold_signal(holding: Holding, event: SignalRecorded) -> None:
    historic = event.position_state is PositionState.HISTORIC
    holding.market = event.market or holding.market
    source_event_id = event.source_event_id
    holding.remember(event.event_time, source_event_id, event.delta_micros)
    if not historic:
        if holding.seeded_at is None and event.position_state is PositionState.KNOWN:
            holding.seeded_at = event.event_time - 1
        holding.share_micros = event.after_micros
    fill_key = event.metadata.get(FILL)
    if fill_key is not None:
        reported = _count(holding, fill_key, source_event_id)
        reported.made += 1
        reported.signals += -1 if REVERTS in event.metadata else 1
        reported.signal_id = event.signal_id


def _count(holding: Holding, fill_key: str, source_event_id: str) -> Reported:
    reported = holding.fills.setdefault(fill_key, Reported())
    source = source_of(source_event_id)
    reported.by_source[source] = reported.by_source.get(source, 0) + counts(holding, source_event_id)
    return reported


def shrunk_by(account: Account, snapshot: AccountSeeded) -> tuple[GapDetected, ...]:
    """The reductions that a newer snapshot reveals: positions that it takes away or makes smaller than the fold has
    them, after the trades since it. Differences of rounding are none."""
    stated = {position.asset: position.share_micros for position in snapshot.positions}
    return tuple(
        GapDetected(
            gap_id=derived("gap", snapshot.seed_id, asset),
            kind=GapKind.SNAPSHOT,
            influencer_id=snapshot.influencer_id,
            venue=snapshot.venue,
            address=snapshot.address,
            asset=asset,
            expected_micros=holding.share_micros,
            found_micros=found,
            source_event_id=snapshot.seed_id,
            event_time=snapshot.event_time,
            detect_time=snapshot.detect_time,
            market=holding.market,
        )
        for asset, holding in account.holdings.items()
        if section_of(asset) == snapshot.section
        and asset not in snapshot.unread
        and holding.share_micros
        and (found := _as_of(holding, snapshot, stated.get(asset, 0))) is not None
        and _gives_up(holding.share_micros, found) > ROUNDING_MICROS
    )


def _gives_up(before: int, after: int) -> int:
    """Shares that a position loses; none when it grows, all when it changes sides."""
    return abs(before) - (abs(after) if before * after > 0 else 0)


def _as_of(holding: Holding, snapshot: AccountSeeded, share_micros: int) -> int | None:
    """The position now by a snapshot that states this many shares; None when it says nothing about it: the venue stated
    a newer position, or the trades since then are no longer remembered."""
    if snapshot.event_time < max(holding.seeded_at or 0, holding.forgotten):
        return None
    return share_micros + sum(delta for time, _, delta in holding.recent if time > snapshot.event_time)


def is_stale(account: Account, event: AccountSeeded) -> bool:
    """True for a snapshot that is not newer than the last one of its section."""
    return event.event_time <= account.seeded_at.get(event.section, 0)


def _fold_snapshot(account: Account, event: AccountSeeded) -> None:
    if is_stale(account, event):
        return
    for asset in event.unread:
        account.holding(asset)  # known as of the snapshot before, if there is one
    account.seeded_at[event.section] = event.event_time
    if event.equity_micros is not None:
        account.equities[event.section] = event.equity_micros
    listed = {position.asset: position for position in event.positions}
    known = {asset for asset in account.holdings if section_of(asset) == event.section}
    for asset in (known | listed.keys()).difference(event.unread):
        holding, position = account.holding(asset), listed.get(asset)
        found = _as_of(holding, event, position.share_micros if position else 0)
        if found is None:
            continue
        holding.seeded_at = event.event_time
        holding.share_micros = found
        holding.leverage = position.leverage if position else None
        if position and position.market:
            holding.market = position.market
