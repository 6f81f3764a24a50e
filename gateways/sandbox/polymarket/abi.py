"""Contract events of the venue on Polygon, encoded exactly: who emits them, their topics, their data words.

Amounts are micros already: pUSD and outcome tokens both have six decimals.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateways.sandbox.hyperliquid.traders import address_of
from gateways.sandbox.polymarket.actions import Match, Move, Resolve
from gateways.sandbox.polymarket.ledger import Entry, Kind
from gateways.sandbox.polymarket.markets import Listing

CHAIN_ID: Final = 137
EXCHANGE: Final = "0xe111180000d2663c0091e4f400237545b87b996b"
NEG_RISK_EXCHANGE: Final = "0xe2222d279d744050d28e00520010520000310f59"
PUSD: Final = "0xc011a7e12a19f7b1f670d46f03b03f3342e82dfb"
CONDITIONAL_TOKENS: Final = "0x4d97dcd97ec945f40cf65f87097ace5ea0476045"
NEG_RISK_ADAPTER: Final = "0xd91e80cf2e7be2e162c6513ced06f1dd0da35296"
CONTRACTS: Final = frozenset((EXCHANGE, NEG_RISK_EXCHANGE, PUSD, CONDITIONAL_TOKENS, NEG_RISK_ADAPTER))

ORDER_FILLED: Final = "0xd543adfd945773f1a62f74f0ee55a5e3b9b1a28262980ba90b1a89f2ea84d8ee"
ORDERS_MATCHED: Final = "0x174b3811690657c217184f89418266767c87e4805d09680c39fc9c031c0cab7c"
POSITION_SPLIT: Final = "0x2e6bb91f8cbcda0c93623c54d0403a43514fabc40084ec96b6d5379a74786298"
POSITIONS_MERGE: Final = "0x6f13ca62553fcc2bcd2372180a43949c1e4cebba603901ede2f4e14f36b282ca"
PAYOUT_REDEMPTION: Final = "0x2682012a4a4f1973119f1c9b90745d1bd91fa2bab387344f044cb3586864d18d"
CONDITION_RESOLUTION: Final = "0xb44d84d3289691f71497564b85d4233648d9dbae8cbdbb4329f301c3a0185894"
NEG_RISK_SPLIT: Final = "0xbbed930dbfb7907ae2d60ddf78345610214f26419a0128df39b6cc3d9e5df9b0"
NEG_RISK_MERGE: Final = "0xba33ac50d8894676597e6e35dc09cff59854708b642cd069d21eb9c7ca072a04"
NEG_RISK_REDEMPTION: Final = "0x9140a6a270ef945260c03894b3c6b3b2695e9d5101feef0ff24fec960cfd3224"
TRANSFER: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"

BALANCE_OF: Final = "0x70a08231"
BALANCE_OF_TOKEN: Final = "0x00fdd58e"

_TREASURY: Final = address_of("poly treasury")
_ORACLE: Final = address_of("poly oracle")
_ZERO: Final = "0x" + "0" * 64


@dataclass(frozen=True)
class Emitted:
    """What a contract logs, before a block gives it a place."""

    address: str
    topics: tuple[str, ...]
    data: str


def word(value: int | str) -> str:
    """32 bytes as 64 hex digits without 0x: a number, an address or a hash."""
    number = int(value, 16) if isinstance(value, str) else value
    return f"{number:064x}"


def topic(value: int | str) -> str:
    """An indexed argument."""
    return "0x" + word(value)


def _data(*words: int | str) -> str:
    return "0x" + "".join(map(word, words))


def exchange_of(listing: Listing) -> str:
    return NEG_RISK_EXCHANGE if listing.neg_risk else EXCHANGE


def of_match(match: Match) -> tuple[Emitted, ...]:
    """One OrderFilled an order with its owner in topics[2], makers first, then OrdersMatched, which counts nothing new.

    A maker's log names the taker in topics[3]; the taker's log names the exchange there.
    """
    exchange, taker = exchange_of(match.listing), match.taker
    filled = [_filled(exchange, order.entry, order.order_hash, taker.entry.wallet) for order in match.makers]
    filled.append(_filled(exchange, taker.entry, taker.order_hash, exchange))
    paid, got = _amounts(taker.entry)
    side, token = (0 if taker.entry.buying else 1), _token(taker.entry)
    matched = Emitted(
        exchange,
        (ORDERS_MATCHED, taker.order_hash, topic(taker.entry.wallet)),
        _data(side, token, paid, got),
    )
    return (*filled, matched)


def _filled(exchange: str, entry: Entry, order_hash: str, counterparty: str) -> Emitted:
    paid, got = _amounts(entry)
    return Emitted(
        exchange,
        (ORDER_FILLED, order_hash, topic(entry.wallet), topic(counterparty)),
        _data(0 if entry.buying else 1, _token(entry), paid, got, entry.fee_micros, 0, 0),
    )


def _amounts(entry: Entry) -> tuple[int, int]:
    """What the order gives and gets: collateral for shares or shares for collateral, the fee aside."""
    pair = entry.usdc_micros, entry.share_micros
    return pair if entry.buying else pair[::-1]


def _token(entry: Entry) -> int:
    assert entry.listing is not None, "a trade has a market"
    assert entry.outcome is not None, "a trade has an outcome"
    return int(entry.listing.tokens[entry.outcome])


def of_move(move: Move) -> tuple[Emitted, ...]:
    """What a wallet's own transaction logs. The rows of one redemption share one log, as on the venue."""
    emitted: list[Emitted] = []
    redeemed = [entry for entry in move.entries if entry.kind is Kind.REDEEM]
    for entry in move.entries:
        if entry.kind in (Kind.SPLIT, Kind.MERGE):
            emitted.append(_regrouped(entry))
        elif entry.kind is not Kind.REDEEM:
            emitted.append(Emitted(PUSD, (TRANSFER, topic(_TREASURY), topic(entry.wallet)), _data(entry.usdc_micros)))
    if redeemed:
        emitted.append(_redemption(redeemed))
    return tuple(emitted)


def _regrouped(entry: Entry) -> Emitted:
    assert entry.listing is not None, "a split has a market"
    split, wallet, condition = entry.kind is Kind.SPLIT, topic(entry.wallet), entry.listing.condition
    if entry.listing.neg_risk:
        name = NEG_RISK_SPLIT if split else NEG_RISK_MERGE
        return Emitted(NEG_RISK_ADAPTER, (name, wallet, condition), _data(entry.share_micros))
    return Emitted(
        CONDITIONAL_TOKENS,
        (POSITION_SPLIT if split else POSITIONS_MERGE, wallet, _ZERO, condition),
        _data(PUSD, 0x60, entry.share_micros, 2, 1, 2),
    )


def _redemption(entries: Iterable[Entry]) -> Emitted:
    rows = list(entries)
    listing, wallet = rows[0].listing, topic(rows[0].wallet)
    assert listing is not None, "a redemption has a market"
    payout = sum(entry.usdc_micros for entry in rows)
    outcomes = [entry.outcome for entry in rows if entry.outcome is not None] or [0, 1]
    if listing.neg_risk:
        amounts = [sum(entry.share_micros for entry in rows if entry.outcome == side) for side in (0, 1)]
        data = _data(0x40, payout, 2, *amounts)
        return Emitted(NEG_RISK_ADAPTER, (NEG_RISK_REDEMPTION, wallet, listing.condition), data)
    sets = [1 << outcome for outcome in outcomes]
    return Emitted(
        CONDITIONAL_TOKENS,
        (PAYOUT_REDEMPTION, wallet, topic(PUSD), _ZERO),
        _data(listing.condition, 0x60, payout, len(sets), *sets),
    )


def of_resolution(resolve: Resolve) -> Emitted:
    """The oracle's report: numerators 1 and 0, or 1 and 1 for a tie."""
    first, second = resolve.payouts
    numerators = (1, 1) if first == second else (int(first > second), int(second > first))
    return Emitted(
        CONDITIONAL_TOKENS,
        (CONDITION_RESOLUTION, resolve.listing.condition, topic(_ORACLE), resolve.listing.question_id),
        _data(2, 0x40, 2, *numerators),
    )
