"""The files of an object store as DuckDB reads them: only the parts that a query needs.

DuckDB's own reader of object stores is an extension that has to be downloaded, so it reads through fsspec. It does so
from several threads with one handle, each time a seek and then a read: obstore's own fsspec files have one position
for all threads and give them each other's bytes. Here every thread has a position of its own.
"""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import obstore
from fsspec.spec import AbstractFileSystem
from obstore.store import ObjectStore

PROTOCOL = "archive"


def address(name: str) -> str:
    """What a file is called in SQL."""
    return f"{PROTOCOL}://{name}"


class Files(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Read only, and only the files whose sizes are given: they never change, so nothing is asked twice."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, store: ObjectStore, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self._store = store
        self._sizes = sizes

    def _open(self, path: str, mode: str = "rb", **_: Any) -> "File":
        return File(self._store, self._strip_protocol(path), self.size(path))

    def open(self, path: str, mode: str = "rb", **_: Any) -> "File":
        if mode != "rb":
            raise PermissionError(f"{path}: the archive is only read")
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


class File:
    """One file, read by any number of threads at once."""

    def __init__(self, store: ObjectStore, name: str, size: int) -> None:
        self._store = store
        self._name = name
        self._here = threading.local()
        self.size = size
        self.closed = False

    def tell(self) -> int:
        return getattr(self._here, "place", 0)

    def seek(self, place: int, whence: int = 0) -> int:
        self._here.place = place + (0, self.tell(), self.size)[whence]
        return self.tell()

    def read(self, count: int = -1) -> bytes:
        start = self.tell()
        end = self.size if count < 0 else min(start + count, self.size)
        if end <= start:
            return b""
        self._here.place = end
        return bytes(obstore.get_range(self._store, self._name, start=start, end=end))

    def close(self) -> None:
        self.closed = True
