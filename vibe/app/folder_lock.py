"""One `vibe up` or `vibe demo` per data folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FolderBusyError(Exception):
    """Another process runs the stages of this data folder."""


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Lock the folder; the kernel releases the lock when the process ends. Raises FolderBusyError."""
    data_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FolderBusyError(
                f"the stages of {data_dir} are running already; stop that `vibe up` or `vibe demo` first, "
                "or set VIBE_DATA_DIR to another folder"
            ) from error
        yield
    finally:
        os.close(descriptor)


def in_use(data_dir: Path) -> bool:
    """Whether a `vibe up` or `vibe demo` holds the lock of the folder."""
    path = data_dir / "up.lock"
    if not path.exists():
        return False
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
