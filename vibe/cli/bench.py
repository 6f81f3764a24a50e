"""`vibe bench`: on servers of its own, in a folder of the data folder."""

from __future__ import annotations

from collections.abc import Mapping

from gateways.embedded import servers
from vibe.app.settings import Settings, nats_conf
from vibe.bench import log, projections
from vibe.cli.output import print_json, progress_reporter, show, table


async def run_bench_log(settings: Settings, json: bool, events: int) -> int:
    say = progress_reporter(json)
    async with servers(settings.data_dir / "bench", nats_conf(), postgres_dsn=settings.dsn, progress=say) as at:
        figures = await log.measure(at.nats_url, events=events, progress=say)
    if json:
        print_json(figures)
    else:
        _show({**figures, **{f"replay {name}": value for name, value in figures["replay"].items()}})
    return 0


async def run_bench_projections(settings: Settings, json: bool, events: int) -> int:
    say = progress_reporter(json)
    async with servers(settings.data_dir / "bench", nats_conf(), postgres_dsn=settings.dsn, progress=say) as at:
        figures = await projections.measure(at.nats_url, at.postgres_dsn, events=events, progress=say)
    if json:
        print_json(figures)
    else:
        _show(figures)
    return 0


def _show(figures: Mapping[str, object]) -> None:
    made = table("figure", "value")
    for name, value in figures.items():
        if isinstance(value, int | float):
            made.add_row(name, f"{value:,}")
    show(made)
