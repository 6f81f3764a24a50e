"""Who redeems what once a market has paid out.

The splitter and the dripper redeem as wallets do now: a row per outcome, a loser's worth nothing. The taker who holds
one winning outcome redeems in the older style: one row that names no outcome. The quiet maker lets his shares lie.
"""

import hashlib

from gateways.sandbox.polymarket.actions import Move
from gateways.sandbox.polymarket.ledger import Entry, Kind, Ledger, payout_of
from gateways.sandbox.polymarket.market_state import MarketState
from gateways.sandbox.polymarket.markets import ONE
from gateways.sandbox.polymarket.traders import DRIPPER, SPLITTER, TAKER

_REDEEMERS = (SPLITTER, TAKER, DRIPPER)


def redemptions(state: MarketState, ledger: Ledger, seed: int) -> list[Move]:
    """One transaction for every wallet that redeems and holds something; empty once all is redeemed."""
    assert state.payouts is not None, "a market pays before a wallet redeems"
    moves: list[Move] = []
    for who in _REDEEMERS:
        account = ledger.account(who.address)
        held = [(side, shares) for side in (0, 1) if (shares := account.shares(state.listing, side)) > 0]
        if not held:
            continue
        older = who is TAKER and len(held) == 1 and state.payouts[held[0][0]] == ONE
        entries = tuple(
            Entry(
                who.address,
                Kind.REDEEM,
                state.listing,
                None if older else side,
                False,
                shares,
                payout_of(shares, state.payouts[side]),
            )
            for side, shares in held
        )
        digest = hashlib.blake2b(f"pm redeem {seed} {who.id} {entries}".encode(), digest_size=32)
        moves.append(Move(0, who.address, entries, "0x" + digest.hexdigest()))
    return moves
