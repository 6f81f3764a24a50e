"""Whole lives of a portfolio, for property tests: orders of two venues and subscriptions, deposits, settlements
and their corrections, breakers."""

from typing import Any, NamedTuple

from hypothesis import strategies as st
from msgspec import structs

from domain.events import (
    BreakerLimit,
    BreakerReset,
    BreakerTripped,
    CopyDecided,
    Decision,
    EquityMarked,
    Event,
    ExecutionCompleted,
    OrderFilled,
    PositionSettled,
    SettlementCorrected,
    Venue,
)
from domain.micros import MICRO, times
from domain.portfolio import Portfolio, evolve, settlements
from tests.domain.facts import BUY, SELL, at, completed, decided, deposited, filled

ASSETS = ((Venue.HYPERLIQUID, "BTC"), (Venue.HYPERLIQUID, "xyz:SP500"), (Venue.POLYMARKET, "7"))
SUBSCRIPTIONS = ("sam-ann", "sam-bob")


def settled(
    asset: str,
    share_micros: int,
    price_micros: int,
    *,
    subscription: str = "sam-ann",
    venue: Venue = Venue.POLYMARKET,
    id: str = "",
) -> PositionSettled:
    """A resolved market pays `price_micros` for each of `share_micros` (signed) that are held."""
    return PositionSettled(
        settlement_id=id or f"set-{subscription}-{asset}",
        subscriber_id="sam",
        subscription_id=subscription,
        influencer_id="ann",
        venue=venue,
        asset=asset,
        market="race",
        price_micros=price_micros,
        share_delta_micros=-share_micros,
        cash_delta_micros=times(price_micros, share_micros),
        resolution_id="res-1",
        settled_at=at(5000),
    )


def corrected(
    asset: str,
    share_micros: int,
    paid_micros: int,
    price_micros: int,
    *,
    subscription: str = "sam-ann",
    venue: Venue = Venue.POLYMARKET,
    id: str = "cor-1",
) -> SettlementCorrected:
    """The venue pays another price for what `settled` paid."""
    return SettlementCorrected(
        correction_id=id,
        subscriber_id="sam",
        subscription_id=subscription,
        influencer_id="ann",
        venue=venue,
        asset=asset,
        market="race",
        share_micros=share_micros,
        paid_price_micros=paid_micros,
        price_micros=price_micros,
        cash_delta_micros=times(price_micros, share_micros) - times(paid_micros, share_micros),
        resolution_id="res-2",
        corrected_at=at(6000),
    )


def breaker_event(kind: int, number: int, equity_micros: int) -> Event:
    """An event of a breaker: 0 a reference, 1 a trip, 2 a reset."""
    limit, now = BreakerLimit.DRAWDOWN, at(number)
    common: dict[str, Any] = {"subscriber_id": "sam", "equity_micros": equity_micros}
    if kind == 0:
        return EquityMarked(marks_sequence=1, marked_at=now, **common)
    if kind == 1:
        return BreakerTripped(
            limit=limit,
            floor_micros=0,
            reference_micros=0,
            marks_sequence=1,
            config_sequence=number,
            tripped_at=now,
            **common,
        )
    return BreakerReset(limit=limit, actor="ops", config_sequence=number, reset_at=now, **common)


class Drawn(NamedTuple):
    """One step of a life; `what` decides which of the numbers matter."""

    what: str
    asset: int
    subscription: int
    side: int
    size: int
    notional: int
    fee: int
    parts: int
    completes: bool
    price: int


drawn = st.builds(
    Drawn,
    what=st.sampled_from(["order"] * 5 + ["deposit", "skip", "settle", "breaker"]),
    asset=st.integers(0, 2),
    subscription=st.integers(0, 1),
    side=st.integers(0, 1),
    size=st.integers(3, 12) | st.integers(3, 10**12),
    notional=st.integers(0, 100) | st.integers(0, 10**13),
    fee=st.integers(0, 10**7),
    parts=st.integers(0, 3),
    completes=st.booleans() | st.just(True),
    price=st.sampled_from([0, MICRO // 2, MICRO]) | st.integers(0, 10**11),
)


def orders(one: Drawn, number: int) -> list[Event]:
    """A decision, its fills, and its result unless it is still pending."""
    venue, asset = ASSETS[one.asset]
    subscription, side = SUBSCRIPTIONS[one.subscription], (BUY, SELL)[one.side]
    attempt = f"att-{number}"
    decision = decided(
        side=side,
        share_micros=one.size,
        attempt_id=attempt,
        subscription_id=subscription,
        venue=venue,
        asset=asset,
        market=asset,
        mid_micros=one.price,
        decided_at=at(number),
        residual_micros=one.fee % 3,
    )
    events: list[Event] = [decision]
    for part in range(one.parts):
        fill = filled(
            side,
            one.size // 3,
            one.notional // (part + 1),
            fee_micros=one.fee,
            asset=asset,
            subscription=subscription,
            attempt=attempt,
            venue=venue,
        )
        events.append(structs.replace(fill, fill_id=f"fil-{number}.{part}"))
    if one.completes:
        events.append(completed(attempt, subscription_id=subscription, venue=venue, asset=asset))
    return events


def life(happened: list[Drawn], *, settling: bool = True) -> list[Event]:
    """The events of everything drawn, settlements of what the portfolio holds."""
    events: list[Event] = []
    for number, one in enumerate(happened):
        venue, asset = ASSETS[one.asset]
        match one.what:
            case "order":
                events += orders(one, number)
            case "deposit":
                cash = one.notional * (1 if one.side else -1)
                events.append(structs.replace(deposited(id=f"dep-{number}"), cash_delta_micros=cash))
            case "skip":
                events.append(
                    decided(
                        decision=Decision.SKIP,
                        attempt_id=f"att-{number}",
                        venue=venue,
                        asset=asset,
                        mid_micros=one.price,
                        decided_at=at(number),
                    )
                )
            case "breaker":
                events.append(breaker_event(one.parts % 3, number, one.notional))
            case "settle" if settling:
                portfolio = Portfolio()
                for event in events:
                    evolve(portfolio, event)
                for who, part in settlements(portfolio, (venue.value, asset)):
                    of: dict[str, Any] = {"subscription": who, "venue": venue}
                    events.append(settled(asset, part.share_micros, one.price, id=f"set-{number}-{who}", **of))
                    if one.side:
                        right = max(0, MICRO - one.price)
                        correction = corrected(
                            asset, part.share_micros, one.price, right, id=f"cor-{number}-{who}", **of
                        )
                        events.append(correction)
    return events


lives = st.lists(drawn, max_size=14).map(life)
unsettled_lives = st.lists(drawn, max_size=14).map(lambda happened: life(happened, settling=False))


def is_planned(event: Event) -> bool:
    """True for what `plan` writes itself; `execute` writes the rest."""
    return not isinstance(event, OrderFilled | ExecutionCompleted)


def attempt_of(event: Event) -> str | None:
    return event.attempt_id if isinstance(event, CopyDecided | OrderFilled | ExecutionCompleted) else None
