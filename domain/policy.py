"""Guardrails: the limits a decision is checked against (DESIGN 6.5).

Precedence: defaults < global < influencer < subscription. The evaluated policy is stored once in the log
under its hash, and every decision names the hash. Units stand in the names: `_bps` are basis points of a price
(Hyperliquid), price and money `_micros` are dollars, fractions are micros of one (50_000 = 5 %), `_ms`
milliseconds.
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


GUARDRAILS: tuple[str, ...] = Policy.__struct_fields__
"""The names that configuration may override, for checks and error messages."""

VENUE_MIN_NOTIONAL_MICROS = {Venue.HYPERLIQUID: 10_000_000, Venue.POLYMARKET: 0}
"""The venue's own minimum order value; the larger of this and the policy's minimum holds."""


def evaluate(*layers: Mapping[str, int]) -> Policy:
    """The policy of a subscription from its layers, weakest first."""
    merged: dict[str, int] = {}
    for layer in layers:
        merged.update(layer)
    return Policy(**merged)


def hash_of(policy: Policy) -> str:
    """The name of an evaluated policy: 80 bits of the digest of its canonical JSON."""
    text = msgspec.json.encode(msgspec.structs.asdict(policy), order="sorted")
    return blake2b(text, digest_size=10).hexdigest()


def allowance(price_micros: int, venue: Venue, absolute_micros: int, bps: int) -> int:
    """How far a price may be from `price_micros`: bps of it on Hyperliquid, dollars on Polymarket; rounded down."""
    return price_micros * bps // 10_000 if venue is Venue.HYPERLIQUID else absolute_micros
