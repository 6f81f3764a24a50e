"""The scenario's clock runs only while the demo does: a demo that was left for days goes on where it stopped."""

import json
import os
import signal
from pathlib import Path

import pytest

from domain.events import Venue
from streams.envelope import Recorded
from tests.system.command import assert_exactly_once, ends, start, until, vibe
from vibe.app import demo
from vibe.app.settings import Settings

DAY_NS = 86_400 * 1_000_000_000
SECOND_NS = 1_000_000_000


class RealClock:
    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND_NS

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


async def test_the_clock_goes_on_where_it_was_stopped(settings: Settings) -> None:
    real = RealClock()
    for run in range(3):
        stored_scenario = demo.scenario(settings, 7)
        assert stored_scenario.played_seconds == pytest.approx(max(0.0, 10 * run - demo.LEAD_NS / SECOND_NS))
        async with demo.ScenarioClock(settings.data_dir, stored_scenario, real) as clock:
            clock.start()
            assert clock.now() == demo.EPOCH_NS - demo.LEAD_NS + run * 10 * SECOND_NS
            real.now += 10 * SECOND_NS
        real.now += 3 * DAY_NS


async def test_after_a_crash_the_clock_is_not_behind_what_was_stored(settings: Settings) -> None:
    real = RealClock()
    crashed = demo.ScenarioClock(settings.data_dir, demo.scenario(settings, 7), real)
    crashed.start()
    # The next second is never stored: the process is killed before.
    real.now += SECOND_NS
    last = crashed.now()
    real.now += 3 * DAY_NS
    async with demo.ScenarioClock(settings.data_dir, demo.scenario(settings, 7), real) as clock:
        clock.start()
        assert last <= clock.now() <= last + demo.RESERVE_NS
    await crashed.__aexit__()


def test_another_seed_and_a_finished_scenario_start_again(settings: Settings) -> None:
    first = demo.scenario(settings, 7)
    first.offset_ns, first.reached_ns = 0, demo.EPOCH_NS + SECOND_NS
    demo.save(settings.data_dir, first)
    assert demo.scenario(settings, 7) == first
    first.finished = True
    demo.save(settings.data_dir, first)
    assert demo.scenario(settings, 7) == demo.Scenario(7)
    first.finished = False
    demo.save(settings.data_dir, first)
    assert demo.scenario(settings, 8) == demo.Scenario(8)


async def test_a_demo_left_for_days_trades_again_at_once(tmp_path: Path) -> None:
    left, whole = tmp_path / "left", tmp_path / "whole"
    process = await start(left, "demo", "--json")

    async def decided() -> int:
        async with ends(left) as at:
            count: int = await at.database.fetchval("SELECT count(*) FROM copy_attempt")
            return count

    async def is_ready() -> bool:
        log = left / "logs" / "projections.log"
        return log.exists() and "process.ready" in log.read_text()

    await until(is_ready, 40, "the stages are ready")
    before = await until(decided, 40, "a decision")
    os.killpg(process.pid, signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0

    # As if it had been left for five days, by the clock of its last run.
    stored = json.loads((left / "demo.json").read_bytes())
    stored["offset_ns"] += 5 * DAY_NS
    (left / "demo.json").write_text(json.dumps(stored))
    ended = await vibe(left, "demo", "--seconds", "4", "--json", timeout=60)
    assert ended.code == 0, ended.err
    assert sum(ended.json["decisions"].values()) > before
    played = (stored["reached_ns"] - demo.EPOCH_NS) / 1e9 + 4
    assert (await vibe(whole, "demo", "--seconds", str(played), "--json")).code == 0

    async with ends(left) as at:
        events = await at.events()
    assert_exactly_once(events)
    async with ends(whole) as at:
        undisturbed = await at.events()
    times = [event.data.event_time for event in events["signal.recorded"]]
    assert max(times) < demo.EPOCH_NS + DAY_NS
    assert signals(events) == signals(undisturbed)


def signals(events: dict[str, list[Recorded]]) -> set[str]:
    return {event.data.signal_id for event in events["signal.recorded"] if event.data.venue is Venue.HYPERLIQUID}
