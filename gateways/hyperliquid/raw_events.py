"""Decodes Hyperliquid's RAW events: a trade, an own fill, an account snapshot of one dex, or an account's mode."""

from typing import Protocol

from domain.events import AccountModeStated, AccountSeeded, RawReceived
from domain.ids import derived
from domain.signals import Trade
from gateways.hyperliquid.account_mode import parse_mode
from gateways.hyperliquid.fill_parsing import FILLS_CHANNEL, parse_fill
from gateways.hyperliquid.parsing import parse_account, parse_trade
from gateways.venue_errors import WireError

TRADES_CHANNEL = "trades"
ACCOUNT_CHANNEL = "clearinghouseState"
"""Followed by `@` and the name of the dex, except on the main one."""


MODE_CHANNEL = "accountMode"
"""The answers to userAbstraction and spotClearinghouseState."""


def decode_raw(raw: RawReceived) -> Trade | AccountSeeded | AccountModeStated:
    """The trade, account snapshot or account mode that a RAW event holds. Raises WireError."""
    channel, _, dex = raw.channel.partition("@")
    match channel:
        case "trades":
            return _trade(raw, parse_trade)
        case "userFills":
            return _trade(raw, parse_fill)
        case "clearinghouseState":
            return _account(raw, dex)
        case "accountMode":
            return _mode(raw)
    known = ", ".join((TRADES_CHANNEL, FILLS_CHANNEL, ACCOUNT_CHANNEL, MODE_CHANNEL))
    raise WireError(f"channel {raw.channel!r} of hyperliquid is unknown; known are {known}")


class _ParseTrade(Protocol):
    def __call__(
        self, payload: bytes, /, *, source_event_id: str, influencer_id: str, address: str, detect_time: int
    ) -> Trade: ...


def _trade(raw: RawReceived, parse: _ParseTrade) -> Trade:
    return parse(
        bytes(raw.payload),
        source_event_id=raw.raw_id,
        influencer_id=raw.influencer_id,
        address=raw.address,
        detect_time=raw.detect_time,
    )


def _account(raw: RawReceived, dex: str) -> AccountSeeded:
    account = parse_account(bytes(raw.payload))
    return AccountSeeded(
        seed_id=derived("seed", raw.raw_id),
        influencer_id=raw.influencer_id,
        venue=raw.venue,
        address=raw.address,
        section=dex,
        positions=account.positions,
        event_time=account.time,
        detect_time=raw.detect_time,
        equity_micros=account.equity_micros,
    )


def _mode(raw: RawReceived) -> AccountModeStated:
    mode = parse_mode(bytes(raw.payload))
    return AccountModeStated(
        influencer_id=raw.influencer_id,
        venue=raw.venue,
        address=raw.address,
        mode=mode.name,
        reports_count=mode.is_separate,
        equity_micros=mode.collateral_micros,
        event_time=raw.detect_time,
        detect_time=raw.detect_time,
    )
