"""Settings: what is refused, with a message that says what is expected."""

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateways.polymarket.adapter import REQUEST_SHARES, PolymarketAdapter, request_limiter
from gateways.rate_limit import RateLimiter
from gateways.venue_adapter import Purpose
from handlers.ingest.polymarket.ingest import poll_settings
from vibe.app.settings import Settings


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_stage_may_have_so_many_lanes(count: int) -> None:
    assert Settings(lanes=count).lanes == count


@pytest.mark.parametrize("count", [0, 3, 16, 64])
def test_any_other_number_of_lanes_is_refused(count: int) -> None:
    with pytest.raises(ValidationError, match=f"a stage has 1, 2, 4 or 8 lanes, not {count}; set VIBE_LANES"):
        Settings(lanes=count)


def test_a_setting_comes_from_the_file_that_its_variable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://vibe:a secret@db/vibe\n")
    monkeypatch.setenv("VIBE_POSTGRES_DSN_FILE", str(secret))
    assert Settings().dsn == "postgresql://vibe:a secret@db/vibe"
    monkeypatch.setenv("VIBE_POSTGRES_DSN", "postgresql://direct/vibe")
    assert Settings().dsn == "postgresql://direct/vibe"


def test_a_setting_that_is_a_file_itself_is_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIBE_BACKUP_KEY_FILE", str(tmp_path / "key"))
    assert Settings().backup_key == tmp_path / "key"


def test_what_is_in_a_file_is_checked_and_a_missing_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lanes").write_text("3")
    monkeypatch.setenv("VIBE_LANES_FILE", str(tmp_path / "lanes"))
    with pytest.raises(ValidationError, match="a stage has 1, 2, 4 or 8 lanes, not 3"):
        Settings()
    monkeypatch.setenv("VIBE_LANES_FILE", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"none"):
        Settings()


def test_the_usual_requests_polls_and_backfills_of_polymarket() -> None:
    usual = Settings()
    assert (usual.polymarket_requests_per_second, usual.polymarket_requests_at_once) == (20.0, 40)
    assert usual.polymarket_poll_seconds == 30.0
    backfills = (
        usual.polymarket_start_backfill_seconds,
        usual.polymarket_reconnect_backfill_seconds,
        usual.polymarket_reconcile_backfill_seconds,
    )
    assert backfills == (15 * 60, 5 * 60, 2 * 60)


async def test_settings_of_polymarket_reach_its_ingest(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("POLL", "START_BACKFILL", "RECONNECT_BACKFILL", "RECONCILE_BACKFILL")
    for number, name in enumerate(names, 61):
        monkeypatch.setenv(f"VIBE_POLYMARKET_{name}_SECONDS", str(number))
    async with PolymarketAdapter().connect(Settings(), Purpose.INGEST) as clients:
        polls = poll_settings(clients.polling)
    assert (polls.idle_interval, polls.start_back, polls.reconnect_back, polls.reconcile_back) == (61, 62, 63, 64)


async def test_the_requests_of_polymarket_are_split_between_the_stages_and_never_more_in_all() -> None:
    """Each purpose may send its part of the burst at once; all together send what the settings allow."""
    chosen = Settings(polymarket_requests_per_second=1.0, polymarket_requests_at_once=60)
    sent = 0

    async def send(limiter: RateLimiter) -> None:
        nonlocal sent
        while True:
            await limiter.spend()
            sent += 1

    for purpose in REQUEST_SHARES:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send(request_limiter(chosen, purpose)), 0.02)
    assert sent == 60
