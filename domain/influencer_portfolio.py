"""SHADOW_USER: an influencer's own trading as a portfolio, folded from the signals of one of its addresses
(docs/design.md, default portfolios).

The arithmetic is that of every portfolio. What the influencer held before it was followed enters as a deposit of its
worth, at the price of entry where the venue gives it, else at the first price known. Every later difference between
the venue and the fold enters the same way, whether an account snapshot shows it or a signal that starts from another
position. So realized + unrealized profit is what happened since, and equity - deposits equals it, less the fees, to
the micro.
"""

from msgspec import Struct
from msgspec.structs import replace

from domain.events import AccountSeeded, Event, PositionState, SignalRecorded
from domain.influencer_account import section_of
from domain.mark_prices import Asset, MarkOf
from domain.micros import times
from domain.position import Position, cash_delta, fill_position


class InfluencerPortfolio(Struct, frozen=True):
    """Cash is what trading brought in and took out; positions that are closed leave only their profit behind.

    `traded_at` is the venue's time of the newest trade in each asset.
    """

    deposits_micros: int = 0
    cash_micros: int = 0
    fees_micros: int = 0
    realized_micros: int = 0
    positions: dict[Asset, Position] = {}
    traded_at: dict[Asset, int] = {}


initial = InfluencerPortfolio()


def evolve(shadow: InfluencerPortfolio, event: Event) -> InfluencerPortfolio:
    """The portfolio after one event of SIGNALS that belongs to the influencer."""
    match event:
        case SignalRecorded() if event.position_state is not PositionState.HISTORIC:
            return _traded(shadow, event)
        case AccountSeeded():
            return _seeded(shadow, event)
    return shadow


def _traded(shadow: InfluencerPortfolio, event: SignalRecorded) -> InfluencerPortfolio:
    asset = (event.venue.value, event.asset)
    fee = event.fee_micros or 0
    shadow = _corrected(shadow, asset, event.before_micros, event.price_micros, event.event_time)
    before = shadow.positions.get(asset, Position())
    after = fill_position(before, event.delta_micros, event.notional_micros)
    traded_at = shadow.traded_at
    newest = event.event_time >= traded_at.get(asset, 0)
    if newest or not after.mark_micros:
        after = replace(after, mark_micros=event.price_micros, marked_at=event.event_time)
    if newest:
        traded_at = {**traded_at, asset: event.event_time}
    return replace(
        _holding(shadow, asset, replace(after, market=event.market or before.market)),
        cash_micros=shadow.cash_micros + cash_delta(event.trade_side, event.notional_micros, fee),
        fees_micros=shadow.fees_micros + fee,
        traded_at=traded_at,
    )


def _seeded(shadow: InfluencerPortfolio, event: AccountSeeded) -> InfluencerPortfolio:
    listed = {(event.venue.value, position.asset): position for position in event.positions}
    held = {
        asset for asset in shadow.positions if asset[0] == event.venue.value and section_of(asset[1]) == event.section
    }
    unread = {(event.venue.value, asset) for asset in event.unread}
    for asset in sorted((held | listed.keys()) - unread):
        if shadow.traded_at.get(asset, 0) > event.event_time:
            continue  # the next signal states the position after the snapshot and the trades since
        position = listed.get(asset)
        share = position.share_micros if position else 0
        shadow = _corrected(shadow, asset, share, position.price_micros if position else None, event.event_time)
    return shadow


def _corrected(
    shadow: InfluencerPortfolio, asset: Asset, share_micros: int, price_micros: int | None, at: int
) -> InfluencerPortfolio:
    """The portfolio with the position that the venue states; the difference is deposited at its worth (signed)."""
    held = before = shadow.positions.get(asset, Position())
    if price_micros and held.share_micros and not held.mark_micros and not held.cost_micros:
        # It entered when no price was known: all of it enters again, at this price.
        before = Position(realized_micros=held.realized_micros, market=held.market)
    delta = share_micros - before.share_micros
    if before is held and not delta:
        return shadow
    price = price_micros if price_micros is not None else before.mark_micros
    after = fill_position(before, delta, abs(times(price, delta)))
    if not after.mark_micros:
        after = replace(after, mark_micros=price, marked_at=at)
    return replace(_holding(shadow, asset, after), deposits_micros=shadow.deposits_micros + times(price, delta))


def _holding(shadow: InfluencerPortfolio, asset: Asset, position: Position) -> InfluencerPortfolio:
    positions = {key: held for key, held in shadow.positions.items() if key != asset}
    if position.share_micros:
        return replace(shadow, positions={**positions, asset: position})
    return replace(shadow, positions=positions, realized_micros=shadow.realized_micros + position.realized_micros)


def equity(shadow: InfluencerPortfolio, mark_of: MarkOf) -> int:
    """Cash plus every position at its newest price, in micros; less `deposits_micros` it is the profit so far."""
    worth = 0
    for asset, position in shadow.positions.items():
        mark = mark_of(asset)
        price = mark.price_micros if mark is not None and mark.at >= position.marked_at else position.mark_micros
        worth += times(price, position.share_micros)
    return shadow.cash_micros + worth
