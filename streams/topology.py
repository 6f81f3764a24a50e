"""All streams, in one table: the only place that knows them. docs/design.md, streams.

Names are contracts: ops scripts and dashboards depend on them. `apply` creates or updates every stream, `verify`
raises an error when one differs. Deleting and purging are forbidden: history is not edited.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from streams.connection import NOT_FOUND, Connection
from streams.envelope import FORMAT
from streams.errors import RefusedError, TopologyError
from streams.retry import retry_until_available

_SECOND = 1_000_000_000
_DAY = 24 * 3600 * _SECOND
_FORMAT_KEY = "vibe_format"


@dataclass(frozen=True)
class Stream:
    """One stream: its subjects, how long it keeps events (ns, 0 = for ever), its deduplication window (ns)."""

    name: str
    subjects: tuple[str, ...]
    max_age: int
    description: str
    duplicate_window: int = 120 * _SECOND
    scratch: bool = False
    """Not history: only the newest message of each subject is kept."""

    def config(self, replicas: int) -> dict[str, Any]:
        """The JetStream configuration of this stream."""
        return {
            "name": self.name,
            "description": self.description,
            "subjects": list(self.subjects),
            "retention": "limits",
            "storage": "file",
            "compression": "s2",
            "discard": "old",
            "max_age": self.max_age,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_msgs_per_subject": 1 if self.scratch else -1,
            "max_consumers": -1,
            "max_msg_size": -1,
            "num_replicas": replicas,
            "duplicate_window": self.duplicate_window,
            "allow_atomic": not self.scratch,
            "allow_direct": True,
            "deny_delete": not self.scratch,
            "deny_purge": not self.scratch,
            "metadata": {_FORMAT_KEY: str(FORMAT)},
        }


RAW = Stream("RAW", ("raw.>",), 90 * _DAY, "what venues sent about followed addresses, unmodified")
SIGNALS = Stream("SIGNALS", ("signals.>",), 90 * _DAY, "changes of influencers' positions")
GROUPS = Stream(
    "GROUPS",
    ("groups.>", "quotes.>", "exits.>", "marks.>"),
    90 * _DAY,
    "signal groups, the books captured for them and for owed exits, marks",
)
# As long as GROUPS: it has the checkpoints of the stage that reads GROUPS, which must not expire before their input.
REQUESTS = Stream(
    "REQUESTS", ("requests.>", "orders.>"), 90 * _DAY, "what is to be decided, and what became of live orders"
)
EXECUTIONS = Stream("EXECUTIONS", ("executions.>",), 0, "decisions, orders, fills and positions of every subscriber")
CONFIG = Stream("CONFIG", ("config.>",), 0, "influencers, subscribers, subscriptions, guardrails, policies, control")
DEAD = Stream("DEAD", ("dead.>",), 90 * _DAY, "events that a stage could not handle, with the reason", _DAY)
DISCOVERY = Stream("DISCOVERY", ("discovery.>",), 90 * _DAY, "who traded in public, by the minute")
LEASES = Stream("LEASES", ("leases.>",), 0, "which instance works on which lane", scratch=True)
SNAPSHOTS = Stream("SNAPSHOTS", ("snapshots.>",), 0, "states of stages, to start faster; never needed", scratch=True)

HISTORY: tuple[Stream, ...] = (RAW, SIGNALS, GROUPS, REQUESTS, EXECUTIONS, CONFIG, DEAD, DISCOVERY)
"""The streams that hold events; their messages cannot be deleted."""
STREAMS: tuple[Stream, ...] = (*HISTORY, LEASES, SNAPSHOTS)


async def info(connection: Connection, name: str) -> dict[str, Any] | None:
    """STREAM.INFO of a stream, or None when it does not exist."""
    try:
        return await connection.api(f"STREAM.INFO.{name}")
    except RefusedError as error:
        if error.code in NOT_FOUND:
            return None
        raise


async def apply(connection: Connection, replicas: int = 1) -> list[tuple[str, str]]:
    """Create or update every stream; returns (name, 'created' | 'updated' | 'unchanged') in table order.

    Waits for a cluster that has no leader or too few nodes yet, as one that has just been started.
    """
    return [
        (stream.name, await retry_until_available(partial(_apply, connection, stream, replicas))) for stream in STREAMS
    ]


async def _apply(connection: Connection, stream: Stream, replicas: int) -> str:
    wanted = stream.config(replicas)
    found = await info(connection, stream.name)
    if found is None:
        await connection.api(f"STREAM.CREATE.{stream.name}", wanted, timeout=30)
        return "created"
    refuse_other_format(found)
    if differences(wanted, found["config"]):
        await connection.api(f"STREAM.UPDATE.{stream.name}", {**found["config"], **wanted}, timeout=30)
        return "updated"
    return "unchanged"


def refuse_other_format(found: dict[str, Any]) -> None:
    """Raises TopologyError when a stream holds messages of another format than this version reads; `found` is its
    STREAM.INFO."""
    stored = (found["config"].get("metadata") or {}).get(_FORMAT_KEY, "1")
    if stored != str(FORMAT) and found["state"]["messages"]:
        raise TopologyError(
            f"stream {found['config']['name']} holds a log of format {stored}, and this version reads format {FORMAT}; "
            "keep the old folder for the version that wrote it, and start with a new one (VIBE_DATA_DIR)"
        )


def differences(wanted: dict[str, Any], actual: dict[str, Any]) -> list[str]:
    """The settings of a stream that are not as the table says; the server leaves out what is zero or false, and adds
    metadata of its own."""

    def fits(key: str, value: Any) -> bool:
        if isinstance(value, dict):
            return value.items() <= (actual.get(key) or {}).items()
        return bool(actual.get(key) == value) or (key not in actual and value in (0, False))

    return [f"{key} is {actual.get(key)!r}, not {value!r}" for key, value in wanted.items() if not fits(key, value)]


async def verify(connection: Connection) -> None:
    """Raises TopologyError when a stream is missing or differs; replicas are the operator's choice."""
    for stream in STREAMS:
        found = await info(connection, stream.name)
        if found is None:
            raise TopologyError(f"stream {stream.name} does not exist; run: vibe streams apply")
        refuse_other_format(found)
        wanted = stream.config(found["config"]["num_replicas"])
        wrong = differences(wanted, found["config"])
        if wrong:
            raise TopologyError(f"stream {stream.name}: {'; '.join(wrong)}; run: vibe streams apply")
