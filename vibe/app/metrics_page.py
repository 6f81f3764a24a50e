"""The page of all metrics, made from their declarations: `python -m vibe.app.metrics_page` writes it anew."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

MODULES = (
    "streams.metrics",
    "gateways.metrics",
    "handlers.metrics",
    "handlers.live.metrics",
    "handlers.ingest.hyperliquid.backfill",
    "handlers.ingest.polymarket.metrics",
    "projections.engine.metrics",
    "vibe.web.metrics",
    "vibe.app.collector",
    "vibe.app.metrics",
)
"""Where metrics of processes are declared."""

_HEAD = """# Metrics

`GET /metrics` on `VIBE_HTTP_PORT` (9464) of `vibe up`, `vibe demo`, `vibe run` and `vibe web`, in Prometheus format. A
process has those of its stages; `vibe up` and `vibe demo` answer for all of their processes, each sample with the label
`process`. Times are in seconds; a histogram also has `_bucket`, `_sum` and `_count`. The code declares them, and
`python -m vibe.app.metrics_page` writes this page.

| metric | type | labels | what |
|---|---|---|---|
"""


class Metric(NamedTuple):
    """One metric as Prometheus shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def declared(registry: CollectorRegistry = prometheus_client.REGISTRY) -> list[Metric]:
    """Every metric of this project, by name."""
    for module in MODULES:
        importlib.import_module(module)
    return sorted(_declared(registry))


def _declared(registry: CollectorRegistry) -> Iterator[Metric]:
    for collector in set(registry._collector_to_names):
        if isinstance(collector, MetricWrapperBase) and collector._name.startswith("vibe_"):
            name = f"{collector._name}_total" if collector._type == "counter" else collector._name
            yield Metric(name, str(collector._type), tuple(collector._labelnames), collector._documentation)


def page() -> str:
    """The text of the page."""
    rows = (
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.text} |\n" for metric in declared()
    )
    return _HEAD + "".join(rows)


def write(path: Path) -> None:
    """Write the page to a file."""
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[2] / "docs" / "metrics.md")
