"""What commands show of a demo on terminals of 40, 80 and 200 columns."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from streams.dead_letters import dead_letter
from tests.system.command import ends, vibe
from tests.system.many_commands import CommandLine, Commands, command_lines

TOKEN_DIGITS = 30
"""No venue has numbers of so many digits but the ids of Polymarket's tokens."""


ERROR = "expected an object with the field share_micros, which is a whole number, got [/bold] " + "nothing " * 9


class Demo(NamedTuple):
    folder: Path
    configuration: Path
    ids: frozenset[str]
    attempt: str
    commands: Commands


@pytest.fixture(scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    """The data folder of a demo of some seconds, its servers running."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    played = await vibe(folder, "demo", "--seconds", "12", "--json")
    assert played.code == 0, played.err
    async with ends(folder) as at, command_lines(folder) as commands:
        await dead_letter(
            at.connection,
            stage="projection.system_checkpoint",
            stream="EXECUTIONS",
            sequence=1_234_567,
            subject="executions.7.alice",
            payload=b"{}",
            error=ERROR,
            now=time.time_ns(),
        )
        exported = (await vibe(folder, "config", "export")).out
        configuration = folder.parent / "config.jsonl"
        configuration.write_text(exported)
        lines = [json.loads(line) for line in exported.splitlines()]
        ids = {one["id"] for one in lines if "id" in one and one["kind"] != "subscription"}
        attempt = json.loads(played.out)["sample_attempt_id"]
        yield Demo(folder, configuration, frozenset(ids), attempt, commands)


def command_lines_of(demo: Demo) -> list[tuple[str, ...]]:
    return [
        ("config", "show"),
        ("trace", demo.attempt, "--verify"),
        ("leaderboard",),
        ("leaderboard", "--score", "evidence"),
        *(("metrics", "influencer", name) for name in ("whale-1", "poly-splitter")),
        *(("metrics", "subscriber", name) for name in ("alice", "dana")),
        *(("subscriber", "show", name) for name in ("alice", "dana")),
        ("influencer", "show", "poly-taker"),
        ("archive", "status"),
        ("whatif", "--config", str(demo.configuration), "--since", "3650d"),
        ("projections", "list"),
        ("lag",),
        ("dead", "list", "--all"),
        ("control", "show"),
        ("streams", "show"),
        ("projections", "verify", "position"),
    ]


async def shown(demo: Demo, columns: int) -> dict[tuple[str, ...], str]:
    lines = [CommandLine(arguments, {"COLUMNS": str(columns)}) for arguments in command_lines_of(demo)]
    found = {}
    for outcome in await demo.commands.run(demo.folder, lines):
        assert outcome.code == 0, outcome
        assert "Traceback" not in outcome.err
        found[outcome.arguments] = outcome.out
    return found


@pytest.mark.parametrize("columns", [80, 200])
async def test_no_line_is_wider_than_the_terminal_and_ids_are_whole(demo: Demo, columns: int) -> None:
    for arguments, out in (await shown(demo, columns)).items():
        widest = max(out.splitlines(), key=len)
        assert len(widest) <= columns or str(demo.folder) in widest, f"{arguments}: {widest}"
        assert "…" not in out
        words = set(out.split())
        for name in demo.ids if arguments == ("config", "show") else (demo.ids | {demo.attempt}) & set(arguments):
            assert words & {name, f"{name},", f"{name}:"}, f"{arguments} does not show {name}"
        assert not any(len(word) >= TOKEN_DIGITS and word.isdigit() for word in words), f"{arguments} shows a token"


async def test_a_terminal_of_forty_columns_wraps(demo: Demo) -> None:
    for arguments, out in (await shown(demo, 40)).items():
        widest = max(out.splitlines(), key=len)
        assert len(widest) <= 40 or str(demo.folder) in widest, f"{arguments}: {widest}"


async def test_the_configuration_is_shown_with_who_copies_whom(demo: Demo) -> None:
    out = (await shown(demo, 80))["config", "show"]
    rows = [line.split() for line in out.splitlines()]
    assert ["dana", "poly-taker", "copy", "25", "%", "active"] in rows
    assert ["spread_bps", "20", "bps", "default"] in rows
    assert ["off", "influencer:poly-taker"] in rows


async def test_the_error_of_a_dead_letter_is_whole(demo: Demo) -> None:
    out = (await shown(demo, 80))["dead", "list", "--all"]
    assert "projection.system_checkpoint  EXECUTIONS:1234567  open" in out
    assert ERROR.split() == " ".join(out.split()).partition("open ")[2].split()[: len(ERROR.split())]


async def test_positions_name_outcome_and_question(demo: Demo) -> None:
    shown_wide = (await shown(demo, 200))["subscriber", "show", "dana"]
    assert any(line.startswith(("Yes: Will ", "No: Will ")) for line in shown_wide.splitlines()), shown_wide
