"""Dashboards for Grafana, made from one table: `python -m vibe.app.dashboards` writes ops/grafana/*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

_WIDTH, _HEIGHT = 12, 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Panel(NamedTuple):
    """A graph: its title, the unit as Grafana names it, and its queries with what each line is called."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


class Dashboard(NamedTuple):
    """A page of panels; its file is called `name`."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def _rate(metric: str, by: str) -> tuple[str, str]:
    return f"sum by ({by}) (rate({metric}[5m]))", f"{{{{{by}}}}}"


def _quantiles(histogram: str, by: str = "") -> tuple[tuple[str, str], ...]:
    groups = f"le, {by}" if by else "le"
    label = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (f"histogram_quantile({q}, sum by ({groups}) (rate({histogram}_bucket[5m])))", f"p{float(q) * 100:g}{label}")
        for q in ("0.5", "0.95", "0.99")
    )


DASHBOARDS = (
    Dashboard(
        "health",
        "Vibe: health and throughput",
        (
            Panel("Processes that are ready", "none", (("min by (name) (vibe_process_up)", "{{name}}"),)),
            Panel(
                "Restarts in an hour",
                "none",
                (("sum by (name) (increase(vibe_process_restarts_total[1h]))", "{{name}}"),),
            ),
            Panel("Events read", "ops", (_rate("vibe_events_read_total", "stage"),)),
            Panel("Events written", "ops", (_rate("vibe_events_written_total", "stage"),)),
            Panel("Raw events", "ops", (("sum(rate(vibe_raw_recorded_total[5m]))", "stored"),)),
            Panel(
                "Longest collection of garbage",
                "s",
                (("max by (process) (vibe_gc_longest_pause_seconds)", "{{process}}"),),
            ),
        ),
    ),
    Dashboard(
        "latency",
        "Vibe: latencies and errors",
        (
            Panel("Receipt to RAW", "s", _quantiles("vibe_raw_seconds")),
            Panel("Input to output, by stage (p95)", "s", (_quantiles("vibe_stage_seconds", "stage")[1],)),
            Panel("Detection to decision", "s", _quantiles("vibe_decision_seconds")),
            Panel("Commit, by stage (p95)", "s", (_quantiles("vibe_commit_seconds", "stage")[1],)),
            Panel("Answers of the API", "s", _quantiles("vibe_web_request_seconds")),
            Panel(
                "Refused",
                "none",
                (
                    ("sum by (stage) (increase(vibe_lane_refused_total[1h]))", "log refuses {{stage}}"),
                    ("sum(increase(vibe_nats_denied_total[1h]))", "permissions"),
                    ("sum by (stream) (increase(vibe_foreign_events_total[1h]))", "foreign in {{stream}}"),
                ),
            ),
        ),
    ),
    Dashboard(
        "backlog",
        "Vibe: backlog and lag",
        (
            Panel(
                "Not finished, by consumer",
                "none",
                (("max by (stream, consumer) (vibe_consumer_waiting)", "{{stream}} {{consumer}}"),),
            ),
            Panel("Read models behind", "s", (("max by (stream) (vibe_projection_behind_seconds)", "{{stream}}"),)),
            Panel(
                "Dead letters in an hour",
                "none",
                (("sum by (stage) (increase(vibe_dead_letters_total[1h]))", "{{stage}}"),),
            ),
            Panel(
                "Fenced commits in an hour",
                "none",
                (("sum by (stage) (increase(vibe_fenced_total[1h]))", "{{stage}}"),),
            ),
        ),
    ),
    Dashboard(
        "copying",
        "Vibe: copying and exits",
        (
            Panel("Decisions", "ops", (_rate("vibe_decisions_total", "decision"),)),
            Panel("Reasons", "ops", (_rate("vibe_decision_reasons_total", "reason"),)),
            Panel("Exits owed", "none", (("sum(vibe_exits_owed)", "owed"),)),
            Panel("Oldest exit owed", "s", (("max(vibe_oldest_exit_seconds)", "oldest"),)),
            Panel(
                "Breakers tripped in a day",
                "none",
                (("sum by (limit) (increase(vibe_breakers_tripped_total[1d]))", "{{limit}}"),),
            ),
            Panel("Live orders", "ops", (_rate("vibe_live_orders_total", "how"),)),
            Panel("Answer of the venue to an order", "s", _quantiles("vibe_live_order_answer_seconds")),
            Panel("Oldest order without a result", "s", (("max(vibe_oldest_live_order_seconds)", "oldest"),)),
        ),
    ),
    Dashboard(
        "venues",
        "Vibe: venues and listeners",
        (
            Panel("Frames received", "ops", (_rate("vibe_feed_frames_total", "kind"),)),
            Panel(
                "Followed",
                "none",
                (("sum(vibe_followed_addresses)", "addresses"), ("sum(vibe_polymarket_wallets)", "wallets")),
            ),
            Panel("Quotes by source", "ops", (_rate("vibe_quotes_total", "source"),)),
            Panel("Quotes without a live book", "ops", (_rate("vibe_quote_fallbacks_total", "why"),)),
            Panel("Live books", "none", (("sum by (venue) (vibe_live_books)", "{{venue}}"),)),
            Panel(
                "Clock, venue minus this machine",
                "s",
                (("max by (venue) (vibe_venue_clock_offset_seconds)", "{{venue}}"),),
            ),
            Panel("Marks that failed", "ops", (_rate("vibe_marks_failed_total", "venue"),)),
            Panel("Age of the oldest poll", "s", (("max(vibe_polymarket_poll_age_seconds)", "Polymarket"),)),
        ),
    ),
    Dashboard(
        "storage",
        "Vibe: read models and storage",
        (
            Panel("Bytes of streams", "bytes", (("max by (stream) (vibe_stream_bytes)", "{{stream}}"),)),
            Panel(
                "Messages that streams lack",
                "none",
                (("max by (stream) (vibe_stream_missing_messages)", "{{stream}}"),),
            ),
            Panel(
                "Disk",
                "bytes",
                (("min(vibe_disk_free_bytes)", "free"), ("min(vibe_disk_size_bytes)", "size")),
            ),
            Panel(
                "Since the last daily job",
                "s",
                (("time() - max by (job) (vibe_daily_job_success_timestamp_seconds)", "{{job}}"),),
            ),
            Panel("Rows changed", "ops", (_rate("vibe_projection_changes_total", "projection"),)),
            Panel(
                "Events not in a read model",
                "none",
                (("max by (projection) (vibe_projection_lag_events)", "{{projection}}"),),
            ),
        ),
    ),
)


def page(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana imports it: two panels in a row, the data source is chosen at the top."""
    return {
        "uid": f"vibe-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["vibe"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, 2)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": query, "legendFormat": label}
            for place, (query, label) in enumerate(panel.queries)
        ],
    }


def text(dashboard: Dashboard) -> str:
    """The file of a dashboard."""
    return json.dumps(page(dashboard), indent=2) + "\n"


def write(folder: Path) -> None:
    """Write the file of each dashboard."""
    for dashboard in DASHBOARDS:
        (folder / f"{dashboard.name}.json").write_text(text(dashboard), encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[2] / "ops" / "grafana")
