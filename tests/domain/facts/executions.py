"""Decisions, and what happens to a portfolio."""

from typing import Any

from msgspec import structs

from domain.events import (
    Action,
    CashDeposited,
    CopyDecided,
    Decision,
    Event,
    ExecutionCompleted,
    Level,
    Mode,
    OrderFilled,
    TradeSide,
    Venue,
)
from domain.micros import micros, times
from domain.position import cash_delta
from tests.domain.facts.influencers import ASKS
from tests.domain.facts.values import BUY, SELL, T0, at


def decided(
    share: str = "0.5",
    *,
    reduce: str = "0",
    side: TradeSide = BUY,
    levels: tuple[Level, ...] = ASKS,
    mid: str = "100",
    **changes: Any,
) -> CopyDecided:
    """An EXECUTE of `share`, of which `reduce` gives up what is held."""
    made = CopyDecided(
        attempt_id="att-1",
        request_id="req-1",
        subscription_id="sam-ann",
        subscriber_id="sam",
        influencer_id="ann",
        group_id="grp-1",
        quote_id="quo-1",
        mode=Mode.PAPER,
        venue=Venue.HYPERLIQUID,
        asset="BTC",
        market="BTC",
        action=Action.OPEN,
        trade_side=side,
        decision=Decision.EXECUTE,
        reasons=(),
        checks=(),
        target_notional_micros=micros("50"),
        share_micros=micros(share),
        reduce_micros=micros(reduce),
        limit_price_micros=levels[-1][0] if levels else 0,
        mid_micros=micros(mid),
        levels=levels,
        equity_micros=micros("10000"),
        policy_hash="policy-1",
        config_sequence=7,
        event_time=at(0),
        detect_time=at(40),
        decided_at=at(1000),
    )
    return structs.replace(made, **changes)


def deposited(usd: str = "10000", *, id: str = "dep-1") -> CashDeposited:
    return CashDeposited(
        deposit_id=id, subscriber_id="sam", cash_delta_micros=micros(usd), config_sequence=7, deposited_at=T0
    )


def filled(
    side: TradeSide,
    share_micros: int,
    notional_micros: int,
    *,
    price_micros: int = 0,
    fee_micros: int = 0,
    asset: str = "BTC",
    subscription: str = "sam-ann",
    influencer: str = "ann",
    attempt: str = "att-0",
    venue: Venue = Venue.HYPERLIQUID,
) -> OrderFilled:
    return OrderFilled(
        fill_id=f"fil-{attempt}",
        order_id=f"ord-{attempt}",
        attempt_id=attempt,
        subscription_id=subscription,
        subscriber_id="sam",
        influencer_id=influencer,
        venue=venue,
        asset=asset,
        trade_side=side,
        share_micros=share_micros,
        price_micros=price_micros or notional_micros * 1_000_000 // share_micros,
        notional_micros=notional_micros,
        fee_micros=fee_micros,
        share_delta_micros=side.sign * share_micros,
        cash_delta_micros=cash_delta(side, notional_micros, fee_micros),
        filled_at=at(1000),
    )


def bought(asset: str, size: str, price: str, *, fee: str = "0", **more: Any) -> OrderFilled:
    share, cost = micros(size), micros(price)
    return filled(BUY, share, times(cost, share), price_micros=cost, fee_micros=micros(fee), asset=asset, **more)


def sold(asset: str, size: str, price: str, *, fee: str = "0", **more: Any) -> OrderFilled:
    share, cost = micros(size), micros(price)
    return filled(SELL, share, times(cost, share), price_micros=cost, fee_micros=micros(fee), asset=asset, **more)


def completed(attempt: str = "att-1", **changes: Any) -> ExecutionCompleted:
    made = ExecutionCompleted(
        order_id=f"ord-{attempt}",
        attempt_id=attempt,
        subscription_id="sam-ann",
        subscriber_id="sam",
        venue=Venue.HYPERLIQUID,
        asset="BTC",
        requested_micros=1,
        filled_micros=0,
        notional_micros=0,
        fee_micros=0,
        average_price_micros=0,
        reasons=(),
        completed_at=at(1001),
    )
    return structs.replace(made, **changes)


def executed(*fills: OrderFilled, market: str = "", ms: int = 1000) -> tuple[Event, ...]:
    """Each fill between its decision and its result, under an attempt of its own: this is how a position arises.

    The decision's mid is the fill's price, `market` is the asset by default. Calls of one spec need an `ms` each.
    """
    events: list[Event] = []
    for number, fill in enumerate(fills):
        named = structs.replace(
            fill,
            attempt_id=f"{fill.attempt_id}/{ms}.{number}",
            order_id=f"{fill.order_id}/{ms}.{number}",
            fill_id=f"{fill.fill_id}/{ms}.{number}",
        )
        decision = decided(
            side=fill.trade_side,
            share_micros=fill.share_micros,
            mid_micros=fill.price_micros,
            attempt_id=named.attempt_id,
            subscription_id=fill.subscription_id,
            influencer_id=fill.influencer_id,
            venue=fill.venue,
            asset=fill.asset,
            market=market or fill.asset,
            decided_at=at(ms),
        )
        result = completed(named.attempt_id, subscription_id=fill.subscription_id, venue=fill.venue, asset=fill.asset)
        events += [decision, named, result]
    return tuple(events)
