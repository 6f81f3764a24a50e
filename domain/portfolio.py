"""A subscriber's portfolio: cash and positions, folded from fills (DESIGN 6.1).

A buy moves shares up and cash down by notional + fee; a sell the reverse. Shares may be negative. Realized
profit is by average cost; a flip realizes the whole old side, then opens. Always:
cash + cost of the open positions = deposits + realized - fees, to the micro.
"""

from msgspec import Struct
from msgspec.structs import replace

from domain.events import CashDeposited, CopyDecided, Decision, Event, ExecutionCompleted, OrderFilled, TradeSide
from domain.micros import MICRO, fraction, nearest, times

Asset = tuple[str, str]
"""(venue, asset)."""


class Position(Struct, frozen=True):
    """Signed size, signed cost of the open part (what was paid, fees aside), realized profit so far, newest mark."""

    share_micros: int = 0
    cost_micros: int = 0
    realized_micros: int = 0
    mark_micros: int = 0

    @property
    def average_price_micros(self) -> int:
        return nearest(self.cost_micros * MICRO, self.share_micros) if self.share_micros else 0


class Pending(Struct, frozen=True):
    """A decided order whose result is not known yet: it counts as if it will fill."""

    asset: Asset
    subscription_id: str
    influencer_id: str
    delta_micros: int
    opens_micros: int
    price_micros: int


class Portfolio(Struct, frozen=True):
    """One subscriber's whole account. `copied` splits positions by the subscription that they were copied for."""

    deposits_micros: int = 0
    cash_micros: int = 0
    fees_micros: int = 0
    positions: dict[Asset, Position] = {}
    copied: dict[tuple[str, Asset], int] = {}
    influencers: dict[str, str] = {}
    pending: dict[str, Pending] = {}


initial = Portfolio()


def fill_position(position: Position, share_delta: int, notional_micros: int) -> Position:
    """A position after `share_delta` signed shares traded for `notional_micros` (a magnitude, without the fee)."""
    share, cost = position.share_micros, position.cost_micros
    signed_notional = notional_micros if share_delta > 0 else -notional_micros
    if share == 0 or (share > 0) == (share_delta > 0):
        return replace(position, share_micros=share + share_delta, cost_micros=cost + signed_notional)
    if abs(share_delta) < abs(share):
        released = fraction(cost, abs(share_delta), abs(share))
        return replace(
            position,
            share_micros=share + share_delta,
            cost_micros=cost - released,
            realized_micros=position.realized_micros - signed_notional - released,
        )
    # Closes, or flips: the part that closes takes its share of the notional, the rest opens the other side.
    closing = fraction(signed_notional, abs(share), abs(share_delta))
    return replace(
        position,
        share_micros=share + share_delta,
        cost_micros=signed_notional - closing,
        realized_micros=position.realized_micros - closing - cost,
    )


def evolve(portfolio: Portfolio, event: Event) -> Portfolio:
    """The portfolio after one event of its subscriber."""
    match event:
        case CashDeposited():
            return replace(
                portfolio,
                deposits_micros=portfolio.deposits_micros + event.cash_delta_micros,
                cash_micros=portfolio.cash_micros + event.cash_delta_micros,
            )
        case CopyDecided():
            return decided(portfolio, event)
        case OrderFilled():
            return filled(portfolio, event)
        case ExecutionCompleted():
            return replace(portfolio, pending={k: v for k, v in portfolio.pending.items() if k != event.attempt_id})
    return portfolio


def decided(portfolio: Portfolio, event: CopyDecided) -> Portfolio:
    asset = (event.venue.value, event.asset)
    positions = portfolio.positions
    if event.mid_micros:
        # Marked even before the first fill is seen: a decision and the fills of earlier ones may come in either order.
        held = positions.get(asset, Position())
        positions = {**positions, asset: replace(held, mark_micros=event.mid_micros)}
    pending = portfolio.pending
    if event.decision is Decision.EXECUTE:
        promise = Pending(
            asset,
            event.subscription_id,
            event.influencer_id,
            event.share_micros * event.trade_side.sign,
            event.share_micros - event.reduce_micros,
            event.mid_micros,
        )
        pending = {**pending, event.attempt_id: promise}
    return replace(portfolio, positions=positions, pending=pending)


def filled(portfolio: Portfolio, event: OrderFilled) -> Portfolio:
    asset = (event.venue.value, event.asset)
    before = portfolio.positions.get(asset, Position())
    after = fill_position(before, event.share_delta_micros, event.notional_micros)
    if not after.mark_micros:
        after = replace(after, mark_micros=event.price_micros)
    key = (event.subscription_id, asset)
    promise = portfolio.pending.get(event.attempt_id)
    pending = portfolio.pending
    if promise is not None:
        left = promise.delta_micros - event.share_delta_micros
        opens = min(promise.opens_micros, abs(left))
        pending = {**pending, event.attempt_id: replace(promise, delta_micros=left, opens_micros=opens)}
    return replace(
        portfolio,
        cash_micros=portfolio.cash_micros + event.cash_delta_micros,
        fees_micros=portfolio.fees_micros + event.fee_micros,
        positions={**portfolio.positions, asset: after},
        copied={**portfolio.copied, key: portfolio.copied.get(key, 0) + event.share_delta_micros},
        influencers={**portfolio.influencers, event.subscription_id: event.influencer_id},
        pending=pending,
    )


def equity(portfolio: Portfolio) -> int:
    """Cash plus every position at its newest mark."""
    return portfolio.cash_micros + sum(times(p.mark_micros, p.share_micros) for p in portfolio.positions.values())


def expected_copied(portfolio: Portfolio, subscription_id: str, asset: Asset) -> int:
    """Signed shares held for a subscription, counting orders on their way as filled."""
    held = portfolio.copied.get((subscription_id, asset), 0)
    return held + sum(
        p.delta_micros for p in portfolio.pending.values() if p.subscription_id == subscription_id and p.asset == asset
    )


class Exposure(Struct, frozen=True):
    """Sum of |shares x mark| in micros, orders on their way that open included."""

    total_micros: int
    market_micros: int
    influencer_micros: int


def exposure(portfolio: Portfolio, asset: Asset, influencer_id: str) -> Exposure:
    """What is at risk in total, in one asset, and copied from one influencer."""
    total = market = influencer = 0
    for key, position in portfolio.positions.items():
        value = abs(times(position.mark_micros, position.share_micros))
        total += value
        market += value if key == asset else 0
    for (subscription_id, key), share in portfolio.copied.items():
        if portfolio.influencers.get(subscription_id) == influencer_id:
            influencer += abs(times(portfolio.positions[key].mark_micros, share))
    for promise in portfolio.pending.values():
        value = times(promise.price_micros, promise.opens_micros)
        total += value
        market += value if promise.asset == asset else 0
        influencer += value if promise.influencer_id == influencer_id else 0
    return Exposure(total, market, influencer)


def cash_delta(trade_side: TradeSide, notional_micros: int, fee_micros: int) -> int:
    """The ledger formula: a buy pays notional + fee, a sell receives notional - fee."""
    return -trade_side.sign * notional_micros - fee_micros
