"""Logs that stand: recorded and not taken back. A reorganisation nobody listened to is found out by its consequences.

A node tells of a log that it takes back only to who is connected. But a transaction is in one block at a time: a log of
it in another block means that the one before is gone, whoever said so or not.
"""

from collections import OrderedDict
from typing import NamedTuple

import msgspec

from gateways.polymarket.log_parsing import ChainFill, Log

REMEMBERED = 2_000
"""Transactions remembered per wallet; the chain is final after seconds."""


class RecordedLog(NamedTuple):
    """A log as it was recorded."""

    fill: ChainFill
    message: Log


class ReorgTracker:
    """The standing logs of one wallet, by transaction."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, dict[str, RecordedLog]] = OrderedDict()

    def add(self, raw_id: str, fill: ChainFill, message: Log) -> None:
        """A log was recorded."""
        self._logs.setdefault(fill.transaction, {})[raw_id] = RecordedLog(fill, message)
        if len(self._logs) > REMEMBERED:
            self._logs.popitem(last=False)

    def remove(self, raw_id: str, fill: ChainFill) -> None:
        """A log was taken back; `raw_id` is the one it was recorded under."""
        self._logs.get(fill.transaction, {}).pop(raw_id, None)

    def displaced(self, fill: ChainFill) -> list[RecordedLog]:
        """What cannot stand any more now that this fill does."""
        logs = self._logs.get(fill.transaction, {}).values()
        return [each for each in logs if each.fill.block_hash != fill.block_hash]


def taken_back(message: Log) -> Log:
    """The log as the node would have sent it when it took it back."""
    wire = msgspec.json.decode(message.payload, type=dict[str, msgspec.Raw])
    wire["removed"] = msgspec.Raw(b"true")
    return message._replace(payload=msgspec.Raw(msgspec.json.encode(wire)))
