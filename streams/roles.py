"""Who may do what in NATS: one role for each kind of process, each with the least that it needs. docs/design.md, roles.

What a role may publish and hear is derived from the topology: a subject that no line allows is refused by the server.
A role that reads has consumers of its own, and the server sends what it reads to whatever inbox the role names. So
readers also check that a message fits its stream (`streams/envelope.py`), and operators log in to an account of their
own, which reaches the log through services that only answer (`OPERATOR_SERVICES`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from domain.configuration import Kind
from streams.login import inbox_of
from streams.topology import (
    CONFIG,
    DEAD,
    EXECUTIONS,
    HISTORY,
    RAW,
    REQUESTS,
    SIGNALS,
    SNAPSHOTS,
    STREAMS,
    Stream,
)

ADMIN = "admin"
INGEST = "ingest"
PIPELINE = "pipeline"
EXECUTE = "execute"
PROJECTOR = "projector"
WEB = "web"
OPS_WRITER = "ops-writer"
ARCHIVER = "archiver"
BACKUP = "backup"

OPERATOR = "ops"
"""The user of operators at the `nats` command line, in an account of its own."""
MONITOR = "sys"
"""The user of the system account, for the server's own reports."""

LOG_ACCOUNT, OPERATOR_ACCOUNT, SYSTEM_ACCOUNT = "V", "OPS", "SYS"

_API = "$JS.API"
_EVERY_STREAM = tuple(stream.name for stream in STREAMS)


@dataclass(frozen=True)
class Role:
    """One user of the log's account: the subjects it may publish to, less those that `deny` names, and hear. Without
    any it may do everything."""

    name: str
    does: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


def _looks_at_streams() -> Iterator[str]:
    """What every process asks when it starts: whether the streams are as defined, and whether data is lost."""
    yield f"{_API}.INFO"
    for name in _EVERY_STREAM:
        yield f"{_API}.STREAM.INFO.{name}"
        yield f"{_API}.STREAM.MSG.GET.{name}"


def _reads(*streams: Stream) -> Iterator[str]:
    """Making consumers, pulling from them and removing them."""
    for stream in streams:
        yield f"{_API}.CONSUMER.CREATE.{stream.name}"
        yield f"{_API}.CONSUMER.CREATE.{stream.name}.*"
        yield f"{_API}.CONSUMER.INFO.{stream.name}.*"
        yield f"{_API}.CONSUMER.DELETE.{stream.name}.*"
        yield f"{_API}.CONSUMER.MSG.NEXT.{stream.name}.*"


def _shows_how_far_it_is(*streams: Stream) -> Iterator[str]:
    """Moving the durable consumers that operators look at."""
    yield from (f"{_API}.CONSUMER.RESET.{stream.name}.*" for stream in streams)


def _lists_consumers() -> Iterator[str]:
    yield from (f"{_API}.CONSUMER.LIST.{name}" for name in _EVERY_STREAM)


def _gets_directly() -> Iterator[str]:
    yield from (f"{_API}.DIRECT.GET.{name}" for name in _EVERY_STREAM)


def _works_as(*stages: str) -> Iterator[str]:
    """A stage's lanes, its saved states, and its dead letters."""
    for stage in stages:
        yield f"leases.{stage}"
        yield f"snapshots.{stage}.>"
        yield f"dead.{stage}.*"


_CONFIG_SNAPSHOTS = tuple(f"snapshots.config-{kind}.>" for kind in Kind)
_REQUEST_BUDGETS = ("leases.budget.>",)
"""The requests to venues that all processes share (`streams/shared_bucket`)."""
_OPERATORS_WRITE = ("config.>", "dead.retry.>", "dead.dropped.*", *_CONFIG_SNAPSHOTS)
_FOLDS = ("normalize", "group", "quote", "match", "plan", "exits")


def _role(name: str, does: str, *publish: Iterable[str], deny: tuple[str, ...] = ()) -> Role:
    allowed = tuple(dict.fromkeys(subject for subjects in (_looks_at_streams(), *publish) for subject in subjects))
    return Role(name, does, allowed, (f"{inbox_of(name)}.>",), deny)


ROLES: tuple[Role, ...] = (
    Role(ADMIN, "creates, changes and restores streams"),
    _role(
        INGEST,
        "stores what venues send",
        ("raw.>", "discovery.>", "dead.ingest.*", *_REQUEST_BUDGETS),
        _CONFIG_SNAPSHOTS,
        _reads(RAW, SIGNALS, CONFIG, SNAPSHOTS),
    ),
    _role(
        PIPELINE,
        "runs the stages from signals to decisions and paper fills",
        ("signals.>", "groups.>", "quotes.>", "exits.>", "marks.>", "requests.>", "executions.>", *_REQUEST_BUDGETS),
        _works_as(*_FOLDS, "mark", "resolve"),
        _CONFIG_SNAPSHOTS,
        _reads(*STREAMS),
        _shows_how_far_it_is(*HISTORY),
    ),
    _role(
        EXECUTE,
        "sends orders to venues and stores what became of them",
        ("orders.>", "requests.checkpoint.execute.*", *_REQUEST_BUDGETS),
        _works_as("execute"),
        _reads(REQUESTS, EXECUTIONS, CONFIG, DEAD, SNAPSHOTS),
        _shows_how_far_it_is(EXECUTIONS),
    ),
    _role(
        PROJECTOR,
        "builds the read models",
        # A wildcard matches whole tokens, and the stages of its dead letters are named after the read models.
        ("dead.*.*",),
        _lists_consumers(),
        _reads(*STREAMS),
        _shows_how_far_it_is(*HISTORY),
        deny=("dead.retry.*", "dead.dropped.*"),
    ),
    _role(
        WEB,
        "serves the pages and the HTTP API",
        _OPERATORS_WRITE,
        _lists_consumers(),
        _gets_directly(),
        _reads(*STREAMS),
    ),
    _role(
        OPS_WRITER,
        "the commands of operators: configuration, switches, dead letters, and everything that only reads",
        _OPERATORS_WRITE,
        _lists_consumers(),
        _gets_directly(),
        _reads(*STREAMS),
    ),
    _role(ARCHIVER, "exports closed days", _lists_consumers(), _reads(*HISTORY)),
    _role(
        BACKUP,
        "takes backups",
        (f"{_API}.STREAM.SNAPSHOT.{stream.name}" for stream in STREAMS),
        ("$JS.SNAPSHOT.ACK.>",),
        _reads(*STREAMS),
    ),
)
"""Every user of the log's account."""

OPERATOR_SERVICES: tuple[str, ...] = tuple(
    f"{_API}.{subject}"
    for subject in (
        "INFO",
        "STREAM.NAMES",
        "STREAM.LIST",
        "STREAM.INFO.*",
        "STREAM.MSG.GET.*",
        "DIRECT.GET.>",
        "CONSUMER.NAMES.*",
        "CONSUMER.LIST.*",
        "CONSUMER.INFO.*.*",
    )
)
"""What operators may ask of the log's account; each only answers, into an inbox of the operators' own account."""
OPERATOR_FEEDS = ("$JS.EVENT.ADVISORY.>",)
"""What operators hear of the log's account."""


def role_of_stage(stage: str) -> str:
    """The role that runs a stage of `vibe run`."""
    return {"ingest": INGEST, "projections": PROJECTOR, "execute": EXECUTE}.get(stage, PIPELINE)
