"""Alert rules: as the table makes them, with metrics and runbooks that exist; they stay quiet, fire and resolve."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.app.prometheus_names import existing, used
from tests.repository import ROOT
from vibe.app.alert_rules import (
    ALERTS,
    BURN_RATES,
    OBJECTIVES,
    WINDOWS,
    Alert,
    annotations_of,
    burn_name,
    error_metric,
    text,
)

RULES = ROOT / "ops" / "prometheus" / "vibe.rules.yml"
PROMTOOL = shutil.which("promtool")

CASES: dict[str, tuple[tuple[str, str], dict[str, str]]] = {
    "VibeProcessDown": (('vibe_process_up{name="copies"}', "1x29 0x29 1x60"), {"name": "copies"}),
    "VibeProcessRestarts": (
        ('vibe_process_restarts_total{name="copies"}', "0x29 0+1x29 30x60"),
        {"name": "copies"},
    ),
    "VibeHoleInStream": (('vibe_stream_missing_messages{stream="RAW"}', "0x29 3x29 0x60"), {"stream": "RAW"}),
    "VibeForeignEvents": (
        ('vibe_foreign_events_total{stream="EXECUTIONS"}', "0x29 0+1x29 30x60"),
        {"stream": "EXECUTIONS"},
    ),
    "VibeDenied": (("vibe_nats_denied_total", "0x29 0+1x29 30x60"), {}),
    "VibeDeadLetters": (('vibe_dead_letters_total{stage="plan"}', "0x29 0+1x29 30x60"), {"stage": "plan"}),
    "VibeBacklog": (
        ('vibe_consumer_waiting{stream="REQUESTS",consumer="plan-00-15"}', "5x29 20000x29 5x60"),
        {"stream": "REQUESTS", "consumer": "plan-00-15"},
    ),
    "VibeLaneRefused": (('vibe_lane_refused_total{stage="plan"}', "0x29 0+1x29 30x60"), {"stage": "plan"}),
    "VibeBlindBooks": (('vibe_live_books_blind{venue="hyperliquid"}', "0x29 1x29 0x60"), {"venue": "hyperliquid"}),
    "VibeVenueFails": (
        ('vibe_marks_failed_total{venue="polymarket"}', "0x29 0+5x29 150x60"),
        {"venue": "polymarket"},
    ),
    "VibeClockOffset": (
        ('vibe_venue_clock_offset_seconds{venue="hyperliquid"}', "0x29 -3x29 0x60"),
        {"venue": "hyperliquid"},
    ),
    "VibeBreakerTripped": (('vibe_breakers_tripped_total{limit="daily"}', "0x29 0+1x29 30x60"), {"limit": "daily"}),
    "VibeVerificationFails": (('vibe_daily_job_failed{job="verify"}', "0x29 1x29 0x60"), {}),
    "VibeExitOwedLong": (("vibe_oldest_exit_seconds", "0x29 900x29 0x60"), {}),
    "VibeOrderUnknown": (("vibe_oldest_live_order_seconds", "0x29 90x29 0x60"), {}),
}
"""One series for each of these alerts: a minute a value, quiet for half an hour, the cause for as long, then quiet."""


def alert(name: str) -> Alert:
    return next(one for one in ALERTS if one.name == name)


def expected(one: Alert, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "exp_labels": {**labels, "severity": one.severity},
        "exp_annotations": annotations_of(one.what, one.runbook),
    }


def checked(name: str, at: str, *firing: dict[str, Any]) -> dict[str, Any]:
    return {"eval_time": at, "alertname": name, "exp_alerts": list(firing)}


def case_of(series: dict[str, str], *checks: dict[str, Any], interval: str = "1m") -> dict[str, Any]:
    return {
        "interval": interval,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": list(checks),
    }


def usual() -> list[dict[str, Any]]:
    """An alert whose cause is one series: quiet, firing, resolved."""
    return [
        case_of(
            {series: values},
            checked(name, "25m"),
            checked(name, "55m", expected(alert(name), labels)),
            checked(name, "115m"),
        )
        for name, ((series, values), labels) in CASES.items()
    ]


def disk(name: str, free: int) -> dict[str, Any]:
    values = f"50x29 {free}x29 50x60"
    series = {"vibe_disk_free_bytes": values, "vibe_disk_size_bytes": "100x120"}
    return case_of(series, checked(name, "25m"), checked(name, "55m", expected(alert(name), {})), checked(name, "115m"))


def job(name: str, of: str) -> dict[str, Any]:
    """Done at the beginning, again after 60 hours."""
    done = f"0x719 {60 * 3600}x40"
    series = {f'vibe_daily_job_success_timestamp_seconds{{job="{of}"}}': done}
    fires = checked(name, "55h", expected(alert(name), {}))
    return case_of(series, checked(name, "40h"), fires, checked(name, "62h"), interval="5m")


def drop(name: str, counter: str) -> dict[str, Any]:
    """Two days of one a minute, three hours of none, then six of one a minute."""
    series = {counter: "0+10x287 2880x18 2880+10x36"}
    fires = checked(name, "50h30m", expected(alert(name), {}))
    return case_of(series, checked(name, "47h"), fires, checked(name, "54h"), interval="10m")


def special() -> list[dict[str, Any]]:
    blind, absent = alert("VibeBlindFeed"), alert("VibeMetricsAbsent")
    frames = {'vibe_feed_frames_total{kind="trades"}': "0+5x29 150x29 150+5x60", "vibe_followed_addresses": "3x120"}
    down = {"exp_labels": {"job": "vibe", "severity": absent.severity}}
    down["exp_annotations"] = annotations_of(absent.what, absent.runbook)
    return [
        disk("VibeDiskLow", 10),
        disk("VibeDiskFull", 2),
        case_of(
            frames,
            checked(blind.name, "25m"),
            checked(blind.name, "55m", expected(blind, {})),
            checked(blind.name, "115m"),
        ),
        case_of(
            {'up{job="vibe"}': "1x29 _x30 1x60"},
            checked(absent.name, "25m"),
            checked(absent.name, "55m", down),
            checked(absent.name, "115m"),
        ),
    ]


def slow() -> list[dict[str, Any]]:
    return [
        drop("VibeSignalsDrop", "vibe_raw_recorded_total"),
        drop("VibeDecisionsDrop", 'vibe_decisions_total{decision="SKIP"}'),
        job("VibeBackupOld", "backup"),
        job("VibeArchiveOld", "archive"),
    ]


def objectives() -> list[dict[str, Any]]:
    """Each objective goes wrong altogether for an hour and a half: the fastest burn fires, and ends soon after."""
    bad, good = "vibe_raw_seconds", 'le="1.0"'
    series = {
        "available": {'up{job="vibe"}': "1x59 0x90 1x420"},
        "raw": {f"{bad}_bucket{{{good}}}": "0+60x59 3540x90 3540+60x420", f"{bad}_count": "0+60x600"},
        "signal": {
            'vibe_stage_seconds_bucket{stage="normalize",le="1.0"}': "0+60x59 3540x90 3540+60x420",
            'vibe_stage_seconds_count{stage="normalize"}': "0+60x600",
        },
        "decision": {
            'vibe_decision_seconds_bucket{le="2.0"}': "0+60x59 3540x90 3540+60x420",
            "vibe_decision_seconds_count": "0+60x600",
        },
        "decision_late": {
            'vibe_decision_seconds_bucket{le="5.0"}': "0+60x59 3540x90 3540+60x420",
            "vibe_decision_seconds_count": "0+60x600",
        },
        "ledger": {'vibe_projection_behind_seconds{stream="EXECUTIONS"}': "0x59 60x90 0x420"},
    }
    assert series.keys() == {objective.name for objective in OBJECTIVES}
    fastest = BURN_RATES[0]
    found = []
    for objective in OBJECTIVES:
        what = f"{objective.percent:g} % {objective.what}: used up {fastest.factor:g} times too fast"
        name = burn_name(objective)
        labels = {"slo": objective.name, "severity": fastest.severity, "window": fastest.long}
        fires = {"exp_labels": labels, "exp_annotations": annotations_of(what, objective.runbook)}
        found.append(
            case_of(
                series[objective.name],
                checked(name, "55m"),
                checked(name, "145m", fires, *slower(objective.name, objective)),
                checked(name, "550m"),
            )
        )
    return found


def slower(name: str, objective: Any) -> list[dict[str, Any]]:
    """The slower burn rates that have been reached by then too."""
    found = []
    for rate in BURN_RATES[1:]:
        what = f"{objective.percent:g} % {objective.what}: used up {rate.factor:g} times too fast"
        labels = {"slo": name, "severity": rate.severity, "window": rate.long}
        found.append({"exp_labels": labels, "exp_annotations": annotations_of(what, objective.runbook)})
    return found


def test_the_file_is_as_the_table_makes_it() -> None:
    assert RULES.read_text() == text(), "run: python -m vibe.app.alert_rules"


def test_every_rule_names_metrics_that_exist() -> None:
    names = existing() | {"up"} | {error_metric(window) for window in WINDOWS}
    rules = [rule for group in yaml.safe_load(text())["groups"] for rule in group["rules"]]
    for rule in rules:
        assert used(rule["expr"]), rule
        assert used(rule["expr"]) <= names, rule


def test_every_alert_has_a_runbook() -> None:
    for runbook in {one.runbook for one in (*ALERTS, *OBJECTIVES)}:
        assert (ROOT / "docs" / "runbooks" / f"{runbook}.md").is_file(), runbook


def test_every_alert_has_cases() -> None:
    cases = [*usual(), *special(), *slow(), *objectives()]
    named = {check["alertname"] for case in cases for check in case["alert_rule_test"]}
    assert named == {one.name for one in ALERTS} | {burn_name(objective) for objective in OBJECTIVES}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize(
    ("cases", "groups", "every"),
    [
        (usual, ["vibe-alerts"], "1m"),
        (special, ["vibe-alerts"], "1m"),
        (slow, ["vibe-alerts"], "10m"),
        (objectives, ["vibe-objectives", "vibe-objective-alerts"], "5m"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_alerts_stay_quiet_fire_and_resolve(tmp_path: Path, cases: Any, groups: list[str], every: str) -> None:
    """On the groups of rules that the cases are about: all others only take time."""
    chosen = [group for group in yaml.safe_load(RULES.read_text())["groups"] if group["name"] in groups]
    assert len(chosen) == len(groups)
    rules, file = tmp_path / "rules.yml", tmp_path / "cases.yml"
    rules.write_text(yaml.safe_dump({"groups": chosen}))
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": every, "tests": cases()}))
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
