"""Guardrails: the limits a decision is checked against, each declared once.

Precedence: defaults < global < influencer < subscriber < subscription. The evaluated policy is stored once in the log
under its hash, and every decision names the hash. Units are part of the names: `_bps` are basis points of a price,
`_micros` dollars, or a fraction of one where the line says so (50_000 = 5 %), `_ms` milliseconds. Whether a venue's
price limits are the ones in bps or those in dollars is in domain/venues.py.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, NamedTuple, get_type_hints

import msgspec
from msgspec import Struct

from domain.events import Venue
from domain.micros import BPS
from domain.venues import VENUES, PriceLimit

GLOBAL = "global"


class Guardrail(NamedTuple):
    """What is declared of a guardrail beside its name and default: a line for operators, and its value in policies that
    were stored before it existed (None where every stored policy has it)."""

    text: str
    before: int | None = None


class Policy(Struct, frozen=True, gc=False):
    """The declaration of every guardrail with its default; an evaluated policy is one set of values."""

    influencer_price_micros: Annotated[int, Guardrail("furthest from the influencer's price, in dollars")] = 10_000
    influencer_price_bps: Annotated[int, Guardrail("furthest from the influencer's price, in bps")] = 10
    mid_price_micros: Annotated[int, Guardrail("furthest from the mid at decision, in dollars")] = 15_000
    mid_price_bps: Annotated[int, Guardrail("furthest from the mid at decision, in bps")] = 15
    spread_micros: Annotated[int, Guardrail("widest spread to open in, in dollars")] = 20_000
    spread_bps: Annotated[int, Guardrail("widest spread to open in, in bps")] = 20
    depth_ratio_micros: Annotated[int, Guardrail("how many times the order the price band must hold")] = 1_250_000
    latency_ms: Annotated[int, Guardrail("paper latency: from the end of the group's window to the quote")] = 750
    latency_jitter_ms: Annotated[int, Guardrail("paper latency: most that is added, derived from the group")] = 250
    max_signal_age_ms: Annotated[int, Guardrail("oldest signal that opens anything")] = 60_000
    max_quote_age_ms: Annotated[int, Guardrail("oldest quote that opens anything; 0 = off", before=0)] = 5_000
    min_notional_micros: Annotated[int, Guardrail("smallest order, in dollars; the venue's own holds too")] = 5_000_000
    max_notional_micros: Annotated[int, Guardrail("largest opening, in dollars")] = 250_000_000
    max_equity_fraction_micros: Annotated[int, Guardrail("largest opening, as a fraction of equity")] = 7_500
    total_exposure_micros: Annotated[int, Guardrail("most at risk in all, as a fraction of equity")] = 700_000
    market_exposure_micros: Annotated[int, Guardrail("most at risk in one market, as a fraction of equity")] = 50_000
    influencer_exposure_micros: Annotated[
        int, Guardrail("most at risk copied from one influencer, as a fraction of equity")
    ] = 200_000
    taker_fee_micros: Annotated[int, Guardrail("paper fee as a fraction of notional, without a venue's rate")] = 450
    notional_cap_micros: Annotated[
        int, Guardrail("most that one market may hold of one portfolio, in dollars; 0 = no cap", before=0)
    ] = 0
    max_leverage_micros: Annotated[int, Guardrail("total exposure over equity; 0 = no limit", before=0)] = 5_000_000
    max_loss_micros: Annotated[
        int, Guardrail("most that one trade may lose, in dollars: all of its cost or assumed_move; 0 = off", before=0)
    ] = 0
    assumed_move_micros: Annotated[int, Guardrail("the move that max_loss assumes, as a fraction of price")] = 100_000
    close_guard_ms: Annotated[
        int, Guardrail("nothing is opened this long before a market closes; 0 = off", before=0)
    ] = 1_800_000
    close_guard_share_micros: Annotated[
        int, Guardrail("most of a market's own length that close_guard takes; 0 = all of close_guard", before=0)
    ] = 250_000
    daily_loss_micros: Annotated[
        int, Guardrail("loss since the start of the UTC day that trips, as a fraction of equity; 0 = off", before=0)
    ] = 30_000
    weekly_loss_micros: Annotated[
        int, Guardrail("loss since the start of the ISO week that trips, as a fraction of equity; 0 = off", before=0)
    ] = 80_000
    drawdown_micros: Annotated[
        int, Guardrail("fall from the equity's peak that trips, as a fraction of it; 0 = off", before=0)
    ] = 120_000
    reduction_band_micros: Annotated[
        int, Guardrail("price limits of a reduction over those of an opening", before=1_000_000)
    ] = 1_000_000
    reduce_by_notional: Annotated[
        int,
        Guardrail(
            "0: a reduction gives up the fraction that the influencer gave up; 1: what sizing makes of its notional",
            before=0,
        ),
    ] = 0
    accumulate: Annotated[
        int, Guardrail("1: what is below the minimum waits until it has added up; 0: it is skipped", before=0)
    ] = 1
    exit_widening: Annotated[
        int,
        Guardrail("1: the price band of an owed exit widens with its tries; 0: it stays that of a reduction", before=0),
    ] = 1
    exits_while_paused: Annotated[
        int, Guardrail("1: a paused engine lets reductions through; 0: it holds them", before=0)
    ] = 0
    exit_max_band_micros: Annotated[int, Guardrail("widest price band of an owed exit, in dollars")] = 100_000
    exit_max_band_bps: Annotated[int, Guardrail("widest price band of an owed exit, in bps")] = 800
    exit_step_1_micros: Annotated[int, Guardrail("band after one refusal, as a fraction of the widest")] = 31_250
    exit_step_2_micros: Annotated[int, Guardrail("band after two refusals, as a fraction of the widest")] = 62_500
    exit_step_3_micros: Annotated[int, Guardrail("band after three refusals, as a fraction of the widest")] = 125_000
    exit_step_4_micros: Annotated[int, Guardrail("band after four refusals, as a fraction of the widest")] = 250_000
    exit_step_5_micros: Annotated[int, Guardrail("band after five refusals, as a fraction of the widest")] = 500_000
    exit_step_6_micros: Annotated[
        int, Guardrail("band after six refusals, as a fraction of the widest; from then on any price is taken")
    ] = 1_000_000
    exit_wait_1_ms: Annotated[int, Guardrail("from the decision that leaves an exit owed to the first try")] = 1_000
    exit_wait_2_ms: Annotated[int, Guardrail("from the first try to the second")] = 2_000
    exit_wait_3_ms: Annotated[int, Guardrail("from the second try to the third")] = 5_000
    exit_wait_4_ms: Annotated[int, Guardrail("from the third try to the fourth")] = 10_000
    exit_wait_5_ms: Annotated[int, Guardrail("from the fourth try to the fifth")] = 30_000
    exit_wait_6_ms: Annotated[int, Guardrail("between all later tries")] = 60_000


def _declared() -> dict[str, Guardrail]:
    hints = get_type_hints(Policy, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


GUARDRAILS = _declared()
"""Every guardrail that configuration may set, by name."""

_SWITCH = {"off": 0, "on": 1}
WORDS: dict[str, tuple[str, dict[str, int]]] = {
    "reduce_by": ("reduce_by_notional", {"fraction": 0, "notional": 1}),
    "accumulate": ("accumulate", _SWITCH),
    "exit_widening": ("exit_widening", _SWITCH),
    "exits_while_paused": ("exits_while_paused", _SWITCH),
}
"""Guardrails that configuration may also set by a word: the name there, the guardrail, and the value of each word."""

_BEFORE = {name: guardrail.before for name, guardrail in GUARDRAILS.items() if guardrail.before is not None}


def evaluate(*layers: Mapping[str, int]) -> Policy:
    """The policy of a subscription from its layers, weakest first."""
    merged: dict[str, int] = {}
    for layer in layers:
        merged.update(layer)
    return Policy(**merged)


def as_stored(values: Mapping[str, int]) -> Policy:
    """The policy that was stored with these values; guardrails that did not exist then have their `before`."""
    return evaluate(_BEFORE, values)


def hash_of(policy: Policy) -> str:
    """The name of an evaluated policy: 80 bits of the digest of its canonical JSON."""
    text = msgspec.json.encode(msgspec.structs.asdict(policy), order="sorted")
    return blake2b(text, digest_size=10).hexdigest()


def allowance(price_micros: int, venue: Venue, absolute_micros: int, bps: int) -> int:
    """How far a price may be from `price_micros`, in micros and rounded down: bps of it or dollars, by its venue."""
    return price_micros * bps // BPS if VENUES[venue].price_limit is PriceLimit.BPS else absolute_micros
