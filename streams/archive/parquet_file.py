"""One Parquet file: written row group by row group, and read back block by block."""

import tempfile
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from streams.archive.arrow_rows import COLUMNS, SCHEMA, Digest, to_block, to_record_batch
from streams.archive.errors import DamagedError
from streams.archive.manifest import Manifest
from streams.bulk_replay import Block

# Returns freed memory to the system; Arrow's default pool would keep it while a rebuild reads for minutes.
pa.set_memory_pool(pa.system_memory_pool())

_GROUP_ROWS = 8_192
_GROUP_BYTES = 16 * 1024 * 1024
"""A reader holds one decoded group: small groups keep the memory of a rebuild from the archive small."""


class ParquetWriter:
    """Writes a file to an unnamed temporary file, of which nothing is left when the process dies."""

    def __init__(self) -> None:
        self.spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the caller of `close`)
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
        # Encode block by block: data in the processor's cache costs half of a whole row group.
        self._held.append(to_record_batch(block))
        self.digest.add(block)
        size = sum(map(len, block.payloads))
        self.payload_bytes += size
        self._held_bytes += size
        self._held_rows += len(block.sequences)
        if self._held_rows >= _GROUP_ROWS or self._held_bytes >= _GROUP_BYTES:
            self._write()

    def close(self) -> IO[bytes]:
        """Finish the file; returns it, positioned at its beginning."""
        self._write()
        self._writer.close()
        self.spool.seek(0)
        return self.spool

    def abandon(self) -> None:
        """Discard the file."""
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
    """The messages of a file after sequence `after`, in blocks of at most `size`.

    One row group is in memory at a time. Checks the checksums of the pages that it reads (with `everything`, of all
    columns) and, when it reads all messages, the file's digest at the end. Raises DamagedError.
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
                    block = to_block(table.slice(start, size))
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
        "restore the file from a copy of the archive, or export it again while the stream still holds its events"
    )
