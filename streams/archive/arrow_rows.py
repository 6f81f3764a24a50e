"""Messages as rows of Arrow and Parquet, and back byte for byte.

One row per message, in the order of the stream. Beside the envelope's fields a row has `data`, the JSON text of its
events as it was stored, and `head` and `tail`, the bytes before and after it: `head || data || tail` is the payload. A
payload that is not an envelope is stored whole in `head`, and its other columns are null.
"""

import hashlib
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw, Struct

from streams.bulk_replay import Block
from streams.envelope import nanoseconds

VERSION = 1
"""The version of SCHEMA; manifests name it."""

SCHEMA = pa.schema(
    [
        ("sequence", pa.int64()),
        ("subject", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("type", pa.string()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("correlation", pa.string()),
        ("causation", pa.string()),
        ("data", pa.string()),
        ("head", pa.binary()),
        ("tail", pa.binary()),
    ]
)

_DATA = b'"data":'


class _Stored(Struct, frozen=True, gc=False):
    """An envelope's fields, None when missing. `data` is the text as written, empty when missing."""

    time: str | None = None
    type: str | None = None
    id: str | None = None
    source: str | None = None
    correlationid: str | None = None
    causationid: str | None = None
    data: Raw = Raw()


_decode = msgspec.json.Decoder(_Stored).decode
_NO_ENVELOPE = _Stored()


def extend(held: Block, more: Block) -> None:
    """Append the messages of block `more` to `held`."""
    held.sequences.extend(more.sequences)
    held.subjects.extend(more.subjects)
    held.payloads.extend(more.payloads)


class Digest:
    """SHA-256 over messages in order, independent of their division into blocks.

    It is the hash of five hashes: of the sequences (int64, little-endian), of the subjects' lengths (int32) and their
    bytes, of the payloads' lengths and their bytes. So no byte can move from one message to the next undetected.
    """

    def __init__(self) -> None:
        self._hashes = [hashlib.sha256() for _ in range(5)]
        self.count = 0

    def add(self, block: Block) -> None:
        sequences, lengths, subjects, sizes, payloads = self._hashes
        sequences.update(_little(array("q", block.sequences)))
        lengths.update(_little(array("i", map(len, block.subjects))))
        subjects.update(b"".join(block.subjects))
        sizes.update(_little(array("i", map(len, block.payloads))))
        payloads.update(b"".join(block.payloads))
        self.count += len(block.sequences)

    def __str__(self) -> str:
        return "sha256:" + hashlib.sha256(b"".join(one.digest() for one in self._hashes)).hexdigest()


def _little(numbers: "array[int]") -> bytes:
    if array("h", [1]).tobytes() != b"\1\0":
        numbers.byteswap()
    return numbers.tobytes()


def to_record_batch(block: Block) -> Any:
    """The pyarrow.RecordBatch (SCHEMA) of a block."""
    envelopes: list[_Stored] = []
    datas: list[bytes | None] = []
    heads, tails = [], []
    for payload in block.payloads:
        try:
            envelope = _decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            envelope = _NO_ENVELOPE
        text = bytes(envelope.data)
        if not text:
            head, tail = payload, b""
        else:
            # Where `Codec` writes it, else at the first occurrence: any such split restores the payload.
            at = payload.find(_DATA) + len(_DATA)
            if not payload.startswith(text, at):
                at = payload.index(text)
            head, tail = payload[:at], payload[at + len(text) :]
        envelopes.append(envelope)
        datas.append(text or None)
        heads.append(head)
        tails.append(tail)
    return pa.record_batch(
        [
            pa.array(block.sequences, pa.int64()),
            pa.array(block.subjects, pa.binary()).cast(pa.string()),
            _times([one.time for one in envelopes]),
            pa.array([one.type for one in envelopes], pa.string()),
            pa.array([one.id for one in envelopes], pa.string()),
            pa.array([one.source for one in envelopes], pa.string()),
            pa.array([one.correlationid for one in envelopes], pa.string()),
            pa.array([one.causationid for one in envelopes], pa.string()),
            *_payloads(datas, heads, tails),
        ],
        schema=SCHEMA,
    )


def _times(texts: list[str | None]) -> Any:
    try:
        return pa.array(texts, pa.string()).cast(SCHEMA.field("time").type)
    except pa.ArrowInvalid:
        return pa.array([_microseconds(text) for text in texts], SCHEMA.field("time").type)


def _microseconds(text: str | None) -> int | None:
    try:
        return nanoseconds(text) // 1000 if text else None
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None


def _payloads(datas: list[bytes | None], heads: list[bytes], tails: list[bytes]) -> tuple[Any, Any, Any]:
    try:
        data = pa.array(datas, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:  # valid JSON syntax with a text that is not UTF-8
        for row, text in enumerate(datas):
            if text is not None and not _is_text(text):
                heads[row], datas[row], tails[row] = heads[row] + text + tails[row], None, b""
        data = pa.array(datas, pa.binary()).cast(pa.string())
    return data, pa.array(heads, pa.binary()), pa.array(tails, pa.binary())


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


COLUMNS = ("sequence", "subject", "data", "head", "tail")
"""The columns of SCHEMA that `to_block` needs."""


def to_block(table: Any) -> Block:
    """The block of a pyarrow.Table or RecordBatch that has COLUMNS; `subject` may be dictionary encoded."""
    columns = {name: _whole(table.column(name)) for name in COLUMNS}
    payloads = pc.binary_join_element_wise(
        columns["head"],
        columns["data"].cast(pa.binary()),
        columns["tail"],
        pa.scalar(b"", pa.binary()),
        null_handling="replace",
        null_replacement=b"",
    )
    subjects = columns["subject"]
    if pa.types.is_dictionary(subjects.type):
        known = _bytes(subjects.dictionary)
        named: Sequence[bytes] = [known[index] for index in subjects.indices.to_pylist()]
    else:
        named = _bytes(subjects)
    return Block(columns["sequence"].to_pylist(), list(named), _bytes(payloads))


def _whole(column: Any) -> Any:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _bytes(column: Any) -> list[bytes]:
    # Ten times as fast as to_pylist(), which makes a scalar object of every value.
    _, offsets, content = column.buffers()
    if not len(column) or content is None:
        return [b""] * len(column)
    places = memoryview(offsets).cast("i")[column.offset : column.offset + len(column) + 1]
    data = content.to_pybytes()
    return [data[start:end] for start, end in pairwise(places)]
