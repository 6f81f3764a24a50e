"""The blocks of the sandbox's Polygon: headers, logs, filters, and reorganisations.

A block is worth two seconds. Headers are made when they are asked for, so the chain reaches back as far as a client
likes; only blocks with logs are kept.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateways.sandbox.polymarket.abi import Emitted

BLOCK_MS: Final = 2_000
_FIRST: Final = 91_000_000
_FINAL_AFTER: Final = 3
_EMPTY: Final = "0x" + "0" * 64


class BadFilterError(ValueError):
    """A log filter that no node takes."""


@dataclass(frozen=True)
class Log:
    """One log in its block."""

    emitted: Emitted
    block: int
    block_hash: str
    timestamp_s: int
    transaction: str
    transaction_index: int
    index: int

    def wire(self, *, removed: bool = False) -> dict[str, object]:
        return {
            "address": self.emitted.address,
            "topics": list(self.emitted.topics),
            "data": self.emitted.data,
            "blockNumber": hex(self.block),
            "blockHash": self.block_hash,
            "blockTimestamp": hex(self.timestamp_s),
            "transactionHash": self.transaction,
            "transactionIndex": hex(self.transaction_index),
            "logIndex": hex(self.index),
            "removed": removed,
        }


class Filter:
    """`address` and `topics` of a log filter: null, one value, or an array of alternatives at every place."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self._addresses = _alternatives(wanted.get("address"))
        topics = wanted.get("topics") or []
        if not isinstance(topics, list) or len(topics) > 4:
            raise BadFilterError("invalid argument 0: expected at most 4 topics")
        self._topics = [_alternatives(topic) for topic in topics]

    def takes(self, emitted: Emitted) -> bool:
        if self._addresses is not None and emitted.address not in self._addresses:
            return False
        if len(self._topics) > len(emitted.topics):
            return False
        # A filter may have fewer topics than the log.
        pairs = zip(self._topics, emitted.topics, strict=False)
        return all(wanted is None or topic in wanted for wanted, topic in pairs)


def _alternatives(wanted: object) -> frozenset[str] | None:
    if wanted is None or wanted == []:
        return None
    values: list[Any] = wanted if isinstance(wanted, list) else [wanted]
    if not all(isinstance(value, str) and value.startswith("0x") for value in values):
        raise BadFilterError(f"invalid argument 0: expected hex strings, got {str(wanted)[:60]}")
    return frozenset(value.lower() for value in values)


class Chain:
    """Blocks from the origin of the scenario on; `origin_ns` is when block `first` was made."""

    def __init__(self, seed: int, origin_ns: int) -> None:
        self.seed = seed
        self.origin_ns = origin_ns
        self.first = _FIRST + int.from_bytes(self._digest("first block")[:2])
        self.head = self.first
        self._forks: dict[int, int] = {}
        self._logs: dict[int, list[Log]] = {}

    def number_at(self, now_ns: int) -> int:
        """The newest block made by `now_ns`."""
        return self.first + (now_ns - self.origin_ns) // (BLOCK_MS * 1_000_000)

    def made_ns(self, number: int) -> int:
        """When block `number` is made."""
        return self.origin_ns + (number - self.first) * BLOCK_MS * 1_000_000

    def timestamp_s(self, number: int) -> int:
        return self.made_ns(number) // 1_000_000_000

    def hash_of(self, number: int) -> str:
        return "0x" + self._digest(f"block {number} fork {self._forks.get(number, 0)}").hex()

    def mine(self, number: int, transactions: Sequence[tuple[str, Iterable[Emitted]]]) -> list[Log]:
        """Make block `number` of these transactions and give every log its place in it."""
        self.head = number
        # Other contracts log too: neither index starts at nothing.
        shift = int.from_bytes(self._digest(f"shift {number} fork {self._forks.get(number, 0)}")[:2]) % 400
        logs: list[Log] = []
        index = shift
        for place, (transaction, emitted) in enumerate(transactions):
            for each in emitted:
                logs.append(
                    Log(
                        each,
                        number,
                        self.hash_of(number),
                        self.timestamp_s(number),
                        transaction,
                        place + shift // 8,
                        index,
                    )
                )
                index += 1
            index += 2
        if logs:
            self._logs[number] = logs
        return logs

    def reorganise(self, depth: int) -> tuple[list[Log], list[list[Log]]]:
        """Replace the newest `depth` blocks: the logs that are gone, newest first, and those of each new block."""
        numbers = range(self.head - depth + 1, self.head + 1)
        gone = [log for number in reversed(numbers) for log in reversed(self._logs.pop(number, []))]
        made: list[list[Log]] = []
        for number in numbers:
            transactions: dict[str, list[Emitted]] = {}
            for log in sorted((log for log in gone if log.block == number), key=lambda log: log.index):
                transactions.setdefault(log.transaction, []).append(log.emitted)
            self._forks[number] = self._forks.get(number, 0) + 1
            made.append(self.mine(number, list(transactions.items())))
        return gone, made

    def header(self, number: int) -> dict[str, object]:
        """The block as `newHeads` shows it."""
        return {
            "number": hex(number),
            "hash": self.hash_of(number),
            "parentHash": self.hash_of(number - 1),
            "timestamp": hex(self.timestamp_s(number)),
            "miner": "0x" + "0" * 40,
            "difficulty": "0x1",
            "extraData": "0x",
            "gasLimit": hex(60_000_000),
            "gasUsed": hex(31_000_000),
            "baseFeePerGas": hex(30_000_000_000),
            "logsBloom": "0x" + "0" * 512,
            "mixHash": _EMPTY,
            "nonce": "0x0000000000000000",
            "receiptsRoot": _EMPTY,
            "sha3Uncles": _EMPTY,
            "stateRoot": _EMPTY,
            "transactionsRoot": _EMPTY,
        }

    def block(self, number: int) -> dict[str, object]:
        """The block as `eth_getBlockByNumber` shows it; transactions are hashes."""
        hashes = list(dict.fromkeys(log.transaction for log in self._logs.get(number, [])))
        return self.header(number) | {"size": hex(90_000), "transactions": hashes, "uncles": []}

    def tagged(self, tag: object) -> int:
        """The number a block tag or hex number means. Raises BadFilterError."""
        match tag:
            case None | "latest" | "pending":
                return self.head
            case "safe" | "finalized":
                return self.head - _FINAL_AFTER
            case "earliest":
                return 0
            case str() if tag.startswith("0x"):
                try:
                    return int(tag, 16)
                except ValueError:
                    pass
        raise BadFilterError(f"invalid argument 0: {tag!r} is no block number or tag")

    def logs(self, first: int, last: int, wanted: Filter) -> list[Log]:
        """The logs of blocks `first` to `last`, both included, in their order."""
        numbers = sorted(number for number in self._logs if first <= number <= last)
        return [log for number in numbers for log in self._logs[number] if wanted.takes(log.emitted)]

    def _digest(self, what: str) -> bytes:
        return hashlib.blake2b(f"pm chain {self.seed}:{what}".encode(), digest_size=32).digest()
