"""The data folder of the embedded servers: its paths, the lock that makes one process their owner, and their state.

DATA/nats/              JetStream's store
DATA/postgres/          Postgres' data, made once by initdb
DATA/postgres.password  of the superuser `vibe`
DATA/logs/              nats.log, postgres.log
DATA/nats.pid
DATA/servers.lock       held (flock) by the process that owns the servers, for as long as it lives
DATA/servers.json       their owner, their pids and ports
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from gateways.embedded.errors import ServerError

log = structlog.get_logger()


class Running(msgspec.Struct, frozen=True):
    """One server. `pid` is None when the owner does not run it; the ports are then the last ones it had."""

    ports: tuple[int, ...]
    pid: int | None = None


class State(msgspec.Struct, frozen=True):
    """The content of servers.json; `servers` by the server's name."""

    owner: int = 0
    ready: bool = False
    servers: dict[str, Running] = {}


class Folder:
    """Paths, lock and state of one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir.resolve()
        self.nats = self.root / "nats"
        self.postgres = self.root / "postgres"
        self.password = self.root / "postgres.password"
        self.logs = self.root / "logs"
        self.state = self.root / "servers.json"
        self.lock = self.root / "servers.lock"

    def read(self) -> State:
        """The state as the last owner wrote it; empty when there is none or it cannot be decoded."""
        try:
            return msgspec.json.decode(self.state.read_bytes(), type=State)
        except FileNotFoundError:
            return State()
        except msgspec.DecodeError as error:
            log.warning("servers.json cannot be decoded, ignoring it", path=str(self.state), why=str(error))
            return State()

    def write(self, state: State) -> None:
        """Replace the state. Only the holder of the lock may call this."""
        write_private(self.state, msgspec.json.encode(state))

    @contextmanager
    def try_lock(self) -> Iterator[bool]:
        """Whether this process owns the servers now; makes the folder on first use.

        The kernel releases the lock when the process dies.
        Python opens files close-on-exec, so the servers do not inherit the descriptor and cannot keep the lock.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServerError(
                f"expected a data folder at {self.root} that this user can write to, got {error}; "
                "run as the user who made it, or choose another folder"
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
