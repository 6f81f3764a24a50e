"""Finds logs that a reorganisation removed without a notice.

A node reports the removal of a log only to clients that are connected. But a transaction is in one block at a time:
when one of its logs appears in another block, the logs of the block before are removed.
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

    def add(self, raw_id: str, fill: ChainFill, message: Log) -> None:
        """A log was stored."""
        self._logs.setdefault(fill.transaction, {})[raw_id] = RecordedLog(fill, message)
        if len(self._logs) > REMEMBERED:
            self._logs.popitem(last=False)

    def remove(self, raw_id: str, fill: ChainFill) -> None:
        """A log was removed from the chain; `raw_id` is the id under which it was stored."""
        self._logs.get(fill.transaction, {}).pop(raw_id, None)

    def displaced(self, fill: ChainFill) -> list[RecordedLog]:
        """The logs that this fill proves to be removed."""
        logs = self._logs.get(fill.transaction, {}).values()
        return [each for each in logs if each.fill.block_hash != fill.block_hash]


def removal_of(message: Log) -> Log:
    """The notice that the node would have sent when it removed this log."""
    wire = msgspec.json.decode(message.payload, type=dict[str, msgspec.Raw])
    wire["removed"] = msgspec.Raw(b"true")
    return message._replace(payload=msgspec.Raw(msgspec.json.encode(wire)))
