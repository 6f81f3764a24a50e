"""OrderFilled logs of both generations of exchanges, decoded word by word; logs of unknown contracts are refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events import TradeSide
from gateways.polymarket.log_parsing import EXCHANGES, EXCHANGES_V1, FILLED, FILLED_V1, block_time, log_id, parse_log
from gateways.venue_errors import WireError

OWNER, OTHER = "0x" + "ab" * 20, "0x" + "cd" * 20
TOKEN = 2**255 + 12345
BLOCK, TX = "0x" + "0b" * 32, "0x" + "0c" * 32


def topic(address: str) -> str:
    return "0x" + "0" * 24 + address[2:]


def words(*values: int) -> str:
    return "0x" + "".join(f"{value:064x}" for value in values)


def log(data: str, /, *, v1: bool = False, taker: str = OTHER, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "address": (EXCHANGES_V1 if v1 else EXCHANGES)[0],
        "blockHash": BLOCK,
        "blockNumber": "0x56ec4db",
        "data": data,
        "logIndex": "0x346",
        "removed": False,
        "topics": [FILLED_V1 if v1 else FILLED, "0x" + "1e" * 32, topic(OWNER), topic(taker)],
        "transactionHash": TX,
        "transactionIndex": "0x51",
    }
    return json.dumps({name: value for name, value in (fields | changes).items() if value != "absent"}).encode()


BUY = words(0, TOKEN, 4_800_000, 10_000_000, 124_800, 0, 0)
SELL = words(1, TOKEN, 10_000_000, 4_800_000, 124_800, 0, 0)


@pytest.mark.parametrize(("data", "side"), [(BUY, TradeSide.BUY), (SELL, TradeSide.SELL)])
def test_a_fill(data: str, side: TradeSide) -> None:
    fill = parse_log(log(data))
    assert (fill.wallet, fill.asset, fill.side) == (OWNER, str(TOKEN), side)
    assert (fill.share_micros, fill.notional_micros, fill.fee_micros) == (10_000_000, 4_800_000, 124_800)
    assert (fill.block_hash, fill.block_number, fill.log_index, fill.transaction) == (BLOCK, 91_145_435, 838, TX)
    assert (fill.taker, fill.removed, fill.exchange) == (False, False, EXCHANGES[0])


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_order_whose_counterparty_is_the_exchange_was_the_taker(exchange: str) -> None:
    checksummed = exchange[:2] + exchange[2:].upper()
    assert parse_log(log(BUY, taker=exchange, address=checksummed)).taker


@pytest.mark.parametrize(
    ("data", "side", "fee"),
    [
        # The fee of a BUY was taken in shares: 0.5 shares at 0.48 are 0.24 dollars.
        (words(0, TOKEN, 4_800_000, 10_000_000, 500_000), TradeSide.BUY, 240_000),
        (words(TOKEN, 0, 10_000_000, 4_800_000, 500_000), TradeSide.SELL, 500_000),
    ],
)
def test_a_fill_of_the_first_exchanges(data: str, side: TradeSide, fee: int) -> None:
    fill = parse_log(log(data, v1=True))
    assert (fill.side, fill.asset, fill.fee_micros) == (side, str(TOKEN), fee)
    assert (fill.share_micros, fill.notional_micros) == (10_000_000, 4_800_000)


def test_the_id_of_a_log_is_its_place_and_a_removed_log_has_another() -> None:
    assert log_id(log(BUY)) == f"pm-log:137:{BLOCK}:838"
    assert log_id(log(BUY, blockHash=BLOCK.upper().replace("X", "x"), logIndex="0x00346")) == log_id(log(BUY))
    removed = log(BUY, removed=True)
    assert log_id(removed) == f"pm-log:137:{BLOCK}:838:removed"
    assert parse_log(removed).removed


def test_the_block_time_is_read_from_the_log() -> None:
    assert block_time(log(BUY, blockTimestamp="0x6a6b6545")) == 1_785_423_173_000_000_000
    assert block_time(log(BUY)) is None
    assert block_time(log(BUY, blockTimestamp=None)) is None
    with pytest.raises(WireError, match="not a time in seconds"):
        block_time(log(BUY, blockTimestamp="0xffffffffffff"))


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (log(BUY, address=OTHER), "is not an exchange"),
        (log(BUY, address=EXCHANGES_V1[0]), "is not an exchange"),
        (log(BUY, topics=["0x" + "9" * 64] * 4), "is not an OrderFilled event"),
        (log(BUY, topics=[FILLED, TX, topic(OWNER)]), "4 topics, this one has 3"),
        (log(BUY, topics=[]), "4 topics, this one has 0"),
        (log(BUY, topics=[FILLED, TX, "0x" + "1" * 64, topic(OTHER)]), r"topics\[2\]"),
        (log(BUY, topics=[FILLED, TX, topic(OWNER), "0x12"]), r"topics\[3\]"),
        (log(BUY[:-2]), "7 words of 64 are expected"),
        (log("0x"), "7 words of 64 are expected"),
        (log(BUY[2:]), "7 words of 64 are expected"),
        (log("0x" + "g" * 448), "data is not hexadecimal"),
        (log(BUY, v1=True), "5 words of 64 are expected"),
        (log(words(2, TOKEN, 1, 2, 0, 0, 0)), "side 2 is neither"),
        (log(words(0, 0, 1, 2, 0, 0, 0)), "tokenId is 0"),
        (log(words(0, TOKEN, 0, 0, 0, 0, 0)), "trades no shares"),
        (log(words(0, TOKEN, 3, 2, 0, 0, 0)), "at most a dollar"),
        (log(words(0, TOKEN, 1, 2, 3, 0, 0)), "fee 3 is more than"),
        (log(words(0, TOKEN, 1, 2**255, 0, 0, 0)), "out of all bounds"),
        (log(words(0, 0, 1, 2, 0), v1=True), "exactly one of makerAssetId"),
        (log(words(5, 6, 1, 2, 0), v1=True), "exactly one of makerAssetId"),
        (log(BUY, logIndex="0x" + "f" * 64), "logIndex .* is out of all bounds"),
        (log(BUY, logIndex=838), "not a log"),
        (log(BUY, logIndex="838"), "logIndex '838' is not hexadecimal"),
        (log(BUY, blockHash="0x12"), "is not a hash"),
        (log(BUY, transactionHash=""), "is not a hash"),
        (log(BUY, blockNumber=None), "not a log"),
        (log(BUY, data="absent"), "not a log"),
        (log(BUY, removed="true"), "not a log"),
        (b"null", "not a log"),
        (b"{", "not a log"),
    ],
)
def test_a_malformed_field_is_refused_with_its_value(payload: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        parse_log(payload)


@pytest.mark.parametrize("payload", [b"null", b"{}", log(BUY, blockHash=None), log(BUY, logIndex="")])
def test_a_log_without_a_place_has_no_id(payload: bytes) -> None:
    with pytest.raises(WireError):
        log_id(payload)


@given(
    shares=st.integers(1, 10**15),
    part=st.fractions(0, 1),
    token=st.integers(1, 2**256 - 1),
    sell=st.booleans(),
)
def test_amounts_are_micros_as_they_are(shares: int, part: Any, token: int, sell: bool) -> None:
    notional = int(shares * part)
    made, taken = (shares, notional) if sell else (notional, shares)
    fill = parse_log(log(words(int(sell), token, made, taken, 0, 0, 0)))
    assert (fill.share_micros, fill.notional_micros, fill.asset) == (shares, notional, str(token))
    old = parse_log(log(words(token if sell else 0, 0 if sell else token, made, taken, 0), v1=True))
    assert (old.share_micros, old.notional_micros, old.asset, old.side) == (shares, notional, str(token), fill.side)
