"""The value of portfolios by minute: the shares of that minute at the newest prices of that minute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from domain.micros import times
from projections.queries.fetch import Reader, many

Asset = tuple[str, str]
"""(venue, asset)."""

MINUTE = timedelta(minutes=1)


class Price(Struct, frozen=True, kw_only=True):
    """The newest price (micros) of an asset in a minute: a mark, or a payout."""

    venue: str
    asset: str
    minute: datetime
    price_micros: int


class Movement(Struct, frozen=True, kw_only=True):
    """The changes of one asset of a portfolio in a minute: signed shares and cash, deposits in it, the last own
    price."""

    venue: str
    asset: str
    minute: datetime
    share_delta_micros: int
    cash_delta_micros: int
    deposit_micros: int
    price_micros: int | None


class Worth(Struct, frozen=True, kw_only=True):
    """The value of a portfolio at the end of a minute: equity (cash + shares at their prices), and equity less
    deposits."""

    minute: datetime
    equity_micros: int
    profit_micros: int


def minute_of(time: datetime) -> datetime:
    """The beginning of the minute of a time, UTC."""
    return time.astimezone(UTC).replace(second=0, microsecond=0)


def minutes(since: datetime, until: datetime) -> Iterator[datetime]:
    """The beginnings of all minutes from that of `since` to before `until`."""
    minute = minute_of(since)
    while minute < until:
        yield minute
        minute += MINUTE


async def prices(db: Reader, assets: Iterable[Asset], since: datetime, until: datetime) -> list[Price]:
    """The newest price of each minute in [since, until), and every payout up to then, in order of time.

    From market_price_snapshot by its index on (asset, venue, marked_at), and outcome_payout.
    """
    wanted = sorted(set(assets))
    venues, names = [venue for venue, _ in wanted], [asset for _, asset in wanted]
    return await many(db, Price, _PRICES, venues, names, minute_of(since), until)


_PRICES = """
WITH wanted AS (SELECT * FROM unnest($1::text[], $2::text[]) w (venue, asset))
SELECT w.venue, w.asset, p.minute, p.price_micros
FROM wanted w CROSS JOIN LATERAL (
    SELECT DISTINCT ON (date_trunc('minute', marked_at, 'UTC'))
        date_trunc('minute', marked_at, 'UTC') AS minute, price_micros
    FROM market_price_snapshot p
    WHERE p.asset = w.asset AND p.venue = w.venue AND p.marked_at >= $3 AND p.marked_at < $4
    ORDER BY date_trunc('minute', marked_at, 'UTC'), marked_at DESC) p
UNION ALL
SELECT w.venue, w.asset, date_trunc('minute', p.detect_time, 'UTC'), p.price_micros
FROM wanted w JOIN outcome_payout p USING (venue, asset) WHERE p.detect_time < $4
ORDER BY minute
"""


class OpeningBalance(Struct, frozen=True, kw_only=True):
    """A portfolio before the first minute; `price_of` applies to assets without a newer price."""

    shares: dict[Asset, int]
    price_of: dict[Asset, int]
    cash_micros: int
    deposits_micros: int


async def last_marks(db: Reader, assets: Iterable[Asset], before: datetime) -> dict[Asset, Price]:
    """The last mark of each asset before a time; assets without one are absent."""
    wanted = sorted(set(assets))
    venues, names = [venue for venue, _ in wanted], [asset for _, asset in wanted]
    return {(mark.venue, mark.asset): mark for mark in await many(db, Price, _LAST, venues, names, before)}


_LAST = """
SELECT w.venue, w.asset, date_trunc('minute', p.marked_at, 'UTC') AS minute, p.price_micros
FROM unnest($1::text[], $2::text[]) w (venue, asset) CROSS JOIN LATERAL (
    SELECT marked_at, price_micros FROM market_price_snapshot p
    WHERE p.asset = w.asset AND p.venue = w.venue AND p.marked_at < $3 ORDER BY marked_at DESC LIMIT 1) p
"""


def valued(
    grid: Iterable[datetime], start: OpeningBalance, moved: Iterable[Movement], priced: Iterable[Price]
) -> list[Worth]:
    """The value at the end of every minute of `grid`. An asset's price is the newest of marks and own trades; of both
    in one minute, the mark."""
    shares, price_of = dict(start.shares), dict(start.price_of)
    cash, deposits = start.cash_micros, start.deposits_micros
    changes: list[Movement | Price] = [*moved, *priced]
    changes.sort(key=lambda one: (one.minute, isinstance(one, Price)))
    found, applied = [], 0
    for minute in grid:
        while applied < len(changes) and changes[applied].minute <= minute:
            one = changes[applied]
            key = (one.venue, one.asset)
            if isinstance(one, Movement):
                shares[key] = shares.get(key, 0) + one.share_delta_micros
                cash += one.cash_delta_micros
                deposits += one.deposit_micros
            if one.price_micros is not None:
                price_of[key] = one.price_micros
            applied += 1
        equity = cash + sum(times(price_of.get(key, 0), share) for key, share in shares.items())
        found.append(Worth(minute=minute, equity_micros=equity, profit_micros=equity - deposits))
    return found
