"""`vibe doctor`: what each check accepts and refuses, and what it reports of real servers."""

from pathlib import Path

import asyncpg
from pydantic import SecretStr

from gateways.embedded import Addresses
from streams import topology
from streams.connection import Connection
from streams.topology import EXECUTIONS, LEASES
from tests.system.command import vibe
from vibe.app.doctor import Check, Examined, data_folder, disk, examine, masked, stream_problems
from vibe.app.settings import Settings

NOWHERE = "http://127.0.0.1:9"
VENUES = dict.fromkeys(
    (
        "VIBE_HYPERLIQUID_API_URL",
        "VIBE_POLYMARKET_DATA_URL",
        "VIBE_POLYMARKET_GAMMA_URL",
        "VIBE_POLYMARKET_CLOB_URL",
        "VIBE_POLYGON_HTTP_URL",
    ),
    NOWHERE,
)


def test_settings_are_shown_without_secrets() -> None:
    shown = masked(
        Settings(
            _env_file=None,
            nats_url="nats://vibe:pass-1@nats.example:4222",
            postgres_dsn=SecretStr("postgresql://vibe:pass-2@db.example/vibe"),
            polygon_http_url="https://polygon.example/v2/key-3",
            lanes=8,
        )
    )
    assert shown == (
        "nats_url=nats://nats.example:4222, postgres_dsn=********, polygon_http_url=https://polygon.example, lanes=8"
    )


def test_a_stream_has_to_be_there_as_defined_and_whole() -> None:
    def info(last: int, messages: int, **changed: object) -> dict[str, object]:
        state = {"first_seq": 11, "last_seq": last, "messages": messages}
        return {"config": {**EXECUTIONS.config(1), **changed}, "state": state}

    assert stream_problems("EXECUTIONS", info(20, 10)) == []
    assert stream_problems("EXECUTIONS", info(20, 9)) == ["EXECUTIONS lacks 1 messages between 11 and 20"]
    assert "deny_delete is False, not True" in stream_problems("EXECUTIONS", info(20, 10, deny_delete=False))[0]
    assert "does not exist" in stream_problems("EXECUTIONS", None)[0]
    scratch = {"config": LEASES.config(1), "state": {"first_seq": 1, "last_seq": 20, "messages": 2}}
    assert stream_problems("LEASES", scratch) == []


def test_a_disk_needs_a_twentieth_and_a_gibibyte_free() -> None:
    giga = 1 << 30
    assert disk(100 * giga, 95 * giga, 5 * giga)[0]
    assert not disk(100 * giga, 96 * giga, 4 * giga)[0]
    assert not disk(2 * giga, giga + 1, giga - 1)[0]


def test_secrets_in_the_data_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    secret = tmp_path / "postgres.password"
    secret.write_text("secret")
    secret.chmod(0o600)
    assert data_folder(tmp_path)[0]
    secret.chmod(0o640)
    assert data_folder(tmp_path) == (
        False,
        f"other users can read postgres.password in {tmp_path}; run: chmod 600",
    )


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.ok}


async def test_real_servers_are_well_until_something_is_lost(log: Connection, database: str, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path)
    async with asyncpg.create_pool(database, min_size=0, max_size=4) as pool:
        at = Examined(settings, log, pool, {}, stages_expected=False, demo=True)
        assert failed(await examine(at)) == {}

        await pool.execute(
            "CREATE TABLE projection_position (stream text, position bigint, moved_at timestamptz DEFAULT now())"
        )
        await pool.execute("INSERT INTO projection_position VALUES ('EXECUTIONS', 7), ('RAW', 0)")
        await log.api("STREAM.DELETE.GROUPS")
        found = failed(await examine(at))
        assert set(found) == {"streams", "read_models"}
        assert found["streams"].startswith("GROUPS does not exist")
        assert "holds EXECUTIONS up to 7, and the stream ends at 0" in found["read_models"]
        await topology.apply(log)


async def test_what_does_not_answer_is_named_and_what_needs_it_is_not_checked(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path)
    away = {"nats": "no connection within 3 s", "postgres": "no answer within 2 s"}
    found = failed(await examine(Examined(settings, None, None, away, stages_expected=True, demo=True)))
    assert found["nats"] == "does not answer: no connection within 3 s"
    assert found["postgres"] == "does not answer: no answer within 2 s"
    assert {"streams", "read_models", "stages", "dead_letters", "clock"} <= set(found)


async def test_the_command_fails_where_no_stage_works_and_no_venue_answers(
    running: Addresses, log: Connection, tmp_path: Path
) -> None:
    servers = {"VIBE_NATS_URL": running.nats_url, "VIBE_POSTGRES_DSN": running.postgres_dsn}
    ended = await vibe(tmp_path, "doctor", "--json", settings={**servers, **VENUES})
    assert ended.code == 1, ended.err
    assert ended.json["ok"] is False
    found = {check["name"]: check["detail"] for check in ended.json["checks"] if not check["ok"]}
    assert "no instance of normalize, group, quote, match, plan, exits shows a heartbeat" in found["stages"]
    assert "venue_hyperliquid" in found
    assert "postgres" not in found
    assert running.postgres_dsn not in ended.out
