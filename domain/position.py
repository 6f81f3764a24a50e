"""The arithmetic of one position: a buy adds shares and takes notional + fee from cash, a sell the reverse.

Shares may be negative. Realized profit is by average cost; a flip realizes the whole old side, then opens the new one
(docs/design.md, portfolio).
"""

from msgspec import Struct
from msgspec.structs import replace

from domain.events import TradeSide
from domain.micros import MICRO, fraction, nearest


class Position(Struct, frozen=True):
    """Signed size, signed cost of the open part (fees aside), realized profit so far, the newest decision's mid."""

    share_micros: int = 0
    cost_micros: int = 0
    realized_micros: int = 0
    mark_micros: int = 0
    marked_at: int = 0
    market: str = ""

    @property
    def average_price_micros(self) -> int:
        return nearest(self.cost_micros * MICRO, self.share_micros) if self.share_micros else 0


def fill_position(position: Position, share_delta: int, notional_micros: int) -> Position:
    """A position after `share_delta` signed shares traded for `notional_micros` (a magnitude, without the fee)."""
    share, cost = position.share_micros, position.cost_micros
    signed_notional = notional_micros if share_delta > 0 else -notional_micros
    if share == 0 or (share > 0) == (share_delta > 0):
        return replace(position, share_micros=share + share_delta, cost_micros=cost + signed_notional)
    if abs(share_delta) < abs(share):
        released = fraction(cost, abs(share_delta), abs(share))
        return replace(
            position,
            share_micros=share + share_delta,
            cost_micros=cost - released,
            realized_micros=position.realized_micros - signed_notional - released,
        )
    # Closes, or flips: the part that closes takes its share of the notional, the rest opens the other side.
    closing = fraction(signed_notional, abs(share), abs(share_delta))
    return replace(
        position,
        share_micros=share + share_delta,
        cost_micros=signed_notional - closing,
        realized_micros=position.realized_micros - closing - cost,
    )


def cash_delta(trade_side: TradeSide, notional_micros: int, fee_micros: int) -> int:
    """The ledger formula: a buy pays notional + fee, a sell receives notional - fee."""
    return -trade_side.sign * notional_micros - fee_micros
