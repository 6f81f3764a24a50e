"""Spans such as 24h end at the time of the log: a demo's scenario has a clock of its own."""

import time
from pathlib import Path

from vibe.app.demo import EPOCH_NS, Scenario, log_time, save
from vibe.app.settings import Settings


def test_a_log_of_ones_own_has_the_real_time(tmp_path: Path) -> None:
    before = time.time_ns()
    assert before <= log_time(Settings(data_dir=tmp_path)) <= time.time_ns()


def test_a_demos_log_has_the_time_of_its_scenario(tmp_path: Path) -> None:
    save(tmp_path, Scenario(seed=7, offset_ns=5, reached_ns=EPOCH_NS + 60))
    assert log_time(Settings(data_dir=tmp_path)) == EPOCH_NS + 60


def test_while_a_demo_runs_its_time_is_that_of_its_clock_which_is_stored_a_little_ahead(tmp_path: Path) -> None:
    offset = EPOCH_NS - time.time_ns()
    save(tmp_path, Scenario(seed=7, offset_ns=offset, reached_ns=EPOCH_NS + 3 * 10**9))
    assert EPOCH_NS <= log_time(Settings(data_dir=tmp_path)) < EPOCH_NS + 2 * 10**9


def test_a_demo_that_never_started_has_no_time_of_its_own(tmp_path: Path) -> None:
    save(tmp_path, Scenario(seed=7))
    assert log_time(Settings(data_dir=tmp_path)) >= time.time_ns() - 10**9
