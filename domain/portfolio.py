"""A subscriber's portfolio: cash and positions, folded from its events (docs/design.md, portfolio).

Fills change positions as domain/position.py computes; a settlement pays out what is held. Always: cash + cost of the
open positions = deposits + realized - fees, to the micro. Each event is folded once, in the order of the log. What is
closed leaves nothing behind but its profit, and for a week what a settlement paid for, because a venue may correct it.

A portfolio is changed in place: a caller that needs the state before an event takes a `copy`. What it is worth and what
is at risk are running sums (domain/valuation.py).
"""

from functools import cached_property

from msgspec import Struct
from msgspec.structs import replace

from domain import breakers, exits
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
    ExitEnded,
    ExitOwed,
    FillCorrected,
    OrderFilled,
    PositionCompared,
    PositionSettled,
    SettlementCorrected,
)
from domain.holding import Holding, Part, Pending, Settled
from domain.mark_prices import Asset, MarkPrices
from domain.position import Position, fill_position
from domain.valuation import Valuation


class Residual(Struct, frozen=True):
    """What waits until it has added up to the minimum: notional to open, signed by trade side, and shares to reduce."""

    notional_micros: int = 0
    share_micros: int = 0


SETTLED_KEPT_NS = 7 * 86_400 * 1_000_000_000
"""How long a settlement can be corrected."""
NOTHING = Residual()
NO_PART = Part("")


class Portfolio(Struct, dict=True):
    """One subscriber's cash, what it holds or has ordered by asset, and what waits by subscription and asset.

    `realized_micros` is of closed positions, `reserved_micros` the cash that pending orders can take.
    """

    deposits_micros: int = 0
    cash_micros: int = 0
    fees_micros: int = 0
    realized_micros: int = 0
    reserved_micros: int = 0
    holdings: dict[Asset, Holding] = {}
    residuals: dict[tuple[str, Asset], Residual] = {}
    exits: dict[tuple[str, Asset], ExitOwed] = {}
    settled: dict[tuple[str, Asset], Settled] = {}
    breakers: Breakers = breakers.initial
    differing: dict[Asset, tuple[int, int]] = {}
    """Live positions that the venue account does not hold: signed shares here and there."""

    @cached_property
    def valuation(self) -> Valuation:
        """The running sums. Made on first use and never saved: a replay that values nothing does without them."""
        return Valuation(self.holdings)

    @property
    def positions(self) -> dict[Asset, Position]:
        """What is held, by asset: a position that two subscriptions hold against each other is open too."""
        return {asset: holding.position for asset, holding in self.holdings.items() if holding.is_open}


def copy(portfolio: Portfolio) -> Portfolio:
    """A portfolio of its own with the same state."""
    return replace(
        portfolio,
        holdings={asset: holding.copy() for asset, holding in portfolio.holdings.items()},
        residuals=dict(portfolio.residuals),
        exits=dict(portfolio.exits),
        differing=dict(portfolio.differing),
        settled=dict(portfolio.settled),
    )


def evolve(portfolio: Portfolio, event: Event) -> None:
    """Fold one event of the subscriber; others change nothing."""
    match event:
        case CopyDecided():
            _decided(portfolio, event)
        case OrderFilled():
            _filled(portfolio, event)
        case PositionCompared():
            asset = (event.venue.value, event.asset)
            portfolio.differing.pop(asset, None)
            if event.held_micros != event.found_micros:
                portfolio.differing[asset] = event.held_micros, event.found_micros
        case FillCorrected():
            _corrected(portfolio, event)
        case ExecutionCompleted():
            _completed(portfolio, event)
        case PositionSettled():
            _settled(portfolio, event)
        case SettlementCorrected():
            _payout_corrected(portfolio, event)
        case ExitOwed() | ExitEnded():
            exits.evolve(portfolio.exits, event)
        case CashDeposited():
            portfolio.deposits_micros += event.cash_delta_micros
            portfolio.cash_micros += event.cash_delta_micros
            portfolio.breakers = breakers.evolve(portfolio.breakers, event)
        case EquityMarked() | BreakerTripped() | BreakerReset():
            portfolio.breakers = breakers.evolve(portfolio.breakers, event)


def _decided(portfolio: Portfolio, event: CopyDecided) -> None:
    asset = (event.venue.value, event.asset)
    holding = portfolio.holdings.get(asset)
    if event.decision is Decision.EXECUTE:
        if holding is None:
            holding = portfolio.holdings[asset] = Holding(Position(market=event.market))
        opens = event.share_micros - event.reduce_micros
        delta = event.share_micros * event.trade_side.sign
        order = Pending(event.subscription_id, delta, opens, event.reserved_micros, opens)
        holding.ordered(event.attempt_id, order, event.influencer_id, event.config_sequence)
        portfolio.reserved_micros += order.reserves
    if holding is not None and event.mid_micros:
        holding.position = replace(holding.position, mark_micros=event.mid_micros, marked_at=event.decided_at)
    if holding is not None:
        if event.kept_micros:
            holding.kept(event.subscription_id, event.config_sequence)
        _touched(portfolio, asset, event.subscription_id)
    key = (event.subscription_id, asset)
    if event.residual_micros or event.residual_share_micros:
        portfolio.residuals[key] = Residual(event.residual_micros, event.residual_share_micros)
    else:
        portfolio.residuals.pop(key, None)


def _filled(portfolio: Portfolio, event: OrderFilled) -> None:
    asset = (event.venue.value, event.asset)
    holding = portfolio.holdings.get(asset)
    if holding is None or event.attempt_id not in holding.orders:
        return
    reserved = holding.orders[event.attempt_id].reserves
    holding.filled(event.attempt_id, event.share_delta_micros)
    portfolio.reserved_micros += holding.orders[event.attempt_id].reserves - reserved
    portfolio.cash_micros += event.cash_delta_micros
    portfolio.fees_micros += event.fee_micros
    _traded(portfolio, holding, event.share_delta_micros, event.notional_micros)
    _touched(portfolio, asset, event.subscription_id)


def _corrected(portfolio: Portfolio, event: FillCorrected) -> None:
    """What fills cost more or less than was booked: realized at once, since the position may be gone."""
    portfolio.cash_micros += event.cash_delta_micros
    portfolio.fees_micros += event.fee_delta_micros
    portfolio.realized_micros += event.cash_delta_micros + event.fee_delta_micros


def _completed(portfolio: Portfolio, event: ExecutionCompleted) -> None:
    asset = (event.venue.value, event.asset)
    holding = portfolio.holdings.get(asset)
    if holding is None or event.attempt_id not in holding.orders:
        return
    portfolio.reserved_micros -= holding.orders[event.attempt_id].reserves
    holding.completed(event.attempt_id)
    if not holding.parts:
        del portfolio.holdings[asset]
    _touched(portfolio, asset, event.subscription_id)


def _settled(portfolio: Portfolio, event: PositionSettled) -> None:
    asset = (event.venue.value, event.asset)
    holding = portfolio.holdings.get(asset)
    if holding is None or event.subscription_id not in holding.parts:
        return
    portfolio.cash_micros += event.cash_delta_micros
    _remember(portfolio, event, holding.position)
    portfolio.residuals.pop((event.subscription_id, asset), None)
    exits.evolve(portfolio.exits, event)
    holding.settled(event.subscription_id, event.share_delta_micros)
    _traded(portfolio, holding, event.share_delta_micros, abs(event.cash_delta_micros))
    if not holding.parts:
        del portfolio.holdings[asset]
    _touched(portfolio, asset, event.subscription_id)


def _remember(portfolio: Portfolio, event: PositionSettled, position: Position) -> None:
    """Keep what was paid for, and forget the oldest, which no correction can concern any more."""
    settled = portfolio.settled
    while settled:
        oldest = next(iter(settled))
        if event.settled_at - settled[oldest].settled_at < SETTLED_KEPT_NS:
            break
        del settled[oldest]
    settled[event.subscription_id, (event.venue.value, event.asset)] = Settled(
        event.influencer_id,
        event.market,
        -event.share_delta_micros,
        event.price_micros,
        event.resolution_id,
        event.settled_at,
        fill_position(position, event.share_delta_micros, abs(event.cash_delta_micros)).realized_micros,
    )


def _payout_corrected(portfolio: Portfolio, event: SettlementCorrected) -> None:
    """The difference is profit of a position that is closed."""
    portfolio.cash_micros += event.cash_delta_micros
    portfolio.realized_micros += event.cash_delta_micros
    asset = (event.venue.value, event.asset)
    newest = settled_last(portfolio, asset)
    for key, before in portfolio.settled.items():
        if key == (event.subscription_id, asset):
            before = replace(before, price_micros=event.price_micros, resolution_id=event.resolution_id)
        if key == newest:
            before = replace(before, realized_micros=before.realized_micros + event.cash_delta_micros)
        portfolio.settled[key] = before


def settled_last(portfolio: Portfolio, asset: Asset) -> tuple[str, Asset] | None:
    """The newest settlement of an asset; None when none can be corrected any more."""
    return next((key for key in reversed(portfolio.settled) if key[1] == asset), None)


def _traded(portfolio: Portfolio, holding: Holding, share_delta: int, notional_micros: int) -> None:
    """Change the position; the profit of one that is closed moves to the portfolio."""
    holding.position = fill_position(holding.position, share_delta, notional_micros)
    if not holding.is_open:
        portfolio.realized_micros += holding.position.realized_micros
        holding.position = replace(holding.position, realized_micros=0)


def _touched(portfolio: Portfolio, asset: Asset, subscription_id: str) -> None:
    """The sums of this asset, and of this subscription in it, are out of date."""
    valuation: Valuation | None = portfolio.__dict__.get("valuation")
    if valuation is not None:
        valuation.touch(asset, subscription_id)


def equity(portfolio: Portfolio, marks: MarkPrices, sequence: int | None = None) -> int:
    """Cash plus every position at its newest price, in micros, at the marks as of a sequence of GROUPS (None = now)."""
    return portfolio.cash_micros + portfolio.valuation.at(marks, sequence).worth_micros


def realized(portfolio: Portfolio) -> int:
    """Profit realized so far, fees aside, of closed and of open positions."""
    held = sum(holding.position.realized_micros for holding in portfolio.holdings.values())
    return portfolio.realized_micros + held


def part_of(portfolio: Portfolio, subscription_id: str, asset: Asset) -> Part:
    """What a subscription holds of an asset and has ordered of it."""
    holding = portfolio.holdings.get(asset)
    return NO_PART if holding is None else holding.parts.get(subscription_id, NO_PART)


def expected_copied(portfolio: Portfolio, subscription_id: str, asset: Asset) -> int:
    """Signed shares held for a subscription, counting pending orders as filled."""
    part = part_of(portfolio, subscription_id, asset)
    return part.share_micros + part.ordered_micros


def free_cash(portfolio: Portfolio) -> int:
    """Cash that no pending order can take: each reserves what the rest of its opening costs at its limit, with fee."""
    return portfolio.cash_micros - portfolio.reserved_micros


def settlements(portfolio: Portfolio, asset: Asset) -> tuple[tuple[str, Part], ...]:
    """What each subscription holds of an asset; nothing while an order in it is pending."""
    holding = portfolio.holdings.get(asset)
    return () if holding is None or holding.orders else tuple(holding.parts.items())
