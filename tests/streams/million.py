"""A planner's life: generated EXECUTIONS events, and how fast a stage with a million of them starts.

    python -m tests.streams.million [EVENTS [SUBSCRIBERS]]

Starts a server of its own, stores the events, starts the plan stage on four lanes from a replay of them all and again
from the snapshots that it leaves behind, compares the states and prints the times.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import structlog

from domain.events import Action as Does
from domain.events import (
    CashDeposited,
    CopyDecided,
    Decision,
    Event,
    ExecutionCompleted,
    Mode,
    OrderFilled,
    OrderSubmitted,
    TradeSide,
    Venue,
)
from domain.portfolio import Portfolio
from domain.position import cash_delta
from domain.reason_codes import Reason
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from handlers.live.mark_prices import LiveMarkPrices
from handlers.plan import Plan, PlanState
from streams import subjects
from streams.append import MAX_BATCH, Record, append
from streams.connection import Connection, connect
from streams.processing.stage_runner import StageRunner
from streams.subjects import Lane, lanes
from tests.streams.own_server import own_server

ASSETS = ("BTC", "ETH", "SOL", "xyz:TSLA")
_CODEC = codec()


def one_request(random: Random, subscriber: str, number: int) -> Iterator[Event]:
    """Five events of one subscriber: a deposit, a decision, its order, one fill, the result; or two, when skipped."""
    ids: dict[str, Any] = {"subscriber_id": subscriber, "subscription_id": f"{subscriber}-{number % 3}"}
    place: dict[str, Any] = {"venue": Venue.HYPERLIQUID, "asset": random.choice(ASSETS)}
    side = random.choice(list(TradeSide))
    price, share = random.randrange(1, 10**11), random.randrange(1, 10**8)
    yield CashDeposited(
        deposit_id=f"dep_{subscriber}_{number}",
        subscriber_id=subscriber,
        cash_delta_micros=random.randrange(-(10**6), 10**10),
        config_sequence=1,
        deposited_at=number,
    )
    skipped = random.random() < 0.1
    attempt = f"att_{subscriber}_{number}"
    yield CopyDecided(
        **ids,
        **place,
        attempt_id=attempt,
        request_id=f"req_{subscriber}_{number}",
        influencer_id=f"whale-{number % 7}",
        group_id=f"grp_{number}",
        quote_id=None,
        mode=Mode.PAPER,
        market=place["asset"],
        action=Does.OPEN,
        trade_side=side,
        decision=Decision.SKIP if skipped else Decision.EXECUTE,
        reasons=(next(iter(Reason)),) if skipped else (),
        checks=(),
        target_notional_micros=price,
        share_micros=share,
        reduce_micros=random.randrange(share),
        limit_price_micros=price,
        mid_micros=random.randrange(1, 10**11),
        levels=((price, share),),
        equity_micros=10**10,
        policy_hash="p",
        config_sequence=1,
        event_time=number,
        detect_time=number,
        decided_at=number,
    )
    if skipped:
        return
    order: dict[str, Any] = {**ids, **place, "order_id": f"ord_{attempt}", "attempt_id": attempt}
    yield OrderSubmitted(
        **order,
        cloid="0x0",
        mode=Mode.PAPER,
        trade_side=side,
        share_micros=share,
        reduce_micros=0,
        limit_price_micros=price,
        submitted_at=number,
    )
    filled = random.randrange(1, share + 1)
    notional = price * filled // 1_000_000
    fee = notional * 450 // 1_000_000
    yield OrderFilled(
        **order,
        fill_id=f"fill_{attempt}",
        influencer_id=f"whale-{number % 7}",
        trade_side=side,
        share_micros=filled,
        price_micros=price,
        notional_micros=notional,
        fee_micros=fee,
        share_delta_micros=side.sign * filled,
        cash_delta_micros=cash_delta(side, notional, fee),
        filled_at=number,
    )
    yield ExecutionCompleted(
        **order,
        requested_micros=share,
        filled_micros=filled,
        notional_micros=notional,
        fee_micros=fee,
        average_price_micros=price,
        reasons=(),
        completed_at=number,
    )


def subscriber_events(subscribers: int, *, seed: int = 1) -> Iterator[Record]:
    """The stored events of so many subscribers, one round of them after the other, without end."""
    random = Random(seed)
    number = 0
    while True:
        number += 1
        for subscriber in range(subscribers):
            name = f"subscriber-{subscriber}"
            for count, event in enumerate(one_request(random, name, number)):
                payload = _CODEC.encode(event, id=f"{name}.{number}.{count}", source="tests", time_ns=number)
                yield Record(subjects.executions(name), payload)


async def store(connection: Connection, events: Iterator[Record], count: int) -> None:
    """Store the next `count` events."""
    for start in range(0, count, MAX_BATCH):
        await append(connection, [next(events) for _ in range(min(MAX_BATCH, count - start))])


class ObservedPlan(Plan):
    """Keeps the state of each lane for the caller to look at."""

    def __init__(self, configuration: LiveConfiguration, prices: LiveMarkPrices) -> None:
        super().__init__(configuration, prices)
        self.states: dict[Lane, PlanState] = {}

    def initial(self, lane: Lane) -> PlanState:
        self.states[lane] = super().initial(lane)
        return self.states[lane]

    def restore_parts(self, parts: Mapping[str, bytes], lane: Lane) -> PlanState:
        self.states[lane] = super().restore_parts(parts, lane)
        return self.states[lane]


async def start_and_stop(connection: Connection) -> tuple[float, dict[str, Portfolio]]:
    """Run the plan stage on four lanes until it is ready, and stop it: (seconds to get ready, all portfolios)."""
    stage = ObservedPlan(LiveConfiguration(connection, _CODEC), LiveMarkPrices(connection, _CODEC))
    runner = StageRunner(connection, _CODEC, stage, lanes(4), time.time_ns)
    stop, began = asyncio.Event(), time.perf_counter()
    running = asyncio.create_task(runner.run(stop))
    await runner.ready()
    seconds = time.perf_counter() - began
    stop.set()
    await running
    lanes_portfolios = [state.portfolios.of for state in stage.states.values()]
    return seconds, {name: portfolio for of in lanes_portfolios for name, portfolio in of.items()}


async def main(events: int, subscribers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with own_server(Path(folder)) as server:
            connection = await connect(server.url, "million")
            began = time.perf_counter()
            await store(connection, subscriber_events(subscribers), events)
            stored = time.perf_counter() - began
            replay, replayed = await start_and_stop(connection)
            snapshot, restored = await start_and_stop(connection)
            state = (await connection.api("STREAM.INFO.SNAPSHOTS"))["state"]
            await connection.close()
    result = {
        "events": events,
        "subscribers": len(replayed),
        "stored_s": round(stored, 1),
        "replay_s": round(replay, 2),
        "snapshot_s": round(snapshot, 2),
        "snapshot_bytes": state["bytes"],
        "equal": replayed == restored,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(*map(int, (*sys.argv[1:], *("1000000", "200000")[len(sys.argv) - 1 :]))))
