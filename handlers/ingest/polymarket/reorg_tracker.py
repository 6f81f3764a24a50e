"""Finds logs that a reorganisation removed without a notice.

A node reports the removal of a log only to clients that are connected. But a transaction is in one block at a time:
when one of its logs appears in another block, the logs of the block before are removed.

Mostly the transaction is mined again with the same fills. Then the log has moved, and what was stored of it holds.
"""

from collections import OrderedDict
from typing import NamedTuple

import msgspec

from gateways.polymarket.log_parsing import ChainFill, Log

REMEMBERED = 2_000
"""Transactions remembered per wallet; a block is final after seconds."""


class RecordedLog(NamedTuple):
    """A log as it was stored in RAW."""

    fill: ChainFill
    message: Log


class ReorgTracker:
    """The logs of one wallet that are stored and not removed, by transaction."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, dict[str, RecordedLog]] = OrderedDict()
        self._moved: OrderedDict[str, str] = OrderedDict()
        """The id of a moved log -> the id under which it was stored before it moved."""

    def add(self, raw_id: str, fill: ChainFill, message: Log) -> None:
        """A log was stored."""
        self._logs.setdefault(fill.transaction, {})[raw_id] = RecordedLog(fill, message)
        if len(self._logs) > REMEMBERED:
            self._logs.popitem(last=False)

    def remove(self, raw_id: str, fill: ChainFill) -> None:
        """A log was removed from the chain; `raw_id` is the id under which it was stored."""
        self._logs.get(fill.transaction, {}).pop(raw_id, None)

    def move(self, raw_id: str, fill: ChainFill) -> str | None:
        """The id under which the log was stored that appears again as this one, in another block; None for a new log.

        From then on this one's block is that of the stored log.
        """
        logs = self._logs.get(fill.transaction, {})
        if self._moved.get(raw_id) in logs:
            return self._moved[raw_id]
        for stored_id, stored in logs.items():
            if stored.fill.block_hash != fill.block_hash and _economic(stored.fill) == _economic(fill):
                logs[stored_id] = stored._replace(fill=fill)
                self._moved[raw_id] = stored_id
                if len(self._moved) > REMEMBERED:
                    self._moved.popitem(last=False)
                return stored_id
        return None

    def stored_of(self, raw_id: str, fill: ChainFill) -> tuple[str, RecordedLog] | None:
        """The stored log that this id names, and the id under which it is stored: another one for a log that has moved.

        None when it is not stored, or removed.
        """
        stored_id = self._moved.get(raw_id, raw_id)
        stored = self._logs.get(fill.transaction, {}).get(stored_id)
        return None if stored is None else (stored_id, stored)

    def displaced(self, fill: ChainFill) -> list[RecordedLog]:
        """The logs that this fill proves to be removed."""
        logs = self._logs.get(fill.transaction, {}).values()
        return [each for each in logs if each.fill.block_hash != fill.block_hash]


def _economic(fill: ChainFill) -> tuple[object, ...]:
    """What a fill is, wherever it was mined."""
    return fill.asset, fill.side, fill.share_micros, fill.notional_micros, fill.fee_micros


def removal_of(message: Log) -> Log:
    """The notice that the node would have sent when it removed this log."""
    wire = msgspec.json.decode(message.payload, type=dict[str, msgspec.Raw])
    wire["removed"] = msgspec.Raw(b"true")
    return message._replace(payload=msgspec.Raw(msgspec.json.encode(wire)))
