"""A subscriber's ledger: its entries newest first, and their sums."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from projections.queries.fetch import Reader, many


class LedgerLine(Struct, frozen=True, kw_only=True):
    """One ledger entry. `share_delta_micros` and `cash_delta_micros` are signed; `cash_delta_micros` includes the fee.

    `kind`: DEPOSIT, WITHDRAWAL, TRADE, SETTLEMENT or CORRECTION. `sequence` and `index` are the address in EXECUTIONS.
    """

    entry_id: str
    sequence: int
    index: int
    kind: str
    subscription_id: str | None
    influencer_id: str | None
    attempt_id: str | None
    source_event_id: str
    venue: str | None
    asset: str | None
    share_delta_micros: int
    cash_delta_micros: int
    price_micros: int
    fee_micros: int
    booked_at: datetime


class Balance(Struct, frozen=True, kw_only=True):
    """The sums of a subscriber's entries for one influencer and asset: shares, signed cash, and the fees included in
    it."""

    influencer_id: str
    venue: str
    asset: str
    entries: int
    share_micros: int
    cash_micros: int
    fee_micros: int


async def ledger(
    db: Reader, subscriber_id: str, *, after: tuple[datetime, int, int] | None = None, limit: int = 50
) -> list[LedgerLine]:
    """A subscriber's entries, newest first, after (booked_at, sequence, index) of the last entry of the page before.

    Reads booking by its index on (subscriber_id, booked_at).
    """
    behind = "AND booked_at <= $3 AND (booked_at, sequence, index) < ($3, $4, $5)" if after else ""
    return await many(
        db,
        LedgerLine,
        f"SELECT {_LINE} FROM ledger_entry WHERE subscriber_id = $1 {behind} "
        "ORDER BY booked_at DESC, sequence DESC, index DESC LIMIT $2",
        subscriber_id,
        limit,
        *(after or ()),
    )


async def ledger_of_attempt(db: Reader, attempt_id: str) -> list[LedgerLine]:
    """The entries of one decision, in order."""
    return await many(
        db, LedgerLine, f"SELECT {_LINE} FROM ledger_entry WHERE attempt_id = $1 ORDER BY sequence, index", attempt_id
    )


async def balances(db: Reader, subscriber_id: str) -> list[Balance]:
    """The sums of a subscriber's entries by influencer and asset ('' for deposits); the sum of `cash_micros` is its
    cash.

    Reads ledger_balance, which changes in the same transaction as the entries.
    """
    return await many(
        db,
        Balance,
        "SELECT influencer_id, venue, asset, entries, share_micros, cash_micros, fee_micros FROM ledger_balance "
        "WHERE subscriber_id = $1 ORDER BY influencer_id, venue, asset",
        subscriber_id,
    )


_LINE = ", ".join(LedgerLine.__struct_fields__)
