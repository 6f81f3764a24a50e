"""Decodes Polymarket's RAW events: rows of activity, on-chain fills, wallet snapshots, markets and profiles."""

import msgspec
from msgspec import Raw, Struct

from domain.events import AccountSeeded, Action, GapDetected, GapKind, RawReceived
from domain.ids import derived
from domain.influencer_account import Movement
from domain.micros import MICRO, nearest
from domain.signals import Trade
from gateways.polymarket import gamma
from gateways.polymarket.activity import Activity, Kind, parse_activity
from gateways.polymarket.log_parsing import parse_log
from gateways.polymarket.positions import parse_positions, parse_value
from gateways.venue_errors import WireError
from gateways.venue_types import DecodedRaw

ACTIVITY_CHANNEL, CHAIN_CHANNEL, POSITIONS_CHANNEL = "activity", "chain", "positions"
MARKET_CHANNEL, PROFILE_CHANNEL = "market", "profile"

_MOVEMENTS = {Kind.SPLIT: Action.SPLIT, Kind.MERGE: Action.MERGE, Kind.REDEEM: Action.REDEEM}


class WalletSnapshot(Struct):
    """What ingest stores of a wallet: the venue's positions and value as they were served, and the cash in micros."""

    positions: Raw
    value: Raw = Raw(b"null")
    cash: str | None = None


_SNAPSHOT = msgspec.json.Decoder(WalletSnapshot)


def decode_raw(raw: RawReceived) -> DecodedRaw:
    """What a RAW event holds; None for what changes no position (rewards, profiles). Raises WireError."""
    payload = bytes(raw.payload)
    match raw.channel:
        case "activity":
            return _activity(raw, parse_activity(payload))
        case "chain":
            return _chain_fill(raw)
        case "positions":
            return _wallet(raw)
        case "market":
            return gamma.described(gamma.parse_market(payload), raw.detect_time)
        case "profile":
            return None
    known = ", ".join((ACTIVITY_CHANNEL, CHAIN_CHANNEL, POSITIONS_CHANNEL, MARKET_CHANNEL, PROFILE_CHANNEL))
    raise WireError(f"channel {raw.channel!r} of polymarket is unknown; known are {known}")


def _activity(raw: RawReceived, row: Activity) -> DecodedRaw:
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
        # The row does not list the outcomes that were converted: the next wallet snapshot settles the positions.
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


def _chain_fill(raw: RawReceived) -> Trade:
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
    """One order's fill in one transaction: its Data API row and its log on chain share this key, and the size."""
    return f"{transaction}:{asset}:{side}"


def _wallet(raw: RawReceived) -> AccountSeeded:
    try:
        snapshot = _SNAPSHOT.decode(bytes(raw.payload))
    except msgspec.MsgspecError as error:
        raise WireError(f"not a wallet snapshot: {error}") from error
    report = parse_positions(bytes(snapshot.positions))
    equity = None
    if bytes(snapshot.value) != b"null" and snapshot.cash is not None:
        # Equity is what the wallet could lose: without its cash it is unknown.
        equity = parse_value(bytes(snapshot.value)) + _cash(snapshot.cash)
    return AccountSeeded(
        seed_id=derived("seed", raw.raw_id),
        influencer_id=raw.influencer_id,
        venue=raw.venue,
        address=raw.address,
        section="",
        positions=report.positions,
        unread=report.unread,
        event_time=raw.venue_time or raw.detect_time,
        detect_time=raw.detect_time,
        equity_micros=equity,
    )


def _cash(written: str) -> int:
    if not written.isdecimal():
        raise WireError(f"cash {written[:80]!r} of a wallet snapshot is not a whole number of micros")
    return int(written)
