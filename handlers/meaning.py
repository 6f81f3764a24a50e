"""What a raw event says, in the domain's words: a trade, a movement, an account report, a market, or nothing.

Pure, and the only place where stages read venues' formats behind the log.
"""

from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from domain.events import (
    AccountSeeded,
    Action,
    GapDetected,
    GapKind,
    MarketDescribed,
    RawReceived,
    SeededPosition,
    Venue,
)
from domain.ids import derived
from domain.influencer_account import Movement
from domain.micros import MICRO, nearest
from domain.signals import Trade
from gateways.hyperliquid.fill_parsing import parse_fill
from gateways.hyperliquid.parsing import parse_account, parse_trade
from gateways.polymarket import gamma
from gateways.polymarket.activity import Activity, Kind, parse_activity
from gateways.polymarket.log_parsing import parse_log
from gateways.polymarket.positions import parse_positions, parse_value
from gateways.venue_errors import WireError
from streams.errors import UnprocessableError

ACCOUNT_CHANNEL, TRADES_CHANNEL = "clearinghouseState", "trades"
ACTIVITY_CHANNEL, CHAIN_CHANNEL, POSITIONS_CHANNEL = "activity", "chain", "positions"
MARKET_CHANNEL, PROFILE_CHANNEL = "market", "profile"

_MOVEMENTS = {Kind.SPLIT: Action.SPLIT, Kind.MERGE: Action.MERGE, Kind.REDEEM: Action.REDEEM}

DecodedRaw = Trade | Movement | AccountSeeded | MarketDescribed | GapDetected | None


class PositionsReport(Struct):
    """What ingest stores of a Polymarket account: three answers of the venue, each as it was served."""

    positions: Raw
    value: Raw = Raw(b"null")
    cash: str | None = None


_REPORT = msgspec.json.Decoder(PositionsReport)


def decode_raw(raw: RawReceived) -> DecodedRaw:
    """What one raw event says; None for what changes no position. Raises UnprocessableError."""
    channel, _, section = raw.channel.partition("@")
    try:
        match raw.venue, channel:
            case Venue.HYPERLIQUID, "trades":
                return _hyperliquid_trade(raw, parse_trade)
            case Venue.HYPERLIQUID, "userFills":
                return _hyperliquid_trade(raw, parse_fill)
            case Venue.HYPERLIQUID, "clearinghouseState":
                return _hyperliquid_account(raw, section)
            case Venue.POLYMARKET, "activity":
                return _activity(raw)
            case Venue.POLYMARKET, "chain":
                return _chain(raw)
            case Venue.POLYMARKET, "positions":
                return _polymarket_account(raw)
            case Venue.POLYMARKET, "market":
                return gamma.described(gamma.parse_market(bytes(raw.payload)), raw.detect_time)
            case Venue.POLYMARKET, "profile":
                return None
    except WireError as error:
        raise UnprocessableError(str(error)) from error
    raise UnprocessableError(f"channel {raw.channel!r} of {raw.venue.value} is not understood")


class _ParseTrade(Protocol):
    def __call__(
        self, payload: bytes, /, *, source_event_id: str, influencer_id: str, address: str, detect_time: int
    ) -> Trade: ...


def _hyperliquid_trade(raw: RawReceived, parse: _ParseTrade) -> Trade:
    return parse(
        bytes(raw.payload),
        source_event_id=raw.raw_id,
        influencer_id=raw.influencer_id,
        address=raw.address,
        detect_time=raw.detect_time,
    )


def _hyperliquid_account(raw: RawReceived, section: str) -> AccountSeeded:
    report = parse_account(bytes(raw.payload))
    return _seeded(raw, section, report.time, report.positions, report.equity_micros)


def _polymarket_account(raw: RawReceived) -> AccountSeeded:
    try:
        report = _REPORT.decode(bytes(raw.payload))
    except msgspec.MsgspecError as error:
        raise WireError(f"not a positions report: {error}") from error
    positions = parse_positions(bytes(report.positions))
    equity = None
    if bytes(report.value) != b"null" and report.cash is not None:
        # The worth of the positions alone is not what the wallet could lose.
        equity = parse_value(bytes(report.value)) + _whole(report.cash)
    return _seeded(raw, "", raw.venue_time or raw.detect_time, positions, equity)


def _whole(cash: str) -> int:
    if not cash.isdecimal():
        raise WireError(f"cash {cash[:80]!r} of a positions report is not a whole number of micros")
    return int(cash)


def _seeded(
    raw: RawReceived, section: str, as_of: int, positions: tuple[SeededPosition, ...], equity: int | None
) -> AccountSeeded:
    return AccountSeeded(
        seed_id=derived("seed", raw.raw_id),
        influencer_id=raw.influencer_id,
        venue=raw.venue,
        address=raw.address,
        section=section,
        positions=positions,
        event_time=as_of,
        detect_time=raw.detect_time,
        equity_micros=equity,
    )


def _activity(raw: RawReceived) -> DecodedRaw:
    row = parse_activity(bytes(raw.payload))
    if row.wallet != raw.address:
        raise WireError(f"the row belongs to {row.wallet}, not to {raw.address}")
    if row.kind is Kind.TRADE:
        return _trade(raw, row)
    if row.kind in _MOVEMENTS:
        return Movement(
            source_event_id=raw.raw_id,
            venue=raw.venue,
            influencer_id=raw.influencer_id,
            address=raw.address,
            action=_MOVEMENTS[row.kind],
            market=row.market,
            asset=row.asset,
            share_micros=row.share_micros,
            cash_micros=row.notional_micros,
            event_time=row.event_time,
            detect_time=raw.detect_time,
        )
    if row.kind is Kind.CONVERSION:
        # The row does not say which outcomes were turned into which: only the venue's next report knows.
        return GapDetected(
            gap_id=derived("gap", raw.raw_id),
            kind=GapKind.CONVERSION,
            influencer_id=raw.influencer_id,
            venue=raw.venue,
            address=raw.address,
            asset=row.asset or row.market,
            expected_micros=0,
            found_micros=row.share_micros,
            source_event_id=raw.raw_id,
            event_time=row.event_time,
            detect_time=raw.detect_time,
        )
    return None


def _trade(raw: RawReceived, row: Activity) -> Trade:
    assert row.side is not None
    return Trade(
        source_event_id=raw.raw_id,
        venue=raw.venue,
        influencer_id=raw.influencer_id,
        address=raw.address,
        asset=row.asset,
        market=row.market,
        trade_side=row.side,
        share_micros=row.share_micros,
        price_micros=row.price_micros,
        notional_micros=row.notional_micros,
        taker=row.fee_micros > 0,
        event_time=row.event_time,
        detect_time=raw.detect_time,
        metadata={"hash": row.transaction},
        fee_micros=row.fee_micros,
        fill_key=_fill_key(row.transaction, row.asset, row.side.value),
    )


def _chain(raw: RawReceived) -> Trade:
    fill = parse_log(bytes(raw.payload))
    if fill.wallet != raw.address:
        raise WireError(f"the log belongs to {fill.wallet}, not to {raw.address}")
    return Trade(
        source_event_id=raw.raw_id,
        venue=raw.venue,
        influencer_id=raw.influencer_id,
        address=raw.address,
        asset=fill.asset,
        market="",
        trade_side=fill.side,
        share_micros=fill.share_micros,
        price_micros=nearest(fill.notional_micros * MICRO, fill.share_micros),
        notional_micros=fill.notional_micros,
        taker=fill.taker,
        event_time=raw.venue_time if raw.venue_time is not None else raw.detect_time,
        detect_time=raw.detect_time,
        metadata={"hash": fill.transaction, "block": str(fill.block_number)},
        fee_micros=fill.fee_micros,
        fill_key=_fill_key(fill.transaction, fill.asset, fill.side.value),
        removed=fill.removed,
    )


def _fill_key(transaction: str, asset: str, side: str) -> str:
    """One order's fill in one transaction: what a row of the Data API and its log on chain have in common, but size."""
    return f"{transaction}:{asset}:{side}"
