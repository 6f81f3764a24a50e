"""What `vibe up` does once a day beside its stages: the archive of closed days, a backup, and the verification of the
last day.

Each job is a `vibe` command in a process of its own, whose output goes to logs/<job>.log. A day that was missed because
nothing ran at the time is made up for at the next start. A new folder begins with the next day.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from vibe.app import metrics
from vibe.app.worker_process import SUPERVISED

log = structlog.get_logger()

JOBS: dict[str, tuple[str, ...]] = {
    "archive": ("archive", "run"),
    "backup": ("backup", "run"),
    "verify": ("verify", "--since", "26h"),
}
"""In this order: what the archive holds is not needed from the backup."""
OFF = "off"
_ASK_SECONDS = 20.0
_RETRY = timedelta(hours=1)
_VERIFY_RETRY = timedelta(hours=24)
"""What does not come out equal does not come out equal an hour later, and to compute it takes long."""
_NICENESS = 10
"""Stages go first."""

Run = Callable[[str], Awaitable[bool]]
"""Runs a job by its name; returns whether it succeeded."""


class DailyJobs:
    """Runs each job once a UTC day from a time such as '03:00' on; the days are stored in daily.json of the folder."""

    def __init__(self, data_dir: Path, at: str, run: Run) -> None:
        self._path = data_dir / "daily.json"
        self._at = at
        self._run = run
        self._failed: dict[str, datetime] = {}

    def due(self, now: datetime) -> dict[str, date]:
        """The jobs to run now, each with the day that it is for. One that failed is run again after an hour."""
        if self._at == OFF:
            return {}
        hour, minute = map(int, self._at.split(":"))
        begins = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        day = (begins if now >= begins else begins - timedelta(days=1)).date()
        done = self._done()
        if not done:
            self._store(dict.fromkeys(JOBS, day))
            return {}
        return {name: day for name in JOBS if done.get(name, date.min) < day and self._may_run(name, now)}

    def _may_run(self, name: str, now: datetime) -> bool:
        return name not in self._failed or now - self._failed[name] >= _retry_of(name)

    async def run(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Run what is due, until cancelled."""
        for name, day in self._done().items():
            metrics.JOB_SUCCESS.labels(name).set(datetime.combine(day, datetime.min.time(), UTC).timestamp())
        while True:
            await self.run_due(clock())
            await asyncio.sleep(_ASK_SECONDS)

    async def run_due(self, now: datetime) -> None:
        """Run what is due now, and remember the day of what succeeds."""
        for name, day in self.due(now).items():
            if await self._run(name):
                self._failed.pop(name, None)
                self._store({**self._done(), name: day})
                metrics.JOB_SUCCESS.labels(name).set(now.timestamp())
                metrics.JOB_FAILED.labels(name).set(0)
                log.info("daily_job.done", name=name)
            else:
                self._failed[name] = now
                metrics.JOB_FAILED.labels(name).set(1)
                again = _retry_of(name).total_seconds()
                log.error("daily_job.failed", name=name, log=f"logs/{name}.log", again_in_seconds=again)

    def _done(self) -> dict[str, date]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, date])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def _store(self, days: dict[str, date]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".tmp")
        draft.write_bytes(msgspec.json.encode(days))
        draft.replace(self._path)


def _retry_of(name: str) -> timedelta:
    return _VERIFY_RETRY if name == "verify" else _RETRY


def in_a_process(environment: Mapping[str, str], logs: Path) -> Run:
    """Runs a job as `vibe ...` with these settings beside those of this process."""

    logs.mkdir(parents=True, exist_ok=True)

    async def run(name: str) -> bool:
        settings = {key: value for key, value in os.environ.items() if key != SUPERVISED}
        with (logs / f"{name}.log").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "vibe",
                *JOBS[name],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**settings, **environment},
            )
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        try:
            return await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()

    return run
