"""Alert rules for Prometheus, made from tables: `python -m vibe.app.alert_rules` writes ops/prometheus/vibe.rules.yml

Objectives alert by how fast they use up what may go wrong (burn rate): two windows each, the short one so that an alert
ends soon after its cause. Everything else is a condition that holds for a while. Each names a runbook.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PAGE, TICKET = "page", "ticket"
JOB = 'job="vibe"'
"""The scrape job that ops/prometheus/prometheus.yml gives the system."""

_RUNBOOKS = "docs/runbooks"


class Objective(NamedTuple):
    """A share of what happens that has to go well. `error` is the share that did not, over the window `{w}`."""

    name: str
    percent: float
    error: str
    what: str
    runbook: str

    @property
    def budget(self) -> float:
        return round(1 - self.percent / 100, 6)


class Alert(NamedTuple):
    """A condition, and for how long it has to hold."""

    name: str
    condition: str
    lasts: str
    severity: str
    what: str
    runbook: str


class BurnRate(NamedTuple):
    """An alert on an objective: this many times the allowed rate, over both windows."""

    factor: float
    long: str
    short: str
    severity: str


BURN_RATES = (
    BurnRate(14.4, "1h", "5m", PAGE),
    BurnRate(6, "6h", "30m", PAGE),
    BurnRate(3, "1d", "2h", TICKET),
    BurnRate(1, "3d", "6h", TICKET),
)
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


def _slower_than(histogram: str, seconds: str, labels: str = "") -> str:
    within = f'{histogram}_bucket{{{labels}{"," if labels else ""}le="{seconds}"}}'
    every = f"{histogram}_count{{{labels}}}" if labels else f"{histogram}_count"
    return f"1 - sum(rate({within}[{{w}}])) / (sum(rate({every}[{{w}}])) > 0)"


OBJECTIVES = (
    Objective("available", 99.5, f"1 - avg(avg_over_time(up{{{JOB}}}[{{w}}]))", "a process answers", "servers-away"),
    Objective("raw", 95, _slower_than("vibe_raw_seconds", "1.0"), "received to RAW within 1 s", "lag"),
    Objective(
        "signal", 95, _slower_than("vibe_stage_seconds", "1.0", 'stage="normalize"'), "RAW to signal within 1 s", "lag"
    ),
    Objective("decision", 95, _slower_than("vibe_decision_seconds", "2.0"), "detected to decided within 2 s", "lag"),
    Objective(
        "decision_late", 99, _slower_than("vibe_decision_seconds", "5.0"), "detected to decided within 5 s", "lag"
    ),
    Objective(
        "ledger",
        99,
        "avg_over_time((max(vibe_projection_behind_seconds) > bool 5)[{w}:1m])",
        "the ledger is at most 5 s behind",
        "lag",
    ),
)

ALERTS = (
    Alert(
        "VibeMetricsAbsent", f"absent(up{{{JOB}}})", "5m", PAGE, "Prometheus scrapes no process of Vibe", "servers-away"
    ),
    Alert(
        "VibeProcessDown", "min by (name) (vibe_process_up) == 0", "1m", PAGE, "a process is not ready", "servers-away"
    ),
    Alert(
        "VibeProcessRestarts",
        "sum by (name) (increase(vibe_process_restarts_total[10m])) > 3",
        "0m",
        PAGE,
        "a process dies again and again",
        "servers-away",
    ),
    Alert(
        "VibeHoleInStream",
        "max by (stream) (vibe_stream_missing_messages) > 0",
        "0m",
        PAGE,
        "a stream lacks messages that were stored",
        "lost-stream",
    ),
    Alert(
        "VibeForeignEvents",
        "sum by (stream) (increase(vibe_foreign_events_total[10m])) > 0",
        "0m",
        PAGE,
        "a stream has a message that none of its writers stored",
        "verification",
    ),
    Alert(
        "VibeDenied",
        "sum(increase(vibe_nats_denied_total[10m])) > 0",
        "0m",
        TICKET,
        "nats-server refused what a process wanted to do",
        "denied",
    ),
    Alert(
        "VibeDeadLetters",
        "sum by (stage) (increase(vibe_dead_letters_total[15m])) > 0",
        "0m",
        TICKET,
        "a stage could not process an event",
        "dead-letters",
    ),
    Alert(
        "VibeBacklog",
        "max by (stream, consumer) (vibe_consumer_waiting) > 10000",
        "10m",
        TICKET,
        "a stage is far behind its input",
        "lag",
    ),
    Alert(
        "VibeLaneRefused",
        "sum by (stage) (increase(vibe_lane_refused_total[5m])) > 0",
        "2m",
        PAGE,
        "the log refuses what a stage writes",
        "lag",
    ),
    Alert(
        "VibeSignalsDrop",
        "sum(rate(vibe_raw_recorded_total[30m])) < 0.1 * sum(rate(vibe_raw_recorded_total[1d] offset 30m)) "
        "and sum(rate(vibe_raw_recorded_total[1d] offset 30m)) > 0.01",
        "15m",
        PAGE,
        "a tenth of the usual events is received",
        "blind-listener",
    ),
    Alert(
        "VibeDecisionsDrop",
        "sum(rate(vibe_decisions_total[1h])) < 0.1 * sum(rate(vibe_decisions_total[1d] offset 1h)) "
        "and sum(rate(vibe_decisions_total[1d] offset 1h)) > 0.01",
        "30m",
        PAGE,
        "a tenth of the usual decisions is made",
        "lag",
    ),
    Alert(
        "VibeBlindFeed",
        "sum(increase(vibe_feed_frames_total[5m])) == 0 and sum(vibe_followed_addresses) > 0",
        "5m",
        PAGE,
        "addresses are followed and the venue sends nothing",
        "blind-listener",
    ),
    Alert(
        "VibeBlindBooks",
        "max by (venue) (vibe_live_books_blind) == 1",
        "2m",
        TICKET,
        "live books are wanted and none comes",
        "blind-listener",
    ),
    Alert(
        "VibeVenueFails",
        "sum by (venue) (increase(vibe_marks_failed_total[15m])) > 10",
        "5m",
        TICKET,
        "a venue does not answer",
        "venue-down",
    ),
    Alert(
        "VibeClockOffset",
        "max by (venue) (abs(vibe_venue_clock_offset_seconds)) > 1",
        "5m",
        TICKET,
        "this machine's clock differs from a venue's",
        "venue-down",
    ),
    Alert(
        "VibeBreakerTripped",
        "sum by (limit) (increase(vibe_breakers_tripped_total[10m])) > 0",
        "0m",
        TICKET,
        "a portfolio lost so much that it opens nothing more",
        "breaker",
    ),
    Alert(
        "VibeExitOwedLong",
        "max(vibe_oldest_exit_seconds) > 600",
        "5m",
        PAGE,
        "a copy still holds what its influencer gave up ten minutes ago",
        "exits-owed",
    ),
    Alert(
        "VibeOrderUnknown",
        "max(vibe_oldest_live_order_seconds) > 30",
        "1m",
        PAGE,
        "a live order was signed and its result is not known",
        "unknown-order",
    ),
    Alert(
        "VibeDiskLow",
        "min(vibe_disk_free_bytes / vibe_disk_size_bytes) < 0.15",
        "10m",
        TICKET,
        "the disk of the event log fills",
        "disk-full",
    ),
    Alert(
        "VibeDiskFull",
        "min(vibe_disk_free_bytes / vibe_disk_size_bytes) < 0.05",
        "1m",
        PAGE,
        "the disk of the event log is nearly full: nats-server is about to store nothing more",
        "disk-full",
    ),
    Alert(
        "VibeVerificationFails",
        'max(vibe_daily_job_failed{job="verify"}) == 1',
        "0m",
        PAGE,
        "an event does not come out equal, or nothing leads to it",
        "verification",
    ),
    Alert(
        "VibeBackupOld",
        'time() - max(vibe_daily_job_success_timestamp_seconds{job="backup"}) > 180000',
        "10m",
        TICKET,
        "the newest backup is more than two days old",
        "backup",
    ),
    Alert(
        "VibeArchiveOld",
        'time() - max(vibe_daily_job_success_timestamp_seconds{job="archive"}) > 180000',
        "10m",
        TICKET,
        "closed days were not archived for more than two days",
        "backup",
    ),
)


def error_metric(window: str) -> str:
    """The recorded share of errors over a window."""
    return f"slo:sli_error:ratio_rate{window}"


def burn_name(objective: Objective) -> str:
    return "VibeObjective" + "".join(word.title() for word in objective.name.split("_"))


def burn_condition(objective: Objective, rate: BurnRate) -> str:
    """Whether an objective is used up at a rate, over both windows."""
    limit = f"{rate.factor * objective.budget:g}"
    both = (f'{error_metric(window)}{{slo="{objective.name}"}} > {limit}' for window in (rate.long, rate.short))
    return " and ".join(both)


def annotations_of(what: str, runbook: str) -> dict[str, str]:
    return {"summary": what, "runbook_url": f"{_RUNBOOKS}/{runbook}.md"}


def text() -> str:
    """The file of rules."""
    return "\n".join(["# Made by `python -m vibe.app.alert_rules`.", *_lines(), ""])


def _lines() -> Iterator[str]:
    yield "groups:"
    yield "  - name: vibe-objectives"
    yield "    rules:"
    for objective in OBJECTIVES:
        for window in WINDOWS:
            yield f"      - record: {error_metric(window)}"
            yield f"        expr: {json.dumps(objective.error.replace('{w}', window))}"
            yield f"        labels: {json.dumps({'slo': objective.name})}"
    yield "  - name: vibe-objective-alerts"
    yield "    rules:"
    for objective in OBJECTIVES:
        for rate in BURN_RATES:
            what = f"{objective.percent:g} % {objective.what}: used up {rate.factor:g} times too fast"
            yield from _alert(burn_name(objective), burn_condition(objective, rate), "0m", what, objective.runbook)
            yield f"        labels: {json.dumps({'severity': rate.severity, 'window': rate.long})}"
    yield "  - name: vibe-alerts"
    yield "    rules:"
    for alert in ALERTS:
        yield from _alert(alert.name, alert.condition, alert.lasts, alert.what, alert.runbook)
        yield f"        labels: {json.dumps({'severity': alert.severity})}"


def _alert(name: str, condition: str, lasts: str, what: str, runbook: str) -> Iterator[str]:
    yield f"      - alert: {name}"
    yield f"        expr: {json.dumps(condition)}"
    yield f"        for: {lasts}"
    yield f"        annotations: {json.dumps(annotations_of(what, runbook))}"


def write(path: Path) -> None:
    """Write the file of rules."""
    path.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[2] / "ops" / "prometheus" / "vibe.rules.yml")
