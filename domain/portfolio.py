"""A subscriber's portfolio: cash and positions, folded from its events (docs/design.md, portfolio).

Fills change positions as domain/position.py computes; a settlement pays out what is held. Always: cash + cost of the
open positions = deposits + realized - fees, to the micro. An event that was folded before changes nothing: fills and
results belong to a decision that is still pending, and the newest ids are remembered.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from domain import breakers
from domain.breakers import Breakers
from domain.events import (
    BreakerReset,
    BreakerTripped,
    CashDeposited,
    CopyDecided,
    Decision,
    EquityMarked,
    Event,
    ExecutionCompleted,
    OrderFilled,
    PositionSettled,
)
from domain.mark_prices import Asset, Mark
from domain.micros import times
from domain.position import Position, fill_position

MarkOf = Callable[[Asset], Mark | None]
"""The newest mark of an asset; None when it has none."""

E = TypeVar("E", bound=Event)

_DIGEST, _REMEMBERED = 8, 64


class Pending(Struct, frozen=True):
    """A decided order whose result is not known yet: it counts as filled."""

    asset: Asset
    subscription_id: str
    influencer_id: str
    delta_micros: int
    opens_micros: int
    price_micros: int
    priced_at: int
    market: str
    fills: tuple[str, ...] = ()
    reserved_micros: int = 0
    reserved_for_micros: int = 0
    """Cash that the opening can cost at its limit with its fee, and the shares that this is for."""


class Residual(Struct, frozen=True):
    """What waits until it has added up to the minimum: notional to open, signed by trade side, and shares to reduce."""

    notional_micros: int = 0
    share_micros: int = 0


NOTHING = Residual()


class Portfolio(Struct, frozen=True):
    """One subscriber's cash, open positions and pending orders, and sums over what is closed.

    `copied` splits positions by the subscription that they were copied for; `realized_micros` is of closed positions.
    """

    deposits_micros: int = 0
    cash_micros: int = 0
    fees_micros: int = 0
    realized_micros: int = 0
    positions: dict[Asset, Position] = {}
    copied: dict[tuple[str, Asset], int] = {}
    influencers: dict[str, str] = {}
    pending: dict[str, Pending] = {}
    residuals: dict[tuple[str, Asset], Residual] = {}
    breakers: Breakers = breakers.initial
    newest: bytes = b""
    """Digests of the newest events' ids, eight bytes each."""


initial = Portfolio()


def evolve(portfolio: Portfolio, event: Event) -> Portfolio:
    """The portfolio after one event of its subscriber."""
    match event:
        case CashDeposited():
            return _once(portfolio, event.deposit_id, event, _deposited)
        case CopyDecided():
            return _once(portfolio, event.attempt_id, event, _decided)
        case PositionSettled():
            return _once(portfolio, event.settlement_id, event, _settled)
        case OrderFilled():
            return _filled(portfolio, event)
        case ExecutionCompleted():
            if event.attempt_id not in portfolio.pending:
                return portfolio
            return replace(portfolio, pending={k: v for k, v in portfolio.pending.items() if k != event.attempt_id})
        case EquityMarked():
            return _once(portfolio, f"marked@{event.marked_at}:{event.equity_micros}", event, _with_breakers)
        case BreakerTripped():
            return _once(portfolio, f"{event.limit}@{event.tripped_at}", event, _with_breakers)
        case BreakerReset():
            return _once(portfolio, f"{event.limit} reset@{event.reset_at}", event, _with_breakers)
    return portfolio


def _once(portfolio: Portfolio, event_id: str, event: E, fold: Callable[[Portfolio, E], Portfolio]) -> Portfolio:
    digest = blake2b(event_id.encode(), digest_size=_DIGEST).digest()
    newest = portfolio.newest
    if any(newest[at : at + _DIGEST] == digest for at in range(0, len(newest), _DIGEST)):
        return portfolio
    return replace(fold(portfolio, event), newest=(newest + digest)[-_DIGEST * _REMEMBERED :])


def _deposited(portfolio: Portfolio, event: CashDeposited) -> Portfolio:
    return replace(
        portfolio,
        deposits_micros=portfolio.deposits_micros + event.cash_delta_micros,
        cash_micros=portfolio.cash_micros + event.cash_delta_micros,
        breakers=breakers.evolve(portfolio.breakers, event),
    )


def _with_breakers(portfolio: Portfolio, event: Event) -> Portfolio:
    return replace(portfolio, breakers=breakers.evolve(portfolio.breakers, event))


def _decided(portfolio: Portfolio, event: CopyDecided) -> Portfolio:
    asset = (event.venue.value, event.asset)
    key = (event.subscription_id, asset)
    positions, pending, influencers = portfolio.positions, portfolio.pending, portfolio.influencers
    if event.mid_micros:
        # Pending orders too: this decision and their fills may be folded in either order.
        mid, at = event.mid_micros, event.decided_at
        if asset in positions:
            positions = {**positions, asset: replace(positions[asset], mark_micros=mid, marked_at=at)}
        if any(order.asset == asset for order in pending.values()):
            pending = {
                attempt: replace(order, price_micros=mid, priced_at=at) if order.asset == asset else order
                for attempt, order in pending.items()
            }
    if event.decision is Decision.EXECUTE:
        order = Pending(
            asset,
            event.subscription_id,
            event.influencer_id,
            event.share_micros * event.trade_side.sign,
            event.share_micros - event.reduce_micros,
            event.mid_micros,
            event.decided_at,
            event.market,
            reserved_micros=event.reserved_micros,
            reserved_for_micros=event.share_micros - event.reduce_micros,
        )
        influencers = {**influencers, event.subscription_id: event.influencer_id}
        pending = {**pending, event.attempt_id: order}
    residual = Residual(event.residual_micros, event.residual_share_micros)
    residuals = portfolio.residuals
    if residual != residuals.get(key, NOTHING):
        residuals = {k: v for k, v in residuals.items() if k != key}
        if residual != NOTHING:
            residuals[key] = residual
    return replace(
        portfolio,
        positions=positions,
        pending=pending,
        residuals=residuals,
        influencers=influencers,
    )


def _filled(portfolio: Portfolio, event: OrderFilled) -> Portfolio:
    order = portfolio.pending.get(event.attempt_id)
    if order is None or event.fill_id in order.fills:
        return portfolio  # folded before
    asset = (event.venue.value, event.asset)
    # A new position is worth the mid of the newest decision on its asset.
    opened = Position(mark_micros=order.price_micros, marked_at=order.priced_at, market=order.market)
    after = fill_position(portfolio.positions.get(asset, opened), event.share_delta_micros, event.notional_micros)
    left = order.delta_micros - event.share_delta_micros
    opens = min(order.opens_micros, abs(left))
    order = replace(order, delta_micros=left, opens_micros=opens, fills=(*order.fills, event.fill_id))
    key = (event.subscription_id, asset)
    return _holding(
        replace(
            portfolio,
            cash_micros=portfolio.cash_micros + event.cash_delta_micros,
            fees_micros=portfolio.fees_micros + event.fee_micros,
            pending={**portfolio.pending, event.attempt_id: order},
        ),
        asset,
        after,
        key,
        portfolio.copied.get(key, 0) + event.share_delta_micros,
    )


def _settled(portfolio: Portfolio, event: PositionSettled) -> Portfolio:
    asset = (event.venue.value, event.asset)
    key = (event.subscription_id, asset)
    before = portfolio.positions.get(asset, Position())
    after = fill_position(before, event.share_delta_micros, abs(event.cash_delta_micros))
    return _holding(
        replace(
            portfolio,
            cash_micros=portfolio.cash_micros + event.cash_delta_micros,
            residuals={k: v for k, v in portfolio.residuals.items() if k != key},
        ),
        asset,
        after,
        key,
        portfolio.copied.get(key, 0) + event.share_delta_micros,
    )


def _holding(
    portfolio: Portfolio, asset: Asset, position: Position, key: tuple[str, Asset], copied_micros: int
) -> Portfolio:
    """The portfolio with this position; what is closed leaves only its profit behind.

    What two subscriptions hold against each other is open, although it nets to nothing.
    """
    positions, copied = dict(portfolio.positions), dict(portfolio.copied)
    realized = portfolio.realized_micros
    if copied_micros:
        copied[key] = copied_micros
    else:
        copied.pop(key, None)
    if position.share_micros or any(of == asset for _, of in copied):
        positions[asset] = position
    else:
        positions.pop(asset, None)
        realized += position.realized_micros
    return replace(portfolio, positions=positions, copied=copied, realized_micros=realized)


def price_of(portfolio: Portfolio, asset: Asset, mark_of: MarkOf) -> int:
    """The newest price of a held asset: the log's mark, or the mid of a later decision."""
    position, mark = portfolio.positions[asset], mark_of(asset)
    return mark.price_micros if mark is not None and mark.at >= position.marked_at else position.mark_micros


def equity(portfolio: Portfolio, mark_of: MarkOf) -> int:
    """Cash plus every position at its newest price."""
    return portfolio.cash_micros + sum(
        times(price_of(portfolio, asset, mark_of), position.share_micros)
        for asset, position in portfolio.positions.items()
    )


def realized(portfolio: Portfolio) -> int:
    """Profit realized so far, fees aside, of closed and of open positions."""
    return portfolio.realized_micros + sum(position.realized_micros for position in portfolio.positions.values())


def expected_copied(portfolio: Portfolio, subscription_id: str, asset: Asset) -> int:
    """Signed shares held for a subscription, counting pending orders as filled."""
    held = portfolio.copied.get((subscription_id, asset), 0)
    return held + sum(
        p.delta_micros for p in portfolio.pending.values() if p.subscription_id == subscription_id and p.asset == asset
    )


def free_cash(portfolio: Portfolio) -> int:
    """Cash that no pending order can take: each reserves what the rest of its opening costs at its limit, with fee."""
    return portfolio.cash_micros - sum(
        -(-order.reserved_micros * order.opens_micros // order.reserved_for_micros)
        for order in portfolio.pending.values()
        if order.reserved_micros
    )


class Exposure(Struct, frozen=True):
    """Sum of |shares x mark| in micros, pending orders that open included."""

    total_micros: int
    market_micros: int
    influencer_micros: int


def exposure(portfolio: Portfolio, asset: Asset, market: str, influencer_id: str, mark_of: MarkOf) -> Exposure:
    """What is at risk in total, in one market (all its assets), and copied from one influencer."""
    total = at_market = of_influencer = 0

    def there(key: Asset, key_market: str) -> bool:
        return key == asset or (key[0] == asset[0] and bool(market) and key_market == market)

    for key, position in portfolio.positions.items():
        value = abs(times(price_of(portfolio, key, mark_of), position.share_micros))
        total += value
        at_market += value if there(key, position.market) else 0
    for (subscription_id, key), share in portfolio.copied.items():
        if portfolio.influencers.get(subscription_id) == influencer_id:
            of_influencer += abs(times(price_of(portfolio, key, mark_of), share))
    for order in portfolio.pending.values():
        value = times(order.price_micros, order.opens_micros)
        total += value
        at_market += value if there(order.asset, order.market) else 0
        of_influencer += value if order.influencer_id == influencer_id else 0
    return Exposure(total, at_market, of_influencer)


def settlements(portfolio: Portfolio, asset: Asset) -> tuple[tuple[str, int], ...]:
    """(subscription, signed shares) of everything held of an asset; nothing while an order in it is pending."""
    if any(order.asset == asset for order in portfolio.pending.values()):
        return ()
    return tuple((subscription_id, share) for (subscription_id, of), share in portfolio.copied.items() if of == asset)
