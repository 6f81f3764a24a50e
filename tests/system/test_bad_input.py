"""Whatever a user types, and whatever the files and the terminal are like: an exit code that means something, and a
message of a few lines without a traceback or an error number."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cyclopts import App

from tests.system.command import ends, vibe
from tests.system.many_commands import CommandLine, Commands, Outcome, command_lines, commands
from vibe.cli import app

COMMANDS = dict(commands(app))
VALID: dict[str, tuple[str, ...]] = {
    "archive query": ("SELECT 1",),
    "archive run": (),
    "archive status": (),
    "backup drill": (),
    "backup list": (),
    "backup restore": (),
    "backup run": (),
    "backup verify": (),
    "bench decisions": (),
    "bench log": (),
    "bench pipeline": (),
    "bench projections": (),
    "bench quotes": ("--rate", "1", "--coins", "1", "--seconds", "1"),
    "config export": (),
    "config import": ("/dev/null",),
    "config show": (),
    "exits list": (),
    "orders list": (),
    "orders show": ("ord_none",),
    "positions close": ("alice",),
    "control disable": ("influencer", "whale-1"),
    "control enable": ("influencer", "whale-1"),
    "control pause": (),
    "control record-only": (),
    "control reset-breakers": ("alice",),
    "control resume": (),
    "control show": (),
    "ops context": ("--url", "nats://127.0.0.1:4222"),
    "ops nats-conf": (),
    "dead drop": ("1", "--why", "a test"),
    "dead list": (),
    "dead retry": ("1",),
    "dead show": ("1",),
    "demo": ("--seconds", "1"),
    "discover list": (),
    "discover show": ("0x" + "a" * 40,),
    "doctor": (),
    "export": ("ledger", "--format", "csv", "--out", "-"),
    "health": ("--url", "http://127.0.0.1:9/healthz"),
    "influencer show": ("whale-1",),
    "keys add": ("alice", "--key-file", "/dev/null"),
    "keys list": (),
    "keys remove": ("alice",),
    "keys rotate": (),
    "lag": (),
    "leaderboard": (),
    "metrics": ("subscriber", "alice"),
    "projections list": (),
    "projections rebuild": ("position",),
    "projections verify": ("position",),
    "run": ("plan",),
    "sandbox": ("--seconds", "1"),
    "sql": ("SELECT 1",),
    "streams apply": (),
    "streams show": (),
    "subscriber show": ("alice",),
    "trace": ("att_none",),
    "up": ("--seconds", "1"),
    "verify": (),
    "verify-decisions": (),
    "web": ("--port", "0"),
    "whatif": ("--config", "/dev/null"),
}
"""Arguments of each command that it takes."""
KEYS = ("add", "list", "remove", "rotate")
WITHOUT_DATA = {"bench decisions", "bench quotes", "health", "sandbox", *(f"keys {each}" for each in KEYS)}
BENCHES = {name for name in VALID if name.startswith("bench ")}
CREATING = {*BENCHES, "backup restore", "config import", "demo", "ops nats-conf", "run", "streams apply", "up", "web"}
"""Commands that make a data folder when there is none."""
READING = sorted(VALID.keys() - WITHOUT_DATA - CREATING)


def of(name: str, *arguments: str, **settings: str) -> CommandLine:
    return CommandLine((*name.split(), *(arguments or VALID[name])), settings)


def assert_explained(outcome: Outcome, code: int, lines: int = 5) -> None:
    """The exit code, and on stderr at most so many lines that explain it."""
    shown = f"vibe {' '.join(outcome.arguments)} -> {outcome.code}\n{outcome.out[-500:]}\n{outcome.err}"
    assert outcome.code == code, shown
    assert_readable(outcome)
    assert 1 <= len(outcome.err.splitlines()) <= lines, shown


def assert_readable(outcome: Outcome) -> None:
    for text in (outcome.out, outcome.err):
        for defect in ("Traceback", "[Errno", "Exception ignored"):
            assert defect not in text, f"vibe {' '.join(outcome.arguments)} -> {outcome.code}\n{text}"


def wrong_types(name: str, command: App) -> list[CommandLine]:
    """The command once for each argument that is a number or one of several words, with another word there."""
    lines = []
    for argument in command.assemble_argument_collection():
        if argument.hint in (int, float, int | None, float | None) or "Literal" in str(argument.hint):
            if argument.name.startswith("--"):
                lines.append(of(name, *VALID[name], argument.name, "x-x"))
            else:
                lines.append(of(name, *("x-x" for _ in VALID[name][:1] or ("",)), *VALID[name][1:]))
    return lines


@pytest.fixture(scope="module")
async def vibes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Commands]:
    async with command_lines(tmp_path_factory.mktemp("commands")) as made:
        yield made


@pytest.fixture(scope="module")
async def configured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A data folder with streams, one subscriber and no read models, its servers running."""
    folder = tmp_path_factory.mktemp("configured") / "data"
    lines = folder.parent / "config.jsonl"
    lines.write_text('{"kind":"subscriber","id":"alice","mode":"paper","deposit_usd":"10"}\n')
    async with ends(folder):
        imported = await vibe(folder, "config", "import", str(lines))
        assert imported.code == 0, imported.err
        yield folder


def test_every_command_has_an_example_of_arguments() -> None:
    assert set(VALID) == set(COMMANDS)


async def test_wrong_usage(vibes: Commands, tmp_path: Path) -> None:
    lines = [of(name, *VALID[name], "--frobnicate") for name in COMMANDS if name != "sql"]
    lines += [line for name, command in COMMANDS.items() for line in wrong_types(name, command)]
    lines += [
        of("export", "ledger", "--out", "x.csv", "--format", "parquet"),
        of("export", "ledger", "--since", "yesterday"),
        of("leaderboard", "--since", "yesterday"),
        of("leaderboard", "--since", "7d", "--window", "7d"),
        of("leaderboard", "--score", "luck"),
        of("archive run", "--until", "yesterday"),
        of("archive run", "--stream", "LEASES"),
        of("projections rebuild", "no_such_model"),
        of("projections rebuild", "position", "--until", "5"),
        of("bench pipeline", "--fanout", "9", "--subscribers", "3"),
        of("dead retry", "--all", "7"),
        of("run", "no_such_stage"),
        of("trace", ""),
        of("lag", "extra"),
        CommandLine(("no-such-command",)),
        CommandLine(("config", "no-such-command")),
        CommandLine(("lag",), {"VIBE_LANES": "many"}),
    ]
    assert len(lines) > len(COMMANDS) + 20
    for outcome in await vibes.run(tmp_path / "data", lines):
        assert_explained(outcome, 2)
    assert not (tmp_path / "data").exists()


async def test_a_file_where_the_data_folder_should_be(vibes: Commands, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    folders = (str(file), str(file / "data"))
    lines = [of(name, VIBE_DATA_DIR=each) for name in COMMANDS if name not in WITHOUT_DATA for each in folders]
    for outcome in await vibes.run(tmp_path, lines):
        assert_explained(outcome, 1)
        assert str(file) in outcome.err


async def test_files_that_cannot_be_read_or_written(vibes: Commands, configured: Path, tmp_path: Path) -> None:
    unreadable = ("/proc/self/mem", str(tmp_path), str(tmp_path / "none"), str(tmp_path / "none" / "none"))
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    lines = [
        of(name, *option, file)
        for file in (*unreadable, str(binary))
        for name, option in (("config import", ()), ("whatif", ("--config",)))
    ]
    lines += [of("export", "ledger", "--out", file) for file in (str(tmp_path), str(tmp_path / "none" / "none"))]
    lines += [of("archive status", "--metrics", file) for file in (str(tmp_path), str(tmp_path / "none" / "none"))]
    for outcome in await vibes.run(configured, lines):
        assert_explained(outcome, 1)
        assert any(name in outcome.err for name in ("/proc/self/mem", str(tmp_path))), outcome


async def test_without_a_data_folder_the_message_names_the_first_commands(vibes: Commands, tmp_path: Path) -> None:
    lines = [of(name) for name in READING]
    for outcome in await vibes.run(tmp_path / "data", lines):
        assert_explained(outcome, 1, lines=1)
        assert "holds no event log yet. To begin: `vibe demo`, or `vibe config import FILE`" in outcome.err
    assert not (tmp_path / "data").exists()


async def test_servers_that_do_not_answer(vibes: Commands, tmp_path: Path) -> None:
    nowhere = {"VIBE_NATS_URL": "nats://127.0.0.1:9", "VIBE_POSTGRES_DSN": "postgresql://vibe@127.0.0.1:9/vibe"}
    for outcome in await vibes.run(tmp_path, [of(name, **nowhere) for name in ("lag", "trace", "config show", "sql")]):
        assert_explained(outcome, 1, lines=2)
        assert "VIBE_NATS_URL: expected a NATS server to answer" in outcome.err


LASTING = {*BENCHES, "demo", "run", "sandbox", "up", "web"}
QUIET = sorted(VALID.keys() - LASTING)


async def test_a_reader_that_goes_away(vibes: Commands, configured: Path) -> None:
    lines = [of(name)._replace(broken_pipe=True) for name in QUIET]
    lines += [CommandLine((*name.split(), "--help"), {}, True) for name in COMMANDS]
    for outcome in await vibes.run(configured, lines):
        assert_readable(outcome)
        assert outcome.code in (0, 1, 141), outcome
        assert len(outcome.err.splitlines()) <= 3, outcome


async def test_a_terminal_of_forty_columns(vibes: Commands, configured: Path) -> None:
    narrow = {"COLUMNS": "40"}
    lines = [of(name, **narrow) for name in QUIET]
    lines += [CommandLine((*name.split(), "--help"), narrow) for name in COMMANDS]
    for outcome in await vibes.run(configured, lines):
        assert_readable(outcome)
        assert outcome.code in (0, 1), outcome
        if outcome.arguments[-1] == "--help":
            assert outcome.code == 0
            assert max(map(len, outcome.out.splitlines())) <= 40
