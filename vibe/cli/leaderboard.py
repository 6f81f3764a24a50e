"""`vibe leaderboard` and `vibe metrics`: whom to follow, and how copying goes, from the read models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
from rich.console import Console

from domain.micros import decimal_text
from projections.queries import leaderboard, round_trips, subscribers
from projections.queries.leaderboard import Ranked
from projections.queries.round_trips import InfluencerMetrics
from projections.queries.subscribers import Copying, SubscriberMetrics
from vibe.app import pipeline_lag
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.cli.connections import open_connections
from vibe.cli.output import print_json, show, table
from vibe.cli.time_arguments import ago


class NotBuiltError(Exception):
    """There are no read models yet."""


@asynccontextmanager
async def _read_models(settings: Settings) -> AsyncIterator[asyncpg.Connection[Any]]:
    """The database; on stderr, how far behind the log it is. Raises NotBuiltError."""
    async with open_connections(settings) as at:
        try:
            yield at.database
        except asyncpg.UndefinedTableError as error:
            raise NotBuiltError(
                f"the read models are not built yet ({error}); vibe run projections builds them"
            ) from error
        behind = await pipeline_lag.projection_lag(at.connection, at.database)
    if behind:
        _say(f"the read models are {behind:,} events behind the log")


def _say(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def _time(since: str | None) -> datetime | None:
    """When a span or time such as '30d' begins, UTC; None for everything."""
    if since is None:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ago(since, Clock()()) // 1000)


async def run_leaderboard(settings: Settings, since: str | None, min_trips: int, limit: int, json: bool) -> int:
    begin = _time(since)
    first = begin.date() if begin is not None else round_trips.FIRST
    try:
        async with _read_models(settings) as db:
            found = await leaderboard.leaderboard(db, first, min_trips=min_trips, limit=limit)
    except NotBuiltError as error:
        _say(str(error))
        return 1
    if json:
        print_json(found)
    elif found:
        _show_leaderboard(found)
    else:
        Console().print(f"nobody has ended {min_trips} round trip{'' if min_trips == 1 else 's'} yet", highlight=False)
    return 0


async def run_metrics(settings: Settings, what: str, name: str, since: str | None, json: bool) -> int:
    """Exit code 1 for an id that is not configured."""
    begin = _time(since)
    try:
        async with _read_models(settings) as db:
            if what == "influencer":
                first = begin.date() if begin is not None else round_trips.FIRST
                one = await round_trips.influencer_metrics(db, name, first)
            else:
                known = await subscribers.subscriber(db, name)
                many = await subscribers.subscriber_metrics(db, name, begin or subscribers.FIRST)
    except NotBuiltError as error:
        _say(str(error))
        return 1
    if what == "influencer":
        if one is None:
            return _unknown(what, name)
        print_json(_influencer_facts(one)) if json else _show_influencer(one)
        return 0
    if known is None:
        return _unknown(what, name)
    print_json(_subscriber_facts(many)) if json else _show_subscriber(many)
    return 0


def _unknown(what: str, name: str) -> int:
    _say(f"vibe metrics: no {what} {name!r} is configured; see: vibe config show")
    return 1


def _influencer_facts(one: InfluencerMetrics) -> dict[str, Any]:
    rates = {"win_rate_micros": one.win_rate_micros, "signals_per_day_micros": one.signals_per_day_micros}
    return {**msgspec.structs.asdict(one), **rates}


def _subscriber_facts(found: SubscriberMetrics) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(found),
        "copying": _copying_facts(found.copying),
        "copying_by_influencer": [_copying_facts(each) for each in found.copying_by_influencer],
    }


def _copying_facts(one: Copying) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(one),
        "fill_rate_micros": one.fill_rate_micros,
        "partial_rate_micros": one.partial_rate_micros,
        "slippage_bps_micros": one.slippage_bps_micros,
    }


def _percent(micros: int) -> str:
    return f"{micros / 10_000:.1f} %"


def _usd(micros: int) -> str:
    return f"{micros / 1_000_000:,.2f}"


def _ms(microseconds: int | None) -> str:
    return "" if microseconds is None else f"{microseconds / 1000:,.1f}"


def _show_leaderboard(found: list[Ranked]) -> None:
    made = table(
        "",
        "influencer",
        "score",
        "won",
        "volume USD",
        "drawdown USD",
        "risk ratio",
        "best USD",
        "profit USD",
        "known for",
    )
    for each in found:
        trader = each.trader
        made.add_row(
            str(each.rank),
            trader.influencer_id,
            _percent(each.score_micros),
            f"{trader.won} of {trader.trips}",
            _usd(trader.volume_micros),
            _usd(trader.drawdown_micros),
            f"{trader.risk_ratio_micros / 1_000_000:.2f}",
            _usd(trader.best_micros),
            _usd(trader.profit_micros),
            "" if each.age_days is None else f"{each.age_days + 1} d",
        )
    show(made)


def _show_influencer(one: InfluencerMetrics) -> None:
    made = table(one.influencer_id, one.label)
    for label, value in (
        ("status", f"{one.status}, {one.control}"),
        ("signals", f"{one.signals:,} ({one.signals_per_day_micros / 1_000_000:,.1f} a day with signals)"),
        ("volume USD", _usd(one.volume_micros)),
        ("round trips", f"{one.trips:,}, won {_percent(one.win_rate_micros)}"),
        ("profit of round trips USD", _usd(one.profit_micros)),
        ("best, worst USD", f"{_usd(one.best_micros)}, {_usd(one.worst_micros)}"),
        ("drawdown USD", _usd(one.drawdown_micros)),
        ("fees USD", _usd(one.fee_micros)),
        ("gaps", f"{one.gaps:,}"),
        ("groups", f"{one.groups:,}"),
        ("active subscribers", f"{one.subscribers:,}"),
        ("decisions", f"{one.executed:,} executed, {one.skipped:,} skipped"),
        ("copied USD", f"{_usd(one.copied_volume_micros)} in {one.copied_fills:,} fills"),
    ):
        made.add_row(label, value)
    show(made)


def _show_subscriber(found: SubscriberMetrics) -> None:
    console = Console()
    profits = {profit.influencer_id: profit for profit in found.by_influencer}
    console.print(f"{found.subscriber_id}: profit {decimal_text(found.profit_micros)} USD", highlight=False)
    made = table(
        "copied",
        "profit USD",
        "decisions",
        "executed",
        "filled",
        "partial",
        "slippage bps",
        "fees USD",
        "seen, ms p50 p95 p99",
        "decided, ms p50 p95 p99",
    )
    for each in (found.copying, *found.copying_by_influencer):
        profit = profits.get(each.influencer_id)
        made.add_row(
            each.influencer_id or "everybody",
            _usd(profit.profit_micros if profit else 0) if each.influencer_id else _usd(found.profit_micros),
            f"{each.decisions:,}",
            f"{each.executed:,}",
            _percent(each.fill_rate_micros),
            _percent(each.partial_rate_micros),
            f"{each.slippage_bps_micros / 1_000_000:.2f}",
            _usd(each.fee_micros),
            " ".join(map(_ms, (each.detection_p50_us, each.detection_p95_us, each.detection_p99_us))),
            " ".join(map(_ms, (each.decision_p50_us, each.decision_p95_us, each.decision_p99_us))),
        )
    show(made, console)
