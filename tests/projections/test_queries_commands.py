"""`vibe leaderboard` and `vibe metrics`: their output, and the exit codes that scripts rely on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from domain.micros import MICRO
from gateways.embedded import Addresses
from projections.models import PROJECTIONS
from streams import subjects
from streams.connection import Connection
from tests.domain.facts import BUY, SELL, at, bought, decided, influencer, signal
from tests.domain.facts import subscriber as subscribed
from tests.projections.engines import built
from tests.projections.model_tables import append_events
from tests.system.command import vibe
from vibe.app.settings import Settings
from vibe.cli.errors import CommandError, UsageError
from vibe.cli.leaderboard import run_leaderboard, run_metrics


async def build(log: Connection, database: str) -> None:
    signals, executions = subjects.signals("ann", "hyperliquid", "BTC"), subjects.executions("sam")
    await append_events(
        log,
        [
            ("CONFIG", subjects.config("influencer", "ann"), influencer("ann"), at(0)),
            ("CONFIG", subjects.config("subscriber", "sam"), subscribed("sam"), at(0)),
            ("SIGNALS", signals, signal("s1", BUY, "1", "100"), at(0)),
            ("SIGNALS", signals, signal("s2", SELL, "1", "130", before="1", ms=1), at(1)),
            ("EXECUTIONS", executions, decided(), at(0)),
            ("EXECUTIONS", executions, bought("BTC", "1", "100", fee="1"), at(0)),
        ],
    )
    await built(log, database, PROJECTIONS)


async def test_output_and_exit_codes(
    log: Connection, running: Addresses, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = Settings(data_dir=tmp_path, nats_url=running.nats_url, postgres_dsn=SecretStr(database))

    def printed() -> Any:
        return msgspec.json.decode(capsys.readouterr().out.strip().splitlines()[-1])

    await build(log, database)
    assert await run_leaderboard(known, None, 1, 20, json=True) == 0
    (first,) = printed()
    assert (first["rank"], first["trader"]["influencer_id"], first["score_micros"]) == (1, "ann", MICRO)
    assert first["trader"]["profit_micros"] == 30 * MICRO
    assert await run_leaderboard(known, None, 1, 20, json=False) == 0
    assert "ann" in capsys.readouterr().out
    assert await run_leaderboard(known, "30d", 2, 20, json=False) == 0
    assert "no active influencer has completed 2 round trips yet" in capsys.readouterr().out

    assert await run_leaderboard(known, "all", 1, 20, json=True, score="evidence", why="ann") == 0
    (first,) = printed()
    assert (first["rank"], first["influencer_id"], first["evidence"]["net_micros"]) == (None, "ann", 30 * MICRO)
    assert "losing_trips" in first["evidence"]["missing"]
    for score in ("default", "evidence"):
        assert await run_leaderboard(known, "all", 1, 20, json=False, score=score, why=first["addresses"][0]) == 0
    shown = capsys.readouterr().out
    assert "win_rate" in shown
    assert "consistency" in shown
    with pytest.raises(CommandError, match="'zoe' is not on this leaderboard"):
        await run_leaderboard(known, None, 1, 20, json=False, why="zoe")
    with pytest.raises(UsageError, match="exclude each other"):
        await run_leaderboard(known, "7d", 1, 20, json=False, both=True)

    assert await run_metrics(known, "influencer", "ann", None, json=True) == 0
    facts = printed()
    assert (facts["trips"], facts["won"], facts["win_rate_micros"]) == (1, 1, MICRO)
    assert await run_metrics(known, "influencer", "ann", None, json=False) == 0
    assert "30.00" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no influencer 'zoe' is configured"):
        await run_metrics(known, "influencer", "zoe", None, json=False)

    assert await run_metrics(known, "subscriber", "sam", None, json=True) == 0
    facts = printed()
    assert (facts["profit_micros"], facts["by_influencer"][0]["influencer_id"]) == (-MICRO, "ann")
    assert facts["copying"]["decisions"] == 1
    assert await run_metrics(known, "subscriber", "sam", "7d", json=False) == 0
    assert "profit -1 USD" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no subscriber 'zoe' is configured"):
        await run_metrics(known, "subscriber", "zoe", None, json=False)

    # Events that are not stored yet are reported.
    await append_events(log, [("CONFIG", subjects.config("influencer", "bob"), influencer("bob"), at(2))])
    assert await run_leaderboard(known, None, 1, 20, json=True) == 0
    assert "behind the log" in capsys.readouterr().err


async def test_without_read_models_an_error_states_what_to_do(
    log: Connection, running: Addresses, database: str, tmp_path: Path
) -> None:
    use: Mapping[str, str] = {"VIBE_NATS_URL": running.nats_url, "VIBE_POSTGRES_DSN": database}
    ended = await vibe(tmp_path, "leaderboard", settings=use)
    assert ended.code == 1
    assert "`vibe run projections` builds them" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", ["leaderboard", "metrics"])
async def test_help_shows_an_example(tmp_path: Path, command: str) -> None:
    ended = await vibe(tmp_path, command, "--help")
    assert ended.code == 0
    assert f"Example: vibe {command}" in ended.out
