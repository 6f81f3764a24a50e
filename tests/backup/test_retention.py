"""Kept are the newest backup of each of the last 7 days, and of each of the last 4 weeks."""

from datetime import UTC, datetime, timedelta

from vibe.backup.retention import kept, set_name, taken_at


def name(day: datetime) -> str:
    return set_name(int(day.timestamp()) * 1_000_000_000)


SUNDAY = datetime(2026, 11, 29, 3, tzinfo=UTC)


def test_a_name_is_the_time() -> None:
    assert name(SUNDAY) == "20261129T030000Z"
    assert taken_at("20261129T030000Z") == SUNDAY


def test_daily_backups_of_two_months_leave_seven_days_and_four_weeks() -> None:
    names = [name(SUNDAY - timedelta(days=days)) for days in range(60)]
    # The newest of the week of SUNDAY is among the seven days.
    weeks = [name(SUNDAY - timedelta(days=days)) for days in (7, 14, 21)]
    assert kept(names) == {*names[:7], *weeks}


def test_of_one_day_the_newest_is_kept() -> None:
    hours = [name(SUNDAY + timedelta(hours=hours)) for hours in range(3)]
    assert kept(hours) == {hours[-1]}


def test_days_without_a_backup_do_not_count() -> None:
    sparse = [name(SUNDAY - timedelta(days=30 * months)) for months in range(3)]
    assert kept(sparse) == set(sparse)
    assert kept([]) == set()
