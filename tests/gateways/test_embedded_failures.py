"""The servers of a data folder when something is wrong: every error says what to do, and nothing is left running."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from gateways.embedded import ServerError, Timing, orphans, servers
from gateways.embedded.nats_server import binary
from gateways.embedded.process import LAUNCHER
from tests.gateways.test_embedded import PROJECT, USER, eventually, pids, read, runs, state, write

# Writes files for a while, or until their folder is gone.
BUSY = "import pathlib, sys; [pathlib.Path(sys.argv[1], str(n)).touch() for n in range(3_000)]"

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conf") / "nats.conf"
    path.write_text("jetstream { sync_interval: always }\n")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / ".vibe"


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port that no program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_external_servers_that_are_not_there(tmp_path: Path, conf: Path, closed: int) -> None:
    with pytest.raises(ServerError, match="VIBE_NATS_URL: expected a NATS server") as nats_error:
        await servers(tmp_path, conf, nats_url=f"nats://me:secret@127.0.0.1:{closed}").__aenter__()
    with pytest.raises(ServerError, match="VIBE_POSTGRES_DSN: expected a Postgres server") as postgres_error:
        await servers(tmp_path, conf, postgres_dsn=f"postgresql://me:secret@127.0.0.1:{closed}/x").__aenter__()
    for error in (nats_error, postgres_error):
        assert f"127.0.0.1:{closed}" in str(error.value)
        assert "ConnectionRefusedError" in str(error.value)
        assert "secret" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


async def test_external_servers_that_do_not_answer(tmp_path: Path, conf: Path, silent: int) -> None:
    timing = Timing(answer_s=0.3)
    async with asyncio.timeout(5):
        with pytest.raises(ServerError, match="VIBE_NATS_URL"):
            await servers(tmp_path, conf, nats_url=f"nats://127.0.0.1:{silent}", timing=timing).__aenter__()
        dsn = f"postgresql://me@127.0.0.1:{silent}/x"
        with pytest.raises(ServerError, match="VIBE_POSTGRES_DSN"):
            await servers(tmp_path, conf, postgres_dsn=dsn, timing=timing).__aenter__()


async def test_external_servers_that_answer_are_used_as_they_are(tmp_path: Path, home: Path, conf: Path) -> None:
    async with servers(home, conf) as at:
        async with servers(tmp_path, conf, nats_url=at.nats_url, postgres_dsn=at.postgres_dsn) as same:
            assert (same.nats_url, same.postgres_dsn) == (at.nats_url, at.postgres_dsn)
            assert same.monitor_url is None
            assert not same.owned
        await write(at, 1)
        assert list(tmp_path.iterdir()) == []


async def test_an_owner_with_an_external_server_does_not_serve_those_without(
    tmp_path: Path, home: Path, conf: Path
) -> None:
    async with servers(home, conf) as at, servers(tmp_path, conf, postgres_dsn=at.postgres_dsn) as half:
        assert half.owned
        assert half.postgres_dsn == at.postgres_dsn
        assert set(pids(tmp_path)) == {"nats"}
        with pytest.raises(ServerError, match=r"run postgres too.*VIBE_POSTGRES_DSN"):
            await servers(tmp_path, conf).__aenter__()


async def test_a_broken_configuration_is_shown_and_leaves_nothing_running(
    tmp_path: Path, home: Path, conf: Path
) -> None:
    broken = tmp_path / "broken.conf"
    broken.write_text("jetstream {\n  no_such_option: 1\n}\n")
    with pytest.raises(ServerError) as error:
        await servers(home, broken).__aenter__()
    assert "expected nats to start" in str(error.value)
    assert "unknown field" in str(error.value)
    assert "no_such_option" in str(error.value)
    assert orphans.pid_in(home / "postgres" / "postmaster.pid") is None
    async with servers(home, conf) as at:
        assert at.owned


async def test_a_lost_or_wrong_password_is_not_taken_for_a_slow_start(home: Path, conf: Path) -> None:
    async with servers(home, conf):
        pass
    kept = home / "postgres.password"
    right = kept.read_text()
    try:
        kept.write_text("wrong")
        async with asyncio.timeout(10):
            with pytest.raises(ServerError, match="refuses the password"):
                await servers(home, conf).__aenter__()
        kept.unlink()
        with pytest.raises(ServerError, match="expected the password of"):
            await servers(home, conf).__aenter__()
    finally:
        kept.write_text(right)
    async with servers(home, conf) as at:
        await write(at, 2)


async def test_initdb_killed_in_the_middle_is_done_again(tmp_path: Path, conf: Path) -> None:
    home = tmp_path / ".vibe"
    first = await asyncio.create_subprocess_exec(
        sys.executable, "-c", USER, str(home), str(conf), cwd=PROJECT, stdout=asyncio.subprocess.DEVNULL
    )
    await eventually(lambda: any(home.glob("postgres.new.*/data/PG_VERSION")))
    first.kill()
    await first.wait()
    assert not (home / "postgres").exists()
    async with servers(home, conf) as at:
        await write(at, 3)
        assert await read(at) == (3, 3)
        assert not any(home.glob("postgres.new.*"))


async def test_a_folder_is_removed_while_another_process_writes_into_it(tmp_path: Path) -> None:
    left = tmp_path / "postgres.new.left"
    left.mkdir()
    busy = await asyncio.create_subprocess_exec(sys.executable, "-c", BUSY, str(left), stderr=subprocess.DEVNULL)
    await eventually(lambda: (left / "99").exists())
    await orphans.remove(left)
    await busy.wait()
    assert not left.exists()


async def test_a_folder_that_cannot_be_one(tmp_path: Path, conf: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match="expected a data folder"):
        await servers(tmp_path / "file", conf).__aenter__()


async def test_state_that_cannot_be_read_is_no_obstacle(home: Path, conf: Path) -> None:
    async with servers(home, conf):
        pass
    (home / "servers.json").write_text('{"owner": "me"')
    async with servers(home, conf):
        assert state(home)["owner"] == os.getpid()


async def test_a_server_that_outlived_its_owner_and_hangs_is_killed(home: Path, conf: Path) -> None:
    async with servers(home, conf) as at:
        await write(at, 4)
    # Started without exec_server, so it does not end with its parent.
    store = ("-sd", str(home / "nats"), "-P", str(home / "nats.pid"))
    left = subprocess.Popen(
        [binary(), "-c", conf, "-a", "127.0.0.1", "-p", "-1", *store],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: orphans.pid_in(home / "nats.pid") == left.pid)
        left.send_signal(signal.SIGSTOP)
        async with servers(home, conf, timing=Timing(orphan_s=(0.1, 0.2, 5.0))) as again:
            assert left.poll() == -signal.SIGKILL
            assert await read(again) == (4, 4)
    finally:
        left.kill()
        left.wait()


async def test_only_a_pid_file_that_names_another_program_is_removed(home: Path, conf: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n")
    orphans.forget_reused_pid(pid_file, home / "postgres")
    assert not pid_file.exists()
    async with servers(home, conf) as at:
        pid_file.write_text(f"{pids(home)['postgres']}\n")
        orphans.forget_reused_pid(pid_file, home / "postgres")
        assert pid_file.exists()
        await write(at, 5)
    orphans.forget_reused_pid(pid_file, home / "postgres")  # the process is gone: Postgres checks the file itself
    assert pid_file.exists()


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user to start Postgres")
class TestAsRoot:
    """Postgres runs as an unprivileged user, and keeps a right of root only where it cannot reach its files."""

    async def test_inside_a_folder_closed_to_every_other_user(self, tmp_path: Path, conf: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        home = closed / "deep" / ".vibe"
        async with servers(home, conf) as at:
            postgres = pids(home)["postgres"]
            await write(at, 6)
            assert self.uid(postgres) == (home / "postgres").stat().st_uid != 0
            assert self.capabilities(postgres) == {1 << 1}  # CAP_DAC_OVERRIDE and nothing else
            connection = await asyncpg.connect(at.postgres_dsn)
            assert "kept" in await self.tables(connection)
            await connection.close()
        assert not runs(postgres)
        assert closed.stat().st_mode & 0o777 == 0o700

    async def test_inside_an_open_folder_it_keeps_no_right_of_root(self, conf: Path) -> None:
        if not all(parent.stat().st_mode & 0o001 for parent in Path(sys.executable).absolute().parents):
            pytest.skip("the virtual environment itself is below a closed folder")
        home = Path("/tmp", f"vibe-open-{os.getpid()}")
        home.mkdir(mode=0o755)
        try:
            async with servers(home, conf) as at:
                postgres = pids(home)["postgres"]
                await write(at, 7)
                assert self.uid(postgres) != 0
                assert self.capabilities(postgres) == {0}
        finally:
            shutil.rmtree(home)

    async def test_data_of_another_user_is_taken_over(self, home: Path, conf: Path) -> None:
        async with servers(home, conf) as at:
            await write(at, 8)
        for path in (home / "postgres", *(home / "postgres").rglob("*")):
            os.chown(path, 0, 0, follow_symlinks=False)
        async with servers(home, conf) as at:
            assert await read(at) == (8, 8)

    @staticmethod
    def status(pid: int) -> dict[str, list[str]]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}

    def uid(self, pid: int) -> int:
        (uid,) = {int(value) for value in self.status(pid)["Uid"]}
        return uid

    def capabilities(self, pid: int) -> set[int]:
        return {int(self.status(pid)[kind][0], 16) for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb")}

    @staticmethod
    async def tables(connection: "asyncpg.Connection[asyncpg.Record]") -> set[str]:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row["tablename"] for row in rows}

    def test_programs_below_a_closed_folder_find_each_other(self, tmp_path: Path) -> None:
        # initdb asks access(2) for postgres beside it: by the real user, for which rights are dropped by default.
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        program = closed / "postgres"
        program.write_bytes(b"")
        program.chmod(0o755)
        unprivileged = pwd.getpwnam("nobody")
        plan = {
            "parent": os.getpid(),
            "death_signal": signal.SIGKILL,
            "user": [unprivileged.pw_uid, unprivileged.pw_gid],
            "needs": [str(program)],
        }
        asks = "import os, sys; sys.exit(os.geteuid() == 0 or not os.access(sys.argv[1], os.R_OK | os.X_OK))"
        launched = subprocess.run(
            [sys.executable, "-I", "-S", LAUNCHER, json.dumps(plan), sys.executable, "-c", asks, str(program)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert launched.returncode == 0, launched.stderr
