"""Facts for specs, with defaults: name only what the rule is about. Prices, sizes and money are decimal strings.

The world of the defaults: Ann (influencer) buys 1 BTC at 100 USD; Sam (subscriber, 10,000 USD) copies her for a fixed
50 USD; the book is 99.95 / 100.05 with a lot of 0.001.
"""

from typing import Any

from msgspec import structs

from domain import groups, influencer_account, portfolio
from domain.configuration import Configuration
from domain.decision_inputs import DecisionInputs
from domain.events import (
    AccountSeeded,
    Action,
    CashDeposited,
    ControlState,
    CopyDecided,
    Decision,
    Event,
    ExecutionCompleted,
    ExecutionRequested,
    Filters,
    GroupClosed,
    InfluencerConfigured,
    Level,
    Mode,
    OrderFilled,
    PositionState,
    QuoteCaptured,
    QuoteFailed,
    RequestedQuote,
    SeededPosition,
    SignalGrouped,
    SignalRecorded,
    Sizing,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
    Terms,
    TradeSide,
    Venue,
)
from domain.groups import OpenGroup
from domain.influencer_account import Account
from domain.micros import micros, times
from domain.portfolio import Portfolio
from domain.position import cash_delta
from domain.reason_codes import Reason
from domain.signals import Trade, action_of, side_of
from domain.testing import Aggregate

T0 = 1_784_683_600_000_000_000
MS = 1_000_000
ANN = "0x" + "a" * 40
BOB = "0x" + "b" * 40

BUY, SELL = TradeSide.BUY, TradeSide.SELL


def _account(state: Account, event: Event) -> Account:
    influencer_account.evolve(state, event)
    return state


PORTFOLIO: Aggregate[Portfolio] = Aggregate(Portfolio, portfolio.evolve)
WINDOW: Aggregate[OpenGroup | None] = Aggregate(lambda: None, groups.evolve)
ACCOUNT: Aggregate[Account] = Aggregate(Account, _account)


def at(ms: int) -> int:
    """A time: milliseconds after the beginning of every spec, in ns."""
    return T0 + ms * MS


def levels(*texts: str) -> tuple[Level, ...]:
    """'100.05 x 3' -> (100_050_000, 3_000_000)."""
    pairs = (text.split(" x ") for text in texts)
    return tuple((micros(price), micros(size)) for price, size in pairs)


# --- what an influencer does -------------------------------------------------------------------------------


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


# --- what the venue shows ----------------------------------------------------------------------------------

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
        quote_id="quo-1", group=group or group_closed(), reason=reason, detail="as given", failed_at=at(910)
    )


# --- what is asked for and decided -------------------------------------------------------------------------


def requested(
    *,
    before: str = "0",
    after: str = "1",
    price: str = "100",
    bids: tuple[Level, ...] = BIDS,
    asks: tuple[Level, ...] = ASKS,
    lot: str = "0.001",
    sizing: Sizing | None = None,
    mode: Mode = Mode.PAPER,
    **changes: Any,
) -> ExecutionRequested:
    """A request to copy an influencer's way from `before` to `after`."""
    group = group_closed(before=before, after=after, price=price)
    taken = asks if group.trade_side is BUY else bids
    made = ExecutionRequested(
        request_id="req-1",
        subscription_id="sam-ann",
        subscriber_id="sam",
        influencer_id="ann",
        mode=mode,
        group_id=group.group_id,
        venue=group.venue,
        asset=group.asset,
        market=group.market,
        action=group.action,
        trade_side=group.trade_side,
        before_micros=group.before_micros,
        after_micros=group.after_micros,
        notional_micros=group.notional_micros,
        price_micros=group.price_micros,
        event_time=group.event_time,
        detect_time=group.detect_time,
        quote=RequestedQuote("quo-1", bids[0][0], asks[0][0], taken, micros(lot), at(910)),
        quote_reason=None,
        sizing=sizing or fixed("50"),
        policy_hash="policy-1",
        config_sequence=7,
    )
    return structs.replace(made, **changes)


PM_BIDS = levels("0.49 x 1000", "0.48 x 2000")
PM_ASKS = levels("0.51 x 1000", "0.52 x 2000")


def terms(**changes: Any) -> Terms:
    """What Polymarket asks of an order: two decimals of shares, at least five, a tick of a cent, 5 % of p (1 - p)."""
    usual = Terms(
        size_step_micros=10_000,
        tick_micros=10_000,
        min_share_micros=micros("5"),
        min_notional_micros=micros("1"),
        fee_rate_micros=50_000,
        market="race",
    )
    return structs.replace(usual, **changes)


def on_polymarket(
    *,
    before: str = "0",
    after: str = "1000",
    price: str = "0.50",
    bids: tuple[Level, ...] = PM_BIDS,
    asks: tuple[Level, ...] = PM_ASKS,
    terms: Terms | None = terms(),  # noqa: B008 - frozen
    **changes: Any,
) -> ExecutionRequested:
    """A request to copy an influencer's way in one outcome of a race, from `before` to `after` shares."""
    made = requested(before=before, after=after, price=price, bids=bids, asks=asks, lot="0.01", **changes)
    quote = structs.replace(made.quote, terms=terms) if made.quote else None
    usual = {"venue": Venue.POLYMARKET, "asset": "yes", "market": "race", "quote": quote}
    return structs.replace(made, **{**usual, **changes})


def inputs(**changes: Any) -> DecisionInputs:
    """Nothing is switched off, marked or resolved; CONFIG is at 7, executions at 3, marks at 5."""
    usual = DecisionInputs(ControlState.RUNNING, False, None, False, lambda asset: None, 3, 7, 5)
    return usual._replace(**changes)


def fixed(usd: str) -> Sizing:
    return Sizing("fixed_notional", notional_micros=micros(usd))


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
        portfolio_sequence=0,
        config_sequence=7,
        event_time=at(0),
        detect_time=at(40),
        decided_at=at(1000),
    )
    return structs.replace(made, **changes)


# --- what a subscriber has ---------------------------------------------------------------------------------


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
    """Each fill between its decision and its result, under an attempt of its own: how a position comes about.

    The decision's mid is the fill's price, `market` the asset unless it is given. Calls of one spec need an `ms` each.
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


# --- what is configured ------------------------------------------------------------------------------------


def influencer(
    id: str = "ann", *addresses: str, status: Status = Status.ACTIVE, venue: Venue = Venue.HYPERLIQUID
) -> InfluencerConfigured:
    return InfluencerConfigured(
        id=id, venue=venue, addresses=addresses or (ANN,), label=id.title(), status=status, actor="ops"
    )


def subscriber(id: str = "sam", *, mode: Mode = Mode.PAPER, status: Status = Status.ACTIVE) -> SubscriberConfigured:
    return SubscriberConfigured(id=id, mode=mode, deposit_micros=micros("10000"), status=status, actor="ops")


def subscription(
    id: str = "sam-ann",
    *,
    subscriber: str = "sam",
    influencer: str = "ann",
    status: Status = Status.ACTIVE,
    filters: Filters | None = None,
    limits: dict[str, int] | None = None,
) -> SubscriptionConfigured:
    return SubscriptionConfigured(
        id=id,
        subscriber_id=subscriber,
        influencer_id=influencer,
        sizing=fixed("50"),
        limits=limits or {},
        filters=filters or Filters(),
        status=status,
        actor="ops",
    )


def configuration(*events: Event, ms: int = -1000) -> Configuration:
    """What these events configure, recorded a second before anything happens."""
    made = Configuration()
    for event in events:
        made.evolve(event, at(ms))
    return made
