"""A history of EXECUTIONS for benchmarks: the lives of subscribers as the stages write them, one commit a decision."""

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from domain.events import (
    Action,
    CashDeposited,
    Check,
    CopyDecided,
    Decision,
    Event,
    ExecutionCompleted,
    Mode,
    OrderFilled,
    OrderSubmitted,
    PositionChanged,
    TradeSide,
    Venue,
)
from domain.ids import derived
from domain.reason_codes import Reason
from streams import subjects
from streams.append import Record
from streams.envelope import Codec, address
from streams.topology import REQUESTS

SUBSCRIBERS = 2_000
ASSETS = ("BTC", "ETH", "SOL", "HYPE", "xyz:TSLA")
_COPIERS = 40
"""How many decisions a group leads to."""
_DAY = 86_400_000_000_000
_BEGIN = 1_790_000_000_000_000_000
_CHECKS = (
    "signal_age_ms", "spread_micros", "price_vs_influencer_micros", "price_vs_mid_micros", "depth_micros",
    "min_notional_micros", "exposure_total_micros", "exposure_market_micros", "exposure_influencer_micros",
    "leverage_micros",
)  # fmt: skip


def decision(random: Random, number: int, at: int, seen: int) -> Iterator[tuple[str, Event]]:
    """The events that one decision leads to, each with its id: five when something is copied, one when not.

    `seen` is the detect time of the group that it copies, the same for all of its copiers.
    """
    who = f"subscriber-{number % SUBSCRIBERS}"
    asset, side = random.choice(ASSETS), random.choice((TradeSide.BUY, TradeSide.SELL))
    price, share = random.randrange(10**6, 10**11), random.randrange(10**3, 10**8)
    if number < SUBSCRIBERS:
        deposit = derived("dep", who)
        yield (
            deposit,
            CashDeposited(
                deposit_id=deposit, subscriber_id=who, cash_delta_micros=10**10, config_sequence=1, deposited_at=at
            ),
        )
    skipped = random.random() < 0.1
    attempt = derived("att", number)
    ids: dict[str, Any] = {"subscription_id": f"{who}-whale-{number % 7}", "subscriber_id": who, "attempt_id": attempt}
    place: dict[str, Any] = {"venue": Venue.HYPERLIQUID, "asset": asset}
    yield (
        attempt,
        CopyDecided(
            **ids,
            **place,
            request_id=derived("req", number),
            influencer_id=f"whale-{number % 7}",
            group_id=derived("grp", number // _COPIERS),
            quote_id=derived("quo", number // _COPIERS),
            mode=Mode.PAPER,
            market=asset,
            action=Action.INCREASE,
            trade_side=side,
            decision=Decision.SKIP if skipped else Decision.EXECUTE,
            reasons=(Reason.SPREAD_TOO_WIDE,) if skipped else (),
            checks=tuple(
                Check(name, price + n, price + 10**6, not skipped or n != 1) for n, name in enumerate(_CHECKS)
            ),
            target_notional_micros=price,
            share_micros=share,
            reduce_micros=0,
            limit_price_micros=price,
            mid_micros=price,
            levels=((price, share), (price + 1000, share)),
            equity_micros=10**10,
            policy_hash="pol_0123456789abcdef",
            config_sequence=1,
            event_time=seen - 50_000_000,
            detect_time=seen,
            decided_at=at,
        ),
    )
    if skipped:
        return
    order = {**ids, **place, "order_id": derived("ord", number)}
    notional = price * share // 1_000_000
    fee = notional * 450 // 1_000_000
    yield (
        order["order_id"],
        OrderSubmitted(
            **order,
            cloid=f"0x{number:032x}",
            mode=Mode.PAPER,
            trade_side=side,
            share_micros=share,
            reduce_micros=0,
            limit_price_micros=price,
            submitted_at=at,
        ),
    )
    fill = derived("fil", number)
    yield (
        fill,
        OrderFilled(
            **order,
            fill_id=fill,
            influencer_id=f"whale-{number % 7}",
            trade_side=side,
            share_micros=share,
            price_micros=price,
            notional_micros=notional,
            fee_micros=fee,
            share_delta_micros=side.sign * share,
            cash_delta_micros=-side.sign * notional - fee,
            filled_at=at,
        ),
    )
    yield (
        f"{order['order_id']}.completed",
        ExecutionCompleted(
            **order,
            requested_micros=share,
            filled_micros=share,
            notional_micros=notional,
            fee_micros=fee,
            average_price_micros=price,
            reasons=(),
            completed_at=at,
        ),
    )
    yield (
        f"{order['order_id']}.position",
        PositionChanged(
            subscriber_id=who,
            **place,
            order_id=order["order_id"],
            share_micros=side.sign * share,
            cost_micros=notional,
            average_price_micros=price,
            realized_micros=0,
            changed_at=at,
        ),
    )


class Commit(NamedTuple):
    """A message as it is stored, and how many events it holds."""

    record: Record
    events: int


def history(codec: Codec, events: int, *, days: int = 10, seed: int = 7) -> Iterator[Commit]:
    """So many events, spread over so many days, in a commit for each decision."""
    random, number, count, seen = Random(seed), 0, 0, 0
    while count < events:
        at = _BEGIN + count * days * _DAY // events
        if number % _COPIERS == 0:
            seen = at - 800_000_000
        made = list(decision(random, number, at, seen))[: events - count]
        payload = codec.encode_commit(
            made,
            source="vibe/bench",
            time_ns=at,
            correlation=derived("grp", number // _COPIERS),
            causation=address(REQUESTS.name, number // _COPIERS + 1, number % _COPIERS + 1),
        )
        yield Commit(Record(subjects.executions(f"subscriber-{number % SUBSCRIBERS}"), payload), len(made))
        count += len(made)
        number += 1
