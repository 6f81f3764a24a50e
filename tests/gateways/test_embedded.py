"""The servers of a data folder through their life: first start, sharing, clean stop, and every `kill -9`."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest

from gateways.embedded import Addresses, Timing, ports, servers
from gateways.embedded.folder import Folder
from gateways.embedded.nats_server import NatsServer

PROJECT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# A process that enters servers(), prints their addresses, and stays until its standard input ends.
USER = """
import asyncio, dataclasses, json, sys
from pathlib import Path
from gateways.embedded import servers

async def main():
    async with servers(Path(sys.argv[1]), Path(sys.argv[2])) as at:
        print(json.dumps(dataclasses.asdict(at)), flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conf") / "nats.conf"
    path.write_text("jetstream { sync_interval: always }\n")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests that do not need a fresh one: initdb is the expensive part."""
    return tmp_path_factory.mktemp("home") / ".vibe"


@pytest.fixture
def taken() -> Iterator[Callable[[int], None]]:
    """Listens on a port, unless another program does already."""
    listening: list[socket.socket] = []

    def take(port: int) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError:
            listener.close()
        else:
            listening.append(listener)

    yield take
    for listener in listening:
        listener.close()


@asynccontextmanager
async def another_process(
    home: Path, conf: Path, *, session: bool = False
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Addresses]]:
    """Another process inside servers(); with `session`, in a process group of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", USER, str(home), str(conf)),
        cwd=PROJECT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=session,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while not (line := await process.stdout.readline()).startswith(b"{"):
            assert line, "the process ended before it had its servers"
        yield process, Addresses(**json.loads(line))
    finally:
        process.stdin.close()
        async with asyncio.timeout(20):
            await process.wait()


async def write(at: Addresses, value: int) -> None:
    """Leave `value` in a stream and in a table."""
    client = await nats.connect(at.nats_url, reconnect_time_wait=0.1)
    await client.jetstream().add_stream(name="kept", subjects=["kept.>"])
    await client.jetstream().publish("kept.value", str(value).encode())
    await client.close()
    connection = await asyncpg.connect(at.postgres_dsn)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
    await connection.execute("INSERT INTO kept VALUES ($1)", value)
    await connection.close()


async def read(at: Addresses) -> tuple[int, int]:
    """The value written last, from the stream and from the table."""
    client = await nats.connect(at.nats_url, reconnect_time_wait=0.1)
    message = await client.jetstream().get_last_msg("kept", "kept.value")
    await client.close()
    connection = await asyncpg.connect(at.postgres_dsn)
    value = await connection.fetchval("SELECT value FROM kept ORDER BY ctid DESC LIMIT 1")
    await connection.close()
    assert message.data is not None
    return int(message.data), value


def state(home: Path) -> dict[str, Any]:
    return dict(json.loads((home / "servers.json").read_bytes()))


def pids(home: Path) -> dict[str, int]:
    return {name: server["pid"] for name, server in state(home)["servers"].items()}


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan whose new parent does not collect it is dead all the same.
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


async def eventually(condition: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not so within {within} s"
        await asyncio.sleep(0.05)


async def test_first_start_serves_both_and_leaving_stops_both(home: Path, conf: Path) -> None:
    async with servers(home, conf) as at:
        assert at.owned
        await write(at, 1)
        assert await read(at) == (1, 1)
        started = pids(home)
        assert all(runs(pid) for pid in started.values())
        for secret in ("servers.json", "postgres.password"):
            assert stat.S_IMODE((home / secret).stat().st_mode) == 0o600
        connection = await asyncpg.connect(at.postgres_dsn)
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"
        assert await connection.fetchval("SELECT current_database()") == "vibe"
        await connection.close()
    assert not any(runs(pid) for pid in started.values())
    assert set(pids(home).values()) == {None}


async def test_second_start_has_the_same_addresses_and_data(home: Path, conf: Path) -> None:
    async with servers(home, conf) as first:
        await write(first, 2)
    async with servers(home, conf) as second:
        assert second == first
        assert await read(second) == (2, 2)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=["kill -9", "SIGTERM", "leaving"])
async def test_a_process_that_uses_the_servers_runs_them_when_their_owner_ends(
    home: Path, conf: Path, how: signal.Signals | None
) -> None:
    async with another_process(home, conf) as (owner, theirs):
        async with servers(home, conf) as at:
            assert not at.owned
            await write(at, 4)
            if how is None:
                assert owner.stdin is not None
                owner.stdin.close()
            else:
                owner.send_signal(how)
            await owner.wait()
            await eventually(lambda: state(home)["owner"] == os.getpid() and state(home)["ready"], within=20)
            assert await read(at) == (4, 4)
            inherited = pids(home)
            async with another_process(home, conf) as (_, third):
                assert not third.owned
                assert third.nats_url == theirs.nats_url
        assert not any(runs(pid) for pid in inherited.values())


async def test_a_second_process_uses_the_running_servers_and_leaves_them(home: Path, conf: Path) -> None:
    async with servers(home, conf) as at:
        before = pids(home)
        async with another_process(home, conf) as (_, theirs):
            assert not theirs.owned
            assert (theirs.nats_url, theirs.postgres_dsn, theirs.monitor_url) == (
                at.nats_url,
                at.postgres_dsn,
                at.monitor_url,
            )
        assert pids(home) == before
        assert all(runs(pid) for pid in before.values())
        await write(at, 3)


@linux
async def test_servers_do_not_inherit_the_lock(home: Path, conf: Path) -> None:
    async with servers(home, conf):
        ours = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        assert str(home / "servers.lock") in ours
        for pid in pids(home).values():
            theirs = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
            assert theirs
            assert str(home / "servers.lock") not in theirs


@pytest.mark.parametrize("victim", ["nats", "postgres"])
async def test_a_killed_server_comes_back_on_its_port_with_its_data(home: Path, conf: Path, victim: str) -> None:
    async with servers(home, conf) as at:
        await write(at, 4)
        before = pids(home)
        os.kill(before[victim], signal.SIGKILL)
        await eventually(lambda: pids(home)[victim] != before[victim])
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await read(at) == (4, 4)
                    break
                except (OSError, nats.errors.Error, asyncpg.PostgresError):
                    await asyncio.sleep(0.05)
        survivor = "postgres" if victim == "nats" else "nats"
        assert pids(home)[survivor] == before[survivor]
        back = pids(home)
    assert not any(runs(pid) for pid in back.values())


@linux
@pytest.mark.parametrize("whole_group", [False, True], ids=["process", "process group"])
async def test_servers_die_with_a_killed_owner_and_the_next_one_has_the_data(
    home: Path, conf: Path, whole_group: bool
) -> None:
    async with another_process(home, conf, session=True) as (owner, at):
        assert at.owned
        await write(at, 5 + whole_group)
        orphans = pids(home)
        (os.killpg if whole_group else os.kill)(owner.pid, signal.SIGKILL)
        await eventually(lambda: not any(runs(pid) for pid in orphans.values()))
    async with servers(home, conf) as again:
        assert again.owned
        assert await read(again) == (5 + whole_group, 5 + whole_group)


async def test_a_new_owner_waits_for_servers_that_are_still_leaving(home: Path, conf: Path) -> None:
    async with another_process(home, conf) as (owner, at):
        await write(at, 7)
        owner.kill()
        await owner.wait()
        async with servers(home, conf) as again:
            assert again.owned
            assert await read(again) == (7, 7)


async def test_control_c_does_not_reach_the_servers(home: Path, conf: Path) -> None:
    async with servers(home, conf) as at:
        for pid in pids(home).values():
            assert os.getpgid(pid) != os.getpgid(0)
        await write(at, 8)


async def test_cancelling_the_user_stops_the_servers(home: Path, conf: Path) -> None:
    inside = asyncio.Event()

    async def use() -> None:
        async with servers(home, conf):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    await asyncio.wait_for(inside.wait(), 20)
    started = pids(home)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(runs(pid) for pid in started.values())


async def test_a_process_that_waits_for_an_owner_that_dies_takes_over(home: Path, conf: Path) -> None:
    hold = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", hold, str(home / "servers.lock")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert owner.stdout is not None
    await owner.stdout.readline()
    reported: list[str] = []

    async def use() -> bool:
        async with servers(home, conf, progress=reported.append, timing=Timing(report_every_s=0.2)) as at:
            return at.owned

    waiting = asyncio.create_task(use())
    await eventually(lambda: any("waiting for process" in line for line in reported))
    assert not waiting.done()
    owner.kill()
    await owner.wait()
    assert await asyncio.wait_for(waiting, 10)


async def test_taken_ports_are_left_to_their_holders(home: Path, conf: Path, taken: Callable[[int], None]) -> None:
    async with servers(home, conf):
        last = {port for server in state(home)["servers"].values() for port in server["ports"]}
    unavailable = last | {4222, 5432, 8222}
    for port in unavailable:
        taken(port)
    async with servers(home, conf) as at:
        chosen = {port for server in state(home)["servers"].values() for port in server["ports"]}
        assert len(chosen) == 3
        assert not chosen & unavailable
        await write(at, 9)


async def test_two_folders_that_guess_the_same_ports_end_up_on_different_ones(
    home: Path, tmp_path: Path, conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with servers(home, conf) as one:
        held = {tuple(server["ports"]) for server in state(home)["servers"].values()}
        choose = ports.choose
        guesses = list(held)

        def unlucky(defaults: tuple[int, ...], last: tuple[int, ...]) -> tuple[int, ...]:
            """What `choose` answers when the other folder's server is started right after it looked."""
            for guess in guesses:
                if len(guess) == len(defaults):
                    guesses.remove(guess)
                    return guess
            return choose(defaults, last)

        monkeypatch.setattr(ports, "choose", unlucky)
        await write(one, 10)
        async with servers(tmp_path / "other", conf) as other:
            assert guesses == []
            assert not held & {tuple(server["ports"]) for server in state(tmp_path / "other")["servers"].values()}
            await write(other, 11)
            assert await read(other) == (11, 11)
            assert await read(one) == (10, 10)


async def test_the_projects_own_configuration_starts(home: Path) -> None:
    async with servers(home, PROJECT / "nats.conf") as at:
        await write(at, 12)
        assert await read(at) == (12, 12)


def test_nats_server_gets_a_memory_limit_unless_the_environment_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, folder, at = tmp_path / "nats.conf", Folder(tmp_path), (4222, 8222)
    assert (NatsServer(folder, conf, 300).command(at).env or {})["GOMEMLIMIT"] == "300MiB"
    assert NatsServer(folder, conf, 0).command(at).env is None
    monkeypatch.setenv("GOMEMLIMIT", "2GiB")
    assert NatsServer(folder, conf, 300).command(at).env is None, "that of the environment is passed on"
