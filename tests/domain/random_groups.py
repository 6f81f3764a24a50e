"""Random groups, the requests for them and the portfolios that they meet: for comparing many thousand decisions."""

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from msgspec import structs

from domain.events import (
    BreakerLimit,
    ControlState,
    Event,
    ExecutionRequested,
    ExitOwed,
    ExitTry,
    Level,
    LiveAccount,
    Mode,
    PortfolioScope,
    PositionState,
    Sizing,
    Venue,
)
from domain.guardrails import Policy
from domain.micros import MICRO
from domain.reason_codes import Reason
from tests.domain.decision_specs import tripped
from tests.domain.facts import at, bought, decided, deposited, executed, fixed, on_polymarket, requested, sold, terms

COPIED_FROM = {"sam-ann": "ann", "sam-ann-2": "ann", "sam-bob": "bob"}
SCALES = {
    "min_notional_micros": [0, 5_000_000, 20_000_000],
    "max_notional_micros": [250_000_000, 30_000_000, 2_000_000_000],
    "max_equity_fraction_micros": [7_500, 100_000, 1_000_000],
    "total_exposure_micros": [700_000, 5_000_000, 100_000],
    "market_exposure_micros": [50_000, 900_000],
    "influencer_exposure_micros": [200_000, 2_000_000],
    "notional_cap_micros": [0, 0, 60_000_000],
    "max_leverage_micros": [5_000_000, 0, 300_000],
    "max_loss_micros": [0, 0, 10_000_000],
    "assumed_move_micros": [100_000, 0, 900_000],
    "accumulate": [1, 1, 0],
    "reduce_by_notional": [0, 1],
    "depth_ratio_micros": [1_250_000, 0, 9_000_000],
    "taker_fee_micros": [450, 0, 100_000],
    "influencer_price_bps": [10, 50, 1_000],
    "mid_price_bps": [15, 500, 1],
    "spread_bps": [20, 200, 2],
    "spread_micros": [20_000, 1_000],
    "max_signal_age_ms": [60_000, 60_000, 500],
    "max_quote_age_ms": [5_000, 0, 50],
    "close_guard_ms": [1_800_000, 0],
    "close_guard_share_micros": [250_000, 0],
    "reduction_band_micros": [1_000_000, 3_000_000],
    "influencer_price_micros": [10_000, 100_000],
    "mid_price_micros": [15_000, 100_000, 100],
}
MILD = {
    "influencer_price_bps": 1_000,
    "mid_price_bps": 500,
    "influencer_price_micros": 100_000,
    "mid_price_micros": 100_000,
    "market_exposure_micros": 900_000,
    "influencer_exposure_micros": 2_000_000,
    "total_exposure_micros": 5_000_000,
    "max_equity_fraction_micros": 100_000,
}
"""Guardrails under which most of what is asked for is executed."""
WAYS = (
    *(("0", "1"), ("1", "2.5"), ("2", "1"), ("3", "0.1"), ("2", "0"), ("1", "-0.7")),
    *(("-1", "1"), ("0", "-2"), ("-2", "-1.3"), ("-1", "0"), ("0", "0.05")),
)


class Asked(NamedTuple):
    """One request with the policy that its hash names, and why an operator lets it open nothing."""

    request: ExecutionRequested
    policy: Policy
    disabled: Reason | None


def history(random: Random) -> Iterator[Event]:
    """A deposit, positions in both venues, orders that are still pending, residuals, now and then a tripped breaker."""
    yield deposited(str(random.choice([0, 5, 100, 1_000, 10_000, 10_000, 10_000, 50_000, 250_000])))
    pending = random.random() < 0.25
    for number in range(random.choice([0, 1, 2, 5, 12])):
        outcome = random.random() < 0.4
        asset = random.choice(["yes", "yes", "no", "7"] if outcome else ["BTC", "BTC", "BTC", "ETH", "xyz:A", "SOL"])
        price = random.choice(["0.3", "0.51", "0.9"] if outcome else ["100", "99.9", "101.123456", "7"])
        size = random.choice(["5", "33.33", "200"] if outcome else ["0.0137", "0.5", "2", "7.777777", "40"])
        subscription = random.choice(["sam-ann", "sam-ann", "sam-ann-2", "sam-bob"])
        fill = (bought if outcome or random.random() < 0.5 else sold)(
            asset,
            size,
            price,
            fee=random.choice(["0", "0.01"]),
            subscription=subscription,
            influencer=COPIED_FROM[subscription],
            attempt=f"h{number}",
            venue=Venue.POLYMARKET if outcome else Venue.HYPERLIQUID,
        )
        market = "race" if outcome and asset != "7" else random.choice(["", asset])
        made = executed(fill, market=market, ms=-5000 + number)
        yield from made[:1] if pending and random.random() < 0.5 else made
    if random.random() < 0.3:
        yield waiting(random)
    if random.random() < 0.06:
        yield tripped(random.choice(list(BreakerLimit)))


def waiting(random: Random) -> Event:
    venue, asset = random.choice([(Venue.HYPERLIQUID, "BTC"), (Venue.POLYMARKET, "yes")])
    return decided(
        attempt_id="att-w",
        decision=decided().decision.SKIP,
        share_micros=0,
        mid_micros=0,
        venue=venue,
        asset=asset,
        residual_micros=random.choice([0, 4 * MICRO, -4 * MICRO, 9_990_000]),
        residual_share_micros=random.choice([0, 0, 1_000, MICRO]),
    )


def policy(random: Random) -> Policy:
    mild = random.random() < 0.7
    values = {name: random.choice(of) for name, of in SCALES.items() if random.random() < (0.12 if mild else 0.4)}
    return Policy(**({**values, **MILD} if mild else values))


def levels(random: Random, top: int, gap: int, sizes: list[float]) -> tuple[Level, ...]:
    made, price = [], top
    for _ in range(random.choice([1, 3, 3, 20])):
        made.append((price, int(random.choice(sizes) * MICRO) + random.randrange(3)))
        price += gap * random.choice([1, 2])
    return tuple(level for level in made if level[0] > 0)


def group(random: Random) -> ExecutionRequested:
    """What all requests for one group have in common."""
    changes: dict[str, Any] = {
        "influencer_id": random.choice(["ann", "ann", "bob"]),
        "position_state": random.choice([PositionState.KNOWN] * 12 + [PositionState.ASSUMED]),
        "influencer_equity_micros": random.choice([50_000 * MICRO] * 4 + [None, 0, 1_234_567_890]),
    }
    before, after = random.choice(WAYS)
    if random.random() < 0.4:
        made = _outcome(random, before, after, changes)
    else:
        bids = levels(random, 99_950_000, -10_000, [0.01, 0.2, 5, 40])
        asks = levels(random, random.choice([100_050_000, 100_000_000, 99_960_000]), 10_000, [0.01, 0.2, 5, 40, 0])
        made = requested(
            before=before,
            after=after,
            price=random.choice(["100", "100.02", "99.97"]),
            bids=bids,
            asks=asks,
            lot=random.choice(["0.001", "0.00001", "1", "0.5"]),
            **changes,
        )
    if random.random() < 0.03:
        made = structs.replace(made, quote=None, quote_reason=random.choice([None, Reason.BOOK_EMPTY]))
    return made


def _outcome(random: Random, before: str, after: str, changes: dict[str, Any]) -> ExecutionRequested:
    held = abs(int(float(before) * 400))
    wanted = abs(int(float(after) * 400))
    closes = terms(closes_at=at(random.choice([10_000, 9_000_000, 0])))
    made = on_polymarket(
        before=str(held),
        after=str(wanted if wanted != held else held + 100),
        price=random.choice(["0.50", "0.505", "0.47"]),
        bids=levels(random, 490_000, -10_000, [5, 40, 1_000]),
        asks=levels(random, random.choice([500_000, 510_000]), 10_000, [5, 40, 1_000, 0]),
        terms=random.choice(
            [None, *[terms()] * 3, terms(fee_rate_micros=0), closes, terms(accepting=False), terms(tick_micros=1_000)]
        ),
        **changes,
    )
    if random.random() < 0.3:
        made = structs.replace(made, asset=random.choice(["no", "7"]), market=random.choice(["race", "", "other"]))
    return made


def asked(random: Random, group: ExecutionRequested, number: int, under: Policy) -> Asked:
    """A request for the group, of a subscription with this policy."""
    subscription = random.choice([one for one, whom in COPIED_FROM.items() if whom == group.influencer_id])
    sizing = random.choice(
        [
            fixed(random.choice(["50", "3", "12", "700"])),
            Sizing("copy_percent", percent_micros=random.choice([10, 50, 100, 3]) * MICRO + random.randrange(5)),
            Sizing("percent_of_equity", percent_micros=random.choice([500_000, 5 * MICRO, 40 * MICRO])),
            Sizing("proportional", percent_micros=random.choice([100, 30]) * MICRO),
        ]
    )
    request = structs.replace(
        group,
        request_id=f"req-{number}",
        subscription_id=subscription,
        sizing=sizing,
        policy_hash=f"policy-{number}",
        mode=random.choice([Mode.PAPER] * 14 + [Mode.LIVE, Mode.LIVE, Mode.RECORD_ONLY]),
        account=random.choice([None, LiveAccount("0xaa", "agent")]),
        scope=random.choice([PortfolioScope.SUBSCRIBER] * 3 + [PortfolioScope.EXEC_GLOBAL]),
        opening_blocked=random.choice([None] * 14 + ["SIDE_NOT_WANTED"]),
    )
    return Asked(request, under, random.choice([None] * 20 + [Reason.SUBSCRIBER_DISABLED, Reason.MARKET_BLOCKED]))


def tried(random: Random, owed: ExitOwed) -> ExecutionRequested:
    """A try of what is owed, of all subscriptions' requests for it; now and then one that was made before."""
    while True:
        found = group(random)
        if (found.venue, found.trade_side) == (owed.venue, owed.trade_side) and found.action.value in ("CLOSE", "FLIP"):
            break
    return structs.replace(
        found,
        influencer_id=owed.influencer_id,
        asset=owed.asset,
        market=owed.market,
        action=owed.action,
        before_micros=0,
        after_micros=0,
        notional_micros=0,
        price_micros=owed.price_micros,
        exit=ExitTry(owed.exit_id, owed.tries + random.choice([1, 1, 1, 1, 0])),
    )


def switches(random: Random) -> dict[str, Any]:
    """The inputs of a decision that operators and venues change."""
    return {
        "engine": random.choice([ControlState.RUNNING] * 20 + [ControlState.RECORD_ONLY]),
        "stopped": random.random() < 0.02,
        "resolved": random.random() < 0.03,
    }
