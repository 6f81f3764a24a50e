"""The live table fills a terminal of any size and cuts neither ids nor reasons."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from msgspec.structs import replace
from rich.console import Console

from vibe.cli.dashboard import Rates
from vibe.cli.dashboard_layout import Decision, Frame, Snapshot, StageRow, layout, shortened

REASONS = ("NO_LIQUIDITY_WITHIN_BOUNDS", "PRICE_AWAY_FROM_MID", "SPREAD_TOO_WIDE")
QUESTION = "Will the central bank cut its main rate by half a point in September?"
TOKEN = "83155705733555571404106846463404463471432186024"


def decisions(count: int) -> Iterator[Decision]:
    for number in range(count):
        skipped = number % 2 == 0
        polymarket = number % 4 == 0
        yield Decision(
            decided_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=count - number),
            decision="SKIP" if skipped else "EXECUTE",
            subscription_id="carol-poly-splitter" if polymarket else "alice-whale-1",
            action="INCREASE",
            trade_side="SELL",
            asset=TOKEN if polymarket else "BTC",
            share_micros=0 if skipped else 123_456_789,
            attempt_id=f"att_{number:020d}",
            reasons=REASONS[: 1 + number % 3] if skipped else (),
            question=QUESTION if polymarket else None,
            label="Yes" if polymarket else None,
        )


def snapshot(count: int = 100) -> Snapshot:
    stages = [StageRow(f"stage{number}", 1_234_567, "raw events", 12.3, 45) for number in range(8)]
    return Snapshot("vibe demo, seed 7", tuple(stages), dead_letters=0, decisions=tuple(decisions(count)))


def rendered(width: int, height: int) -> list[str]:
    """What a terminal of this size shows."""
    console = Console(file=StringIO(), width=width, height=height, force_terminal=False)
    with console.capture() as captured:
        console.print(Frame(snapshot()))
    return captured.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 40), (40, 12), (40, 24), (200, 60)])
def test_the_table_fills_the_terminal(width: int, height: int) -> None:
    lines = rendered(width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert lines[0] == "vibe demo, seed 7"
    assert lines[-1] == "Ctrl-C stops; nothing is lost"


@pytest.mark.parametrize(("width", "height", "count"), [(80, 24, 5), (140, 40, 26), (200, 60, 46)])
def test_ids_and_reasons_are_whole(width: int, height: int, count: int) -> None:
    shown = [line for line in rendered(width, height) if "att_" in line]
    assert len(shown) == count
    for line, decision in zip(shown, decisions(count), strict=True):
        assert line.endswith(decision.attempt_id)
        if decision.executed:
            assert " 123.456789 " in line
        else:
            assert f" {decision.reasons[0]} " in line
        if not decision.executed and len(decision.reasons) > 1:
            assert " ".join(decision.reasons) in line or f" +{len(decision.reasons) - 1} " in line


def test_a_very_narrow_terminal_shows_reasons_instead_of_ids() -> None:
    lines = rendered(40, 24)
    assert not [line for line in lines if "att_" in line]
    assert [line for line in lines if "NO_LIQUIDITY_WITHIN_BOUNDS" in line]


def test_markets_and_subscriptions_are_named_and_the_outcome_stays_readable() -> None:
    widest, wide, narrow = rendered(200, 24), rendered(140, 24), rendered(80, 24)
    assert [line for line in widest if f"{QUESTION} Yes" in line]
    assert [line for line in wide if re.search("Will the central bank .*… Yes ", line)]
    assert [line for line in narrow if re.search("Will the central bank .*… Yes$", line)]
    for lines in (widest, wide, narrow):
        assert [line for line in lines if " alice-whale-1 " in line]
        assert not [line for line in lines if TOKEN[:12] in line]


def test_a_token_of_a_market_that_is_not_described_yet_is_shortened() -> None:
    one = next(decisions(1))
    shown = layout(Snapshot("title", decisions=(replace(one, question=None, label=None),)), 80, 24)
    assert [line for line in shown if line.plain.endswith(f"token {TOKEN[:6]}…{TOKEN[-4:]}")]


def test_notices_take_the_place_of_the_last_line() -> None:
    shown = layout(Snapshot("title", notices=("ingest is not ready yet", "plan restarted 1x")), 80, 24)
    assert [line.plain for line in shown[-2:]] == ["ingest is not ready yet", "plan restarted 1x"]


def test_a_text_is_shortened_only_where_it_is_too_wide() -> None:
    assert [shortened("alice", size) for size in (5, 4, 1, 0)] == ["alice", "ali…", "", ""]


def test_rates_are_events_per_second() -> None:
    rates = Rates()
    for second in range(10):
        rates.update({"copy.decided": 20 * second}, 100.0 + second)
    assert rates.of("copy.decided") == pytest.approx(20.0)
    assert rates.of("order.filled") == 0.0
