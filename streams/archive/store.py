"""The files of an archive, in a folder or in any object store that obstore supports.

Files are written once: `create` never replaces one. In a folder a file is synced to disk when `create` returns; an
object store guarantees that by itself.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from streams.archive.errors import ArchiveError

_PARTIAL_SECONDS = 86_400


class Archive:
    """The files of one location, by names such as 'RAW/2026-11-20/...parquet'. All methods raise ArchiveError."""

    def __init__(self, url: str, setting: str = "VIBE_ARCHIVE_URL") -> None:
        """`url`: a folder (created if missing), or s3://bucket/prefix, gs://, az://, memory:///; credentials come
        from the environment (AWS_ACCESS_KEY_ID, GOOGLE_SERVICE_ACCOUNT, ...). Errors name the `setting` of the URL."""
        self._setting = setting
        parts = urlsplit(url)
        self.url = url
        self.folder: Path | None = None
        self.store: ObjectStore
        with self._explained("cannot be opened"):
            if "://" not in url or parts.scheme == "file":
                self.folder = Path(unquote(parts.path) if parts.scheme == "file" else url).absolute()
                self.store = LocalStore(self.folder, mkdir=True)
            else:
                self.store = from_url(url)

    async def sizes(self, prefix: str) -> dict[str, int]:
        """The size in bytes of every file below a prefix such as 'RAW', by name."""
        with self._explained(f"{prefix} cannot be listed"):
            found = await obstore.list(self.store, prefix).collect_async()
        return {one["path"]: one["size"] for one in found}

    async def read(self, name: str) -> bytes:
        with self._explained(f"{name} cannot be read"):
            return bytes(await (await obstore.get_async(self.store, name)).bytes_async())

    @asynccontextmanager
    async def opened(self, name: str) -> AsyncIterator[IO[bytes]]:
        """A seekable file; one of an object store is downloaded whole to an unnamed temporary file."""
        with self._explained(f"{name} cannot be read"):
            if self.folder is not None:
                file: IO[bytes] = (self.folder / name).open("rb")
            else:
                file = tempfile.TemporaryFile()  # noqa: SIM115 (closed below)
                async for part in (await obstore.get_async(self.store, name)).stream():
                    file.write(part)
                file.seek(0)
        with file:
            yield file

    async def create(self, name: str, content: bytes | IO[bytes]) -> bool:
        """Write a new file; returns False, without changing anything, when a file of that name exists."""
        with self._explained(f"{name} cannot be written"):
            try:
                await obstore.put_async(self.store, name, content, mode="create")
            except AlreadyExistsError:
                return False
            await self._sync(name)
        return True

    async def replace(self, name: str, content: IO[bytes]) -> None:
        """Replace a file atomically; only for files that no manifest names."""
        with self._explained(f"{name} cannot be written"):
            await obstore.put_async(self.store, name, content, use_multipart=False)
            await self._sync(name)

    async def remove(self, name: str) -> None:
        """Delete a file; only for files that no manifest names."""
        with self._explained(f"{name} cannot be deleted"):
            await obstore.delete_async(self.store, name)

    def remove_partial_files(self, prefix: str) -> None:
        """In a folder: remove partial files of writers that died at least a day ago; an object store has none."""
        if self.folder is not None:
            for path in (self.folder / prefix).glob("*/*#*"):
                if path.stat().st_mtime < time.time() - _PARTIAL_SECONDS:
                    path.unlink(missing_ok=True)

    async def _sync(self, name: str) -> None:
        if self.folder is not None:
            await asyncio.to_thread(_sync, self.folder / name, self.folder)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise ArchiveError(
                f"archive {self.url}: {what}: {why}; check {self._setting} and the permissions there"
            ) from error


def _sync(file: Path, root: Path) -> None:
    """Sync a file and its folders up to the root."""
    for path in (file, *file.parents):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path == root:
            return
