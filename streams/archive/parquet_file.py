"""One Parquet file: written row group by row group as the blocks come, and read back block by block."""

import tempfile
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from streams.archive.arrow_rows import COLUMNS, SCHEMA, Digest, decoded, encoded
from streams.archive.errors import DamagedError
from streams.archive.manifest import Manifest
from streams.bulk_replay import Block

# Gives back what it frees; what Arrow takes by default keeps it for the minutes that a rebuild reads.
pa.set_memory_pool(pa.system_memory_pool())

_GROUP_ROWS = 8_192
_GROUP_BYTES = 16 * 1024 * 1024
"""A reader holds a group, decoded: small ones keep a rebuild from the archive small, and cost nothing else."""


class Writing:
    """A file being written, on the disk but without a name: whatever ends the process, nothing is left of it."""

    def __init__(self) -> None:
        self.spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by whoever takes it)
        self.digest = Digest()
        self.payload_bytes = 0
        self._held: list[Any] = []
        self._held_rows = self._held_bytes = 0
        self._writer = pq.ParquetWriter(
            self.spool,
            SCHEMA,
            compression="zstd",
            use_dictionary=["subject", "type", "source", "correlation"],
            column_encoding={"sequence": "DELTA_BINARY_PACKED", "time": "DELTA_BINARY_PACKED"},
            sorting_columns=[pq.SortingColumn(0)],
            write_page_checksum=True,
        )

    @property
    def count(self) -> int:
        return self.digest.count

    def add(self, block: Block) -> None:
        # Block by block: what fits the processor's cache costs half of what a whole row group does.
        self._held.append(encoded(block))
        self.digest.add(block)
        size = sum(map(len, block.payloads))
        self.payload_bytes += size
        self._held_bytes += size
        self._held_rows += len(block.sequences)
        if self._held_rows >= _GROUP_ROWS or self._held_bytes >= _GROUP_BYTES:
            self._write()

    def close(self) -> IO[bytes]:
        """Finish the file; returns it, to be read from its beginning."""
        self._write()
        self._writer.close()
        self.spool.seek(0)
        return self.spool

    def abandon(self) -> None:
        """Let go of what was written; nothing of it stays."""
        if self._writer.is_open:
            self._writer.close()
        self.spool.close()

    def _write(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held), row_group_size=self._held_rows)
        self._held = []
        self._held_rows = self._held_bytes = 0


def blocks(
    file: IO[bytes], manifest: Manifest, size: int, *, after: int = 0, everything: bool = False
) -> Iterator[Block]:
    """The messages of a file behind sequence `after`, in blocks of at most `size`.

    One row group is in memory at a time. The pages that are read are checked by their checksums (with `everything`
    also those of columns that no message is made of), and when no message is left out the file by its digest, at the
    end. Raises DamagedError.
    """
    columns = None if everything else list(COLUMNS)
    digest, whole = Digest(), after < manifest.first
    expected = manifest.first
    try:
        parquet = pq.ParquetFile(file, read_dictionary=["subject"], page_checksum_verification=True)
        for number in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(number).num_rows
            if expected + rows - 1 > after:
                table: Any = parquet.read_row_group(number, columns=columns, use_threads=False)
                for start in range(max(0, after + 1 - expected), rows, size):
                    block = decoded(table.slice(start, size))
                    if block.sequences != list(range(expected + start, expected + start + len(block.sequences))):
                        raise _damaged(manifest, f"its rows {start} of group {number} are not in sequence")
                    if whole:
                        digest.add(block)
                    yield block
            expected += rows
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(manifest, str(error)) from error
    if expected != manifest.last + 1:
        raise _damaged(manifest, f"it holds {expected - manifest.first:,} events")
    if whole and str(digest) != manifest.digest:
        raise _damaged(manifest, f"its digest is {digest}")


def _damaged(manifest: Manifest, what: str) -> DamagedError:
    return DamagedError(
        f"{manifest.file} should hold {manifest.count:,} events, digest {manifest.digest}; {what}; "
        "restore the file from a copy of the archive, or what is left of the stream while its age limit allows"
    )
