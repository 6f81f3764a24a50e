"""`vibe streams` and `vibe lag`: the streams of the log and who still has how much of them to read."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from streams import topology
from vibe.app import pipeline_lag
from vibe.app.settings import Settings
from vibe.cli.connections import open_connections
from vibe.cli.output import print_json, show, table


async def run_lag(settings: Settings, json: bool) -> int:
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        lags = await pipeline_lag.lags(at.connection)
        if json:
            print_json([lag._asdict() for lag in lags])
            return 0
        made = table("stream", "consumer", "waiting")
        for lag in lags:
            made.add_row(lag.stream, lag.consumer, f"{lag.waiting:,}")
        show(made)
    return 0


async def run_streams_apply(settings: Settings, json: bool) -> int:
    async with open_connections(settings) as at:
        done = await topology.apply(at.connection, settings.replicas)
        if json:
            print_json(dict(done))
            return 0
        for name, what in done:
            Console().print(f"{name:<12} {what}", highlight=False)
    return 0


async def run_streams_show(settings: Settings, json: bool) -> int:
    shown: list[dict[str, Any]] = []
    async with open_connections(settings) as at:
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
        made = table(
            "stream", "subjects", "events", "bytes", "keeps", "R", "consumers", "state", text=("subjects", "state")
        )
        for row in shown:
            if "events" not in row:
                made.add_row(row["name"], "", "", "", "", "", "", row["state"])
                continue
            made.add_row(
                row["name"],
                " ".join(row["subjects"]),
                f"{row['events']:,}",
                f"{row['bytes']:,}",
                f"{row['keeps_days']} d" if row["keeps_days"] else "for ever",
                str(row["replicas"]),
                str(row["consumers"]),
                row["state"],
            )
        show(made)
    return 0 if all(row["state"] == "ok" for row in shown) else 1
