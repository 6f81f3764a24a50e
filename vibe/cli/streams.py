"""`vibe streams` and `vibe lag`: the streams of the log, and how much of them each consumer has still to process."""

from __future__ import annotations

from typing import Any

from cyclopts import App
from rich.console import Console

from streams import topology
from streams.processing.lost_data import refuse_lost_data
from streams.roles import ADMIN
from vibe.app import pipeline_lag
from vibe.app.settings import Settings
from vibe.cli.command import Json, run_command
from vibe.cli.connections import open_connections
from vibe.cli.output import print_json, show, table

app = App(name="streams", help="The streams of the event log.")


def lag(*, json: Json = False) -> None:
    """How many events every consumer has still to process: unprocessed and ack pending, as `nats consumer report`.

    Example: vibe lag --json
    """
    run_command(run_lag, json)


@app.command(name="apply")
def streams_apply(*, json: Json = False) -> None:
    """Create or update every stream.

    Example: vibe streams apply
    """
    run_command(run_streams_apply, json)


@app.command(name="show")
def streams_show(*, json: Json = False) -> None:
    """Every stream: subjects, events, size, age limit, and whether it is as defined.

    Example: vibe streams show --json

    Exit code 1 when a stream is missing or differs.
    """
    run_command(run_streams_show, json)


async def run_lag(settings: Settings, json: bool) -> int:
    async with open_connections(settings) as at:
        lags = await pipeline_lag.lags(at.connection)
    if json:
        print_json([lag._asdict() for lag in lags])
        return 0
    if not lags:
        Console().print("no consumer has read anything yet; start the stages: vibe up")
        return 0
    made = table("stream", "consumer", "waiting")
    for lag in lags:
        made.add_row(lag.stream, lag.consumer, f"{lag.waiting:,}")
    show(made)
    return 0


async def run_streams_apply(settings: Settings, json: bool) -> int:
    async with open_connections(settings, create=True, role=ADMIN) as at:
        await refuse_lost_data(at.connection)
        done = await topology.apply(at.connection, settings.replicas)
    if json:
        print_json(dict(done))
        return 0
    for name, what in done:
        Console().print(f"{name:<12} {what}", highlight=False)
    return 0


async def run_streams_show(settings: Settings, json: bool) -> int:
    shown: list[dict[str, Any]] = []
    async with open_connections(settings, verify=False) as at:
        for stream in topology.STREAMS:
            found = await topology.info(at.connection, stream.name)
            if found is None:
                shown.append({"name": stream.name, "state": "missing; run: vibe streams apply"})
                continue
            config, state = found["config"], found["state"]
            wrong = topology.differences(stream.config(config["num_replicas"]), config)
            shown.append(
                {
                    "name": stream.name,
                    "description": stream.description,
                    "subjects": list(stream.subjects),
                    "events": state["messages"],
                    "first_sequence": state["first_seq"],
                    "last_sequence": state["last_seq"],
                    "bytes": state["bytes"],
                    "keeps_days": stream.max_age // 86_400_000_000_000 or None,
                    "replicas": config["num_replicas"],
                    "consumers": state["consumer_count"],
                    "state": "; ".join(wrong) or "ok",
                }
            )
    if json:
        print_json(shown)
    else:
        _show(shown)
    return 0 if all(row["state"] == "ok" for row in shown) else 1


def _show(streams: list[dict[str, Any]]) -> None:
    made = table(
        "stream", "subjects", "events", "bytes", "keeps", "R", "consumers", "state", text=("subjects", "state")
    )
    for row in streams:
        if "events" not in row:
            made.add_row(row["name"], "", "", "", "", "", "", row["state"])
            continue
        made.add_row(
            row["name"],
            " ".join(row["subjects"]),
            f"{row['events']:,}",
            f"{row['bytes']:,}",
            f"{row['keeps_days']} d" if row["keeps_days"] else "forever",
            str(row["replicas"]),
            str(row["consumers"]),
            row["state"],
        )
    show(made)
