"""An fsspec filesystem through which DuckDB reads the files of an object store: only the parts that a query needs.

DuckDB's own reader of object stores is an extension that has to be downloaded, so it reads through fsspec. It calls
seek and then read on one handle from several threads. obstore's own fsspec files have one position for all threads,
which mixes up their bytes; here every thread has its own position.
"""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from io import RawIOBase
from typing import Any

import obstore
from fsspec.spec import AbstractFileSystem
from obstore.store import ObjectStore

PROTOCOL = "archive"


def address(name: str) -> str:
    """The name of a file in SQL."""
    return f"{PROTOCOL}://{name}"


class ObjectStoreFilesystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Read-only, limited to files of known size. They never change, so sizes are not requested again."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, store: ObjectStore, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self._store = store
        self._sizes = sizes

    def _open(self, path: str, mode: str = "rb", **_: Any) -> "ObjectStoreFile":
        return ObjectStoreFile(self._store, self._strip_protocol(path), self.size(path))

    def open(self, path: str, mode: str = "rb", **_: Any) -> "ObjectStoreFile":
        if mode != "rb":
            raise PermissionError(f"{path}: the archive is read-only")
        return self._open(path)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        name = self._strip_protocol(path)
        if name not in self._sizes:
            raise FileNotFoundError(path)
        return {"name": name, "size": self._sizes[name], "type": "file"}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        below = self._strip_protocol(path).rstrip("/") + "/"
        names = [name for name in self._sizes if name.startswith(below)]
        return [self.info(name) for name in names] if detail else names

    def modified(self, path: str) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC)


class ObjectStoreFile(RawIOBase):
    """One file, which any number of threads may read at the same time."""

    def __init__(self, store: ObjectStore, name: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._name = name
        self._local = threading.local()
        self.size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._local.position = offset + (0, self._position, self.size)[whence]
        return self._position

    def read(self, count: int = -1) -> bytes:
        start = self._position
        end = self.size if count < 0 else min(start + count, self.size)
        if end <= start:
            return b""
        self._local.position = end
        return bytes(obstore.get_range(self._store, self._name, start=start, end=end))

    @property
    def _position(self) -> int:
        return getattr(self._local, "position", 0)
