"""Guardrails: the limits a decision is checked against (DESIGN 6.5).

Precedence: defaults < global < influencer < subscriber < subscription. The evaluated policy is stored once in the log
under its hash, and every decision names the hash. Units stand in the names: `_bps` are basis points of a price
(Hyperliquid), price and money `_micros` are dollars, fractions are micros of one (50_000 = 5 %), `_ms`
milliseconds. Where a limit may be switched off, 0 switches it off and its line says so.
"""

from collections.abc import Mapping
from hashlib import blake2b

import msgspec
from msgspec import Struct

from domain.events import Venue

GLOBAL = "global"


class Policy(Struct, frozen=True):
    """Every guardrail with its default."""

    influencer_price_micros: int = 10_000
    influencer_price_bps: int = 10
    mid_price_micros: int = 15_000
    mid_price_bps: int = 15
    spread_micros: int = 20_000
    spread_bps: int = 20
    depth_ratio_micros: int = 1_250_000
    latency_ms: int = 750
    latency_jitter_ms: int = 250
    max_signal_age_ms: int = 60_000
    min_notional_micros: int = 5_000_000
    max_notional_micros: int = 250_000_000
    max_equity_fraction_micros: int = 7_500
    total_exposure_micros: int = 700_000
    market_exposure_micros: int = 50_000
    influencer_exposure_micros: int = 200_000
    taker_fee_micros: int = 450
    notional_cap_micros: int = 0
    """Most that one market may hold of one portfolio, in dollars; 0 = no cap."""
    max_leverage_micros: int = 5_000_000
    """Total exposure over equity, in micros; 0 = no limit."""
    max_loss_micros: int = 0
    """Most that one trade may lose, in dollars: its cost on Polymarket, `assumed_move` of it elsewhere; 0 = off."""
    assumed_move_micros: int = 100_000
    close_guard_ms: int = 1_800_000
    """No opens this long before a market closes; 0 = off."""
    daily_loss_micros: int = 30_000
    weekly_loss_micros: int = 80_000
    drawdown_micros: int = 120_000
    """Fractions of the equity at the start of the UTC day, of the ISO week, and of its peak; 0 = off."""
    reduction_band_micros: int = 1_000_000
    """How many times the price limits of an opening a reduction may go; 1_000_000 = as far as an opening."""
    accumulate: int = 1
    """1 = what is below the minimum waits until it has added up; 0 = it is skipped."""


GUARDRAILS: tuple[str, ...] = Policy.__struct_fields__
"""The names that configuration may override, for checks and error messages."""

_UNKNOWN_THEN = {
    "notional_cap_micros": 0,
    "max_leverage_micros": 0,
    "max_loss_micros": 0,
    "close_guard_ms": 0,
    "daily_loss_micros": 0,
    "weekly_loss_micros": 0,
    "drawdown_micros": 0,
    "reduction_band_micros": 1_000_000,
    "accumulate": 0,
}
"""What a guardrail means in a policy that was stored before it existed: it did not act."""

VENUE_MIN_NOTIONAL_MICROS = {Venue.HYPERLIQUID: 10_000_000, Venue.POLYMARKET: 1_000_000}
"""The venue's own minimum order value (hyperliquid 4.3, polymarket 3); the larger of this and the policy's holds."""


def evaluate(*layers: Mapping[str, int]) -> Policy:
    """The policy of a subscription from its layers, weakest first."""
    merged: dict[str, int] = {}
    for layer in layers:
        merged.update(layer)
    return Policy(**merged)


def as_stored(values: Mapping[str, int]) -> Policy:
    """The policy that was materialized with these values; guardrails that came later are off in it."""
    return evaluate(_UNKNOWN_THEN, values)


def hash_of(policy: Policy) -> str:
    """The name of an evaluated policy: 80 bits of the digest of its canonical JSON."""
    text = msgspec.json.encode(msgspec.structs.asdict(policy), order="sorted")
    return blake2b(text, digest_size=10).hexdigest()


def allowance(price_micros: int, venue: Venue, absolute_micros: int, bps: int) -> int:
    """How far a price may be from `price_micros`: bps of it on Hyperliquid, dollars on Polymarket; rounded down."""
    return price_micros * bps // 10_000 if venue is Venue.HYPERLIQUID else absolute_micros
