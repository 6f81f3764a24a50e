"""Once a UTC day, from the set time on: a missed day is made up for, a failure is tried again after an hour."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from prometheus_client import REGISTRY

from vibe.app.daily_jobs import JOBS, DailyJobs

DAY = datetime(2026, 11, 20, tzinfo=UTC)


class Runs:
    """Remembers what was run, and succeeds or fails."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.failing: set[str] = set()

    async def __call__(self, name: str) -> bool:
        self.names.append(name)
        return name not in self.failing


async def test_each_job_runs_once_a_day(tmp_path: Path) -> None:
    runs = Runs()
    jobs = DailyJobs(tmp_path, "03:00", runs)
    await jobs.run_due(DAY + timedelta(hours=12))
    assert runs.names == [], "a new folder begins with the next day"
    await jobs.run_due(DAY + timedelta(hours=26, minutes=59))
    assert runs.names == []
    for minutes in (0, 1, 600):
        await jobs.run_due(DAY + timedelta(hours=27, minutes=minutes))
    assert runs.names == ["archive", "backup", "verify"]


async def test_a_missed_day_is_made_up_for_without_skipping_the_next(tmp_path: Path) -> None:
    runs = Runs()
    await DailyJobs(tmp_path, "03:00", runs).run_due(DAY + timedelta(hours=12))
    later = DailyJobs(tmp_path, "03:00", runs)
    assert later.due(DAY + timedelta(days=3, hours=1)) == dict.fromkeys(JOBS, date(2026, 11, 22))
    await later.run_due(DAY + timedelta(days=3, hours=1))
    assert later.due(DAY + timedelta(days=3, hours=2)) == {}
    assert later.due(DAY + timedelta(days=3, hours=3)) == dict.fromkeys(JOBS, date(2026, 11, 23))


async def test_what_failed_is_run_again_after_an_hour(tmp_path: Path) -> None:
    runs = Runs()
    jobs = DailyJobs(tmp_path, "03:00", runs)
    await jobs.run_due(DAY + timedelta(hours=12))
    runs.failing = {"backup"}
    begun = DAY + timedelta(hours=27)
    await jobs.run_due(begun)
    assert jobs.due(begun + timedelta(minutes=59)) == {}
    assert jobs.due(begun + timedelta(minutes=60)) == {"backup": date(2026, 11, 21)}


async def test_a_verification_that_failed_is_a_metric_and_is_run_again_the_next_day(tmp_path: Path) -> None:
    def failed() -> float | None:
        return REGISTRY.get_sample_value("vibe_daily_job_failed", {"job": "verify"})

    runs = Runs()
    jobs = DailyJobs(tmp_path, "03:00", runs)
    await jobs.run_due(DAY + timedelta(hours=12))
    runs.failing = {"verify"}
    begun = DAY + timedelta(hours=27)
    await jobs.run_due(begun)
    assert (failed(), jobs.due(begun + timedelta(hours=23))) == (1, {})
    runs.failing = set()
    await jobs.run_due(begun + timedelta(hours=24))
    assert failed() == 0


async def test_off_runs_nothing(tmp_path: Path) -> None:
    jobs = DailyJobs(tmp_path, "off", Runs())
    assert jobs.due(DAY) == jobs.due(DAY + timedelta(days=9)) == {}
