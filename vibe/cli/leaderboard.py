"""`vibe leaderboard` and `vibe metrics`: which influencers to follow, and how copying goes, from the read models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import asyncpg
import msgspec
from cyclopts import Parameter
from rich.console import Console

from projections.queries import round_trips, subscribers
from projections.queries.evidence import EvidenceRow, evidence_board
from projections.queries.leaderboard import Ranked
from projections.queries.leaderboard import leaderboard as ranked_influencers
from projections.queries.round_trips import InfluencerMetrics
from projections.queries.subscribers import Copying, SubscriberMetrics
from vibe.app import pipeline_lag
from vibe.app.demo import log_time
from vibe.app.settings import Settings
from vibe.cli.command import AtLeastOne, Json, run_command
from vibe.cli.connections import BEGIN, open_connections
from vibe.cli.errors import CommandError, UsageError
from vibe.cli.leaderboard_rendering import show_board, show_influencer, show_subscriber
from vibe.cli.output import print_json
from vibe.cli.time_arguments import ago

_ALL = 1_000_000
_NAMED = "SELECT influencer_id FROM influencer WHERE influencer_id = $1 OR addresses ?| ARRAY[$1, lower($1)]"
Score = Literal["default", "evidence"]
Window = Literal["7d", "30d", "90d", "all"]


def leaderboard(
    *,
    score: Score = "default",
    window: Window | None = None,
    since: str | None = None,
    min_trips: AtLeastOne = 1,
    limit: AtLeastOne = 20,
    why: Annotated[str | None, Parameter(name="--why")] = None,
    json: Json = False,
) -> None:
    """Which influencers to follow, by score.

    Example: vibe leaderboard --score evidence --window 90d --why whale-1

    Parameters
    ----------
    score
        default: win rate, volume, drawdown, risk ratio and best round trip; evidence: how sure it is that the returns
        are skill, with what is missing where that cannot be known yet
    window
        trades of the last days
    since
        instead of a window: trades of this span (30d) or from this time on, whole UTC days; without either, all
    min_trips
        leave out influencers with fewer round trips, from flat to flat
    why
        only this influencer (its id or an address): the parts of its score and what they were computed from
    """
    run_command(
        run_leaderboard, window or since, min_trips, limit, json, score=score, why=why, both=bool(window and since)
    )


def metrics(
    what: Literal["influencer", "subscriber"],
    name: Annotated[str, Parameter(name="ID")],
    /,
    *,
    since: str | None = None,
    json: Json = False,
) -> None:
    """How an influencer trades and is copied, or how copying goes for a subscriber: profit, rates, slippage, lags.

    Example: vibe metrics subscriber alice --since 7d

    Parameters
    ----------
    since
        of this span (24h, 7d) or from this time on; without it, all. A subscriber's profit is always all
    """
    run_command(run_metrics, what, name, since, json)


@asynccontextmanager
async def _read_models(settings: Settings, json: bool) -> AsyncIterator[asyncpg.Connection[Any]]:
    """The database; on stderr, how far behind the log it is. Raises CommandError when no read model is built yet."""
    async with open_connections(settings, json=json) as at:
        try:
            yield at.database
        except asyncpg.UndefinedTableError as error:
            raise CommandError(
                "the read models are not built yet; `vibe up` or `vibe run projections` builds them"
            ) from error
        behind = await pipeline_lag.projection_lag(at.connection, at.database)
    if behind:
        Console(stderr=True).print(
            f"the read models are {behind:,} events behind the log", markup=False, highlight=False, soft_wrap=True
        )


def _time(settings: Settings, since: str | None) -> datetime | None:
    """When a span or time such as '30d' begins, UTC; None for everything."""
    if since is None:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ago(since, log_time(settings)) // 1000)


async def run_leaderboard(
    settings: Settings,
    since: str | None,
    min_trips: int,
    limit: int,
    json: bool,
    *,
    score: Score = "default",
    why: str | None = None,
    both: bool = False,
) -> int:
    """Raises CommandError for a `why` that is not on the board, UsageError for both a window and a time."""
    if both:
        raise UsageError("--window and --since exclude each other; give one of them")
    begin = _time(settings, None if since == "all" else since)
    first = begin.date() if begin is not None else round_trips.FIRST
    async with _read_models(settings, json) as db:
        found: list[Ranked] | list[EvidenceRow]
        if score == "evidence":
            now = log_time(settings)
            days = (datetime(1970, 1, 1) + timedelta(microseconds=now // 1000)).date() - first
            board = await evidence_board(db, now, first, window_days=days.days if begin else None)
            found = [row for row in board if row.evidence.trips >= min_trips]
        else:
            found = await ranked_influencers(db, first, min_trips=min_trips, limit=limit if why is None else _ALL)
        known = found or await db.fetchval("SELECT count(*) FROM influencer")
        if why is not None:
            names = {row["influencer_id"] for row in await db.fetch(_NAMED, why)}
            found = [row for row in found if _name(row) in names]  # type: ignore[assignment]
            if not found:
                raise CommandError(f"{why!r} is not on this leaderboard; `vibe config show` lists every influencer")
    found = found[:limit]
    if json:
        print_json(found)
    elif found:
        show_board(found, why=why is not None)
    elif known:
        trips = f"{min_trips} round trip{'' if min_trips == 1 else 's'}"
        Console().print(f"no active influencer has completed {trips} yet", highlight=False)
    else:
        Console().print(f"no influencer is configured yet. {BEGIN}", markup=False, highlight=False)
    return 0


def _name(row: Ranked | EvidenceRow) -> str:
    return row.influencer_id if isinstance(row, EvidenceRow) else row.trader.influencer_id


async def run_metrics(settings: Settings, what: str, name: str, since: str | None, json: bool) -> int:
    """Raises CommandError for an id that is not configured."""
    begin = _time(settings, since)
    async with _read_models(settings, json) as db:
        if what == "influencer":
            first = begin.date() if begin is not None else round_trips.FIRST
            influencer = await round_trips.influencer_metrics(db, name, first)
            copying = None
        else:
            influencer = None
            known = await subscribers.subscriber(db, name)
            copying = await subscribers.subscriber_metrics(db, name, begin or subscribers.FIRST) if known else None
    if influencer is not None:
        print_json(_influencer_facts(influencer)) if json else show_influencer(influencer)
    elif copying is not None:
        print_json(_subscriber_facts(copying)) if json else show_subscriber(copying)
    else:
        raise CommandError(f"no {what} {name!r} is configured; vibe config show lists every {what}")
    return 0


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
