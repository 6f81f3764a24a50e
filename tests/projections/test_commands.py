"""`vibe projections` as a process: its output, and the exit codes that scripts rely on."""

import asyncio
import re
import signal
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from gateways.embedded import Addresses
from projections.models import PROJECTIONS
from streams.connection import Connection
from tests.projections.engines import built, caught_up, contents, engine
from tests.projections.example_log import append_events, flows
from tests.system.command import start, vibe
from vibe.cli.projections import app as projections_app


def settings(running: Addresses, database: str) -> Mapping[str, str]:
    return {"VIBE_NATS_URL": running.nats_url, "VIBE_POSTGRES_DSN": database}


async def test_list_rebuild_and_verify(log: Connection, running: Addresses, database: str, tmp_path: Path) -> None:
    await append_events(log, flows(1, 60))
    end = (await log.api("STREAM.INFO.EXECUTIONS"))["state"]["last_seq"]
    use = settings(running, database)
    async with engine(log, database, PROJECTIONS):
        await caught_up(log, database, PROJECTIONS)
        listed = await vibe(tmp_path, "projections", "list", "--json", settings=use)
        found = {each["name"]: each for each in listed.json}
        assert found["position"]["state"] == "live"
        assert found["position"]["positions"] == {"EXECUTIONS": end}
        assert found["position"]["lag"] == {"EXECUTIONS": 0}
        assert (found["copy_attempt"]["rows"], found["copy_attempt"]["estimated"]) == (150, False)
        assert found["copy_attempt"]["bytes"] > 10_000
        assert found["copy_attempt"]["last_event"].startswith("2026-11-18")
    before = await contents(database, PROJECTIONS)
    done = await vibe(tmp_path, "projections", "rebuild", "position", "ledger_entry", settings=use)
    assert done.code == 0, done.err
    assert re.search(r"position: version 1 swapped in after [\d.]+ s, [\d,]+ events read", done.out)
    assert re.search(r"reading: [\d,]+ of [\d,]+", done.err), "plain lines where there is no terminal"
    assert await contents(database, PROJECTIONS) == before
    shown = await vibe(tmp_path, "projections", "list", settings=use)
    assert "stopped" in shown.out
    same = await vibe(tmp_path, "projections", "verify", "--all", settings=use)
    assert same.code == 0, same.out + same.err
    session = await asyncpg.connect(database)
    await session.execute("UPDATE ledger_entry SET cash_delta_micros = -1 WHERE sequence = 1")
    await session.close()
    different = await vibe(tmp_path, "projections", "verify", "ledger_entry", "position", "--json", settings=use)
    assert different.code == 1
    first = {each["projection"]: each for each in different.json}
    assert (first["position"]["equal"], first["ledger_entry"]["equal"]) == (True, False)
    assert first["ledger_entry"]["tables"][0]["difference"]["column"] == "cash_delta_micros"
    assert first["ledger_entry"]["tables"][0]["difference"]["live"] == -1
    shown = await vibe(tmp_path, "projections", "verify", "ledger_entry", settings=use)
    assert shown.code == 1
    assert "cash_delta_micros is -1 and history makes it 7" in shown.out
    assert "vibe projections rebuild ledger_entry" in shown.out


async def test_interrupted_and_resumed(log: Connection, running: Addresses, database: str, tmp_path: Path) -> None:
    await append_events(log, flows(1, 900))
    await built(log, database, PROJECTIONS)
    before, use = await contents(database, PROJECTIONS), settings(running, database)
    # A reader of every table keeps the rebuild from its first swap, however fast it reads.
    reader = await asyncpg.connect(database)
    await reader.execute("BEGIN")
    for table in (table for projection in PROJECTIONS for table in projection.tables):
        await reader.execute(f"LOCK TABLE {table.name} IN ACCESS SHARE MODE")
    work = await start(tmp_path, "projections", "rebuild", "--all", settings=use)
    assert work.stderr is not None
    async with asyncio.timeout(30):
        while not (await work.stderr.readline()).startswith(b"reading"):
            pass
    work.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        _, err = await work.communicate()
    await reader.close()
    assert work.returncode == 130
    assert "the live read models are untouched" in err.decode()
    assert "vibe projections rebuild --all --resume" in err.decode()
    assert await contents(database, PROJECTIONS) == before
    done = await vibe(tmp_path, "projections", "rebuild", "--all", "--resume", "--json", settings=use)
    assert done.code == 0, done.err
    assert {each["generation"] for each in done.json} == {2}
    assert await contents(database, PROJECTIONS) == before
    nothing = await vibe(tmp_path, "projections", "rebuild", "--all", "--resume", settings=use)
    assert (nothing.code, "interrupted rebuild to continue" in nothing.err) == (1, True)


INVALID = {
    ("rebuild",): "name the projections, or give --all; there are trade_event, ",
    ("rebuild", "nonsense"): "there is no projection nonsense; there are trade_event",
    ("rebuild", "position", "--until", "5"): "give a schema for it: --schema NAME",
    ("rebuild", "--all", "--schema", "past", "--until", "yesterday"): "--until 'yesterday' is neither",
}


async def test_invalid_arguments_are_explained(
    log: Connection, running: Addresses, database: str, tmp_path: Path
) -> None:
    use = settings(running, database)
    answers = await asyncio.gather(*(vibe(tmp_path, "projections", *words, settings=use) for words in INVALID))
    for answer, message in zip(answers, INVALID.values(), strict=True):
        assert answer.code == 2
        assert message in answer.err


async def test_read_models_as_of_a_sequence_in_a_schema(
    log: Connection, running: Addresses, database: str, tmp_path: Path
) -> None:
    await append_events(log, flows(1, 20))
    arguments = ("rebuild", "copy_attempt", "--schema", "past", "--until", "5", "--json")
    built_there = await vibe(tmp_path, "projections", *arguments, settings=settings(running, database))
    assert built_there.json == {"schema": "past", "projections": ["copy_attempt"], "ends": {"EXECUTIONS": 5}}
    session = await asyncpg.connect(database)
    assert await session.fetchval("SELECT max(sequence) FROM past.copy_attempt") <= 5
    assert await session.fetchval("SELECT to_regclass('public.copy_attempt')") is None
    await session.close()


async def test_every_command_has_help_with_an_example(tmp_path: Path) -> None:
    names = [name for name in projections_app if not name.startswith("-")]
    shown = await asyncio.gather(*(vibe(tmp_path, "projections", name, "--help") for name in names))
    for name, help_text in zip(names, shown, strict=True):
        assert f"Example: vibe projections {name}" in re.sub(r"\s+", " ", help_text.out)
