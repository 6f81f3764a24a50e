"""Asking the log and the read models."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from vibe.app.settings import settings
from vibe.cli.root import Json, app, finish, group

subscriber_app = group("subscriber", "One subscriber, from the log.")
influencer_app = group("influencer", "One influencer, from the log.")

AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]


@app.command
def trace(
    wanted: Annotated[str, Parameter(name="ID")], /, *, json: Json = False, limit: AtLeastOne = 5, verify: bool = False
) -> None:
    """Where something came from and what it led to: any id of ours, a venue's trade id or hash, or STREAM:SEQUENCE.

    Example: vibe trace att_nf3hxq5d2k6zt7yqkl2e

    Exit code 1 when nothing has the id.

    Parameters
    ----------
    limit
        decisions shown in full when the id belongs to many
    verify
        make each decision again from the log alone, and say whether it comes out equal; exit code 1 when not
    """
    from vibe.cli.trace import run_trace

    finish(run_trace(settings(), wanted, json, limit, verify), quiet=True)


@app.command(name="verify-decisions")
def verify_decisions(*, since: str | None = None, json: Json = False) -> None:
    """Make every decision again from the log alone and compare: equal in every field, or the first difference.

    Example: vibe verify-decisions --since 24h

    Exit code 1 when one comes out different.

    Parameters
    ----------
    since
        a span such as 24h or 7d, or a time; without it, everything
    """
    from vibe.cli.verify import run_verify

    finish(run_verify(settings(), since, json), quiet=True)


@app.command
def whatif(*, config: Path, since: str = "24h", json: Json = False) -> None:
    """What another configuration would have made of the recorded groups and quotes, beside what happened.

    Example: vibe whatif --config bolder.jsonl --since 24h

    The file's lines are laid over the present configuration; nothing is written.

    Parameters
    ----------
    config
        JSON lines as in `vibe config import`
    since
        a span such as 24h or 7d, or a time
    """
    from vibe.cli.whatif import run_whatif

    finish(run_whatif(settings(), config, since, json), quiet=True)


@app.command
def lag(*, json: Json = False) -> None:
    """What every consumer has not finished yet: unprocessed + ack pending, as `nats consumer report` counts it.

    Example: vibe lag --json
    """
    from vibe.cli.streams import run_lag

    finish(run_lag(settings(), json), quiet=True)


@subscriber_app.command(name="show")
def subscriber_show(subscriber: str, /, *, at: str | None = None, json: Json = False) -> None:
    """A subscriber's cash and positions, folded from its events as of now or any earlier moment.

    Example: vibe subscriber show alice --at 2026-11-01T12:00:00Z

    Parameters
    ----------
    subscriber
        its id
    at
        a sequence of EXECUTIONS, or a time (UTC unless it says otherwise)
    """
    from vibe.cli.subscriber import run_subscriber_show

    finish(run_subscriber_show(settings(), subscriber, at, json), quiet=True)


@influencer_app.command(name="show")
def influencer_show(influencer: str, /, *, at: str | None = None, json: Json = False) -> None:
    """An influencer's own trading as a portfolio (SHADOW_USER): cash, positions, profit since it is followed.

    Example: vibe influencer show whale-1 --at 2026-11-01T00:00Z

    Parameters
    ----------
    at
        as of this time, or that long ago (24h); without it, now
    """
    from vibe.cli.influencer import run_influencer_show

    finish(run_influencer_show(settings(), influencer, at, json), quiet=True)


@app.command(name="leaderboard")
def leaderboard(
    *, since: str | None = None, min_trips: AtLeastOne = 1, limit: AtLeastOne = 20, json: Json = False
) -> None:
    """Whom to follow: influencers by score (win rate, volume, drawdown, risk ratio, best round trip).

    Example: vibe leaderboard --since 30d --min-trips 5

    Parameters
    ----------
    since
        trades of this span (30d) or from this time on, whole UTC days; without it, all
    min_trips
        leave out who ended fewer round trips, from flat to flat
    """
    from vibe.cli.leaderboard import run_leaderboard

    finish(run_leaderboard(settings(), since, min_trips, limit, json), quiet=True)


@app.command(name="metrics")
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
    from vibe.cli.leaderboard import run_metrics

    finish(run_metrics(settings(), what, name, since, json), quiet=True)
