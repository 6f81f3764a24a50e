"""Import of configuration: the lines of a file become CONFIG events, only those that change something."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import structlog
from msgspec import structs

from domain import default_portfolios
from domain.configuration import Configuration, Kind
from domain.events import (
    ControlChanged,
    ControlState,
    ControlTarget,
    Event,
    GuardrailConfigured,
    InfluencerConfigured,
    OnClose,
    PolicyMaterialized,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
)
from handlers.live.configuration import ConfigurationFold, configuration_fold, save_if_long
from handlers.live.event_codec import codec
from handlers.services.config_batch import kind_of, pack
from handlers.services.config_file import BadLine, key_of, line_of, parse
from streams import subjects
from streams.append import MAX_BATCH, WHOLE, ExpectedVersion, Record, append
from streams.connection import Connection
from streams.errors import ConflictError
from streams.reader import read_all
from streams.topology import CONFIG

log = structlog.get_logger()

_ANSWER_SECONDS = 60
"""How long the server may take to store a batch: one of 400,000 lines takes it some seconds."""

_SWITCHES = subjects.config(Kind.CONTROL, "x").removesuffix("x")

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do in all."""


class Imported(NamedTuple):
    """The result of an import: events written by kind, lines that changed nothing, bad lines (then nothing is
    written)."""

    written: dict[str, int]
    unchanged: int
    bad: list[BadLine]
    sequence: int


def configured_events(directory: Configuration) -> Iterator[Event]:
    """All that is configured, in an order in which it can be imported."""
    yield from directory.guardrails.values()
    yield from directory.influencers.values()
    yield from directory.subscribers.values()
    yield from directory.subscriptions.values()
    yield from directory.accounts.values()


def export_lines(directory: Configuration) -> Iterator[str]:
    """The configuration as JSON lines; importing them again changes nothing."""
    for event in configured_events(directory):
        yield msgspec.json.encode(line_of(event)).decode()


def changes(directory: Configuration, events: Iterable[Event], at: int, bankroll_micros: int = 0) -> list[Event]:
    """Those of the events that change `directory`, and what they bring about; folded into `directory`.

    Enabled influencers get their paper portfolios, if there is a bankroll (micros). What is closed with `close_now`
    gets the order to close its positions. Policies that subscriptions evaluate to and that are not stored come first:
    those in between two changes too, because a follower may read there.
    `at` is the time of the changes in ns.
    """
    changed: list[Event] = []
    orders: list[Event] = []
    missing: dict[str, Event] = {}
    of_subscriber: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for known in directory.subscriptions.values():
        of_subscriber[known.subscriber_id][known.id] = None

    def materialize(subscriptions: Iterable[SubscriptionConfigured]) -> None:
        for subscription in subscriptions:
            policy_hash, policy = directory.policy_of(subscription)
            if policy_hash not in directory.policies and policy_hash not in missing:
                missing[policy_hash] = PolicyMaterialized(hash=policy_hash, values=structs.asdict(policy))

    def change(event: Event) -> None:
        before = _known(directory, event)
        if before is None or structs.replace(event, actor="") != structs.replace(before, actor=""):
            changed.append(event)
            directory.evolve(event, at)
            if (order := _closes(event)) is not None:
                orders.append(order)
            if isinstance(event, SubscriptionConfigured):
                of_subscriber[event.subscriber_id][event.id] = None
                materialize([event])
            elif isinstance(event, GuardrailConfigured):
                kind, _, name = event.scope.partition(":")
                if kind == "influencer":
                    materialize(directory.subscriptions_of(name))
                elif kind == "subscriber":
                    materialize(directory.subscriptions[each] for each in of_subscriber[name])
                else:
                    materialize(directory.subscriptions.values())

    enabled = []
    for event in events:
        change(event)
        if isinstance(event, InfluencerConfigured):
            enabled.append(event)
    # Last: lines of the file about these portfolios themselves come first.
    for influencer in enabled if bankroll_micros else ():
        for event in default_portfolios.wanted(directory, influencer, bankroll_micros):
            change(event)
    materialize(directory.subscriptions.values())
    for policy in missing.values():
        directory.evolve(policy, at)
    # Policies go first: a reader of a subscription finds its policy.
    return [*missing.values(), *changed, *orders]


def _closes(event: Event) -> ControlChanged | None:
    """The order to close what was copied, where an event says that it is closed now."""
    if not isinstance(event, InfluencerConfigured | SubscriberConfigured | SubscriptionConfigured):
        return None
    if event.status is not Status.CLOSED or event.on_close is not OnClose.CLOSE_NOW:
        return None
    return ControlChanged(
        target=ControlTarget.POSITIONS,
        id=":".join(key_of(event)),
        state=ControlState.CLOSED,
        actor=event.actor,
        note="closed with close_now",
    )


def _known(directory: Configuration, event: Event) -> Event | None:
    kind, key = key_of(event)
    match kind:
        case "influencer":
            return directory.influencers.get(key)
        case "subscriber":
            return directory.subscribers.get(key)
        case "subscription":
            return directory.subscriptions.get(key)
        case "account":
            return directory.accounts.get(key)
    return directory.guardrails.get(key)


async def import_lines(
    connection: Connection,
    lines: Iterable[str],
    *,
    actor: str,
    now: int,
    bankroll_micros: int = 0,
    progress: Progress = lambda done, of: None,
) -> Imported:
    """Check every line, then store the changes in one atomic batch: all of them are in force, or none.

    Influencers that are enabled get their paper portfolios with this bankroll in micros; 0 = none. When another import
    changes CONFIG meanwhile, the lines are checked again against that, and the changes still missing are stored.
    `progress` counts every line twice: once when it is checked, once when it is stored. Raises RefusedError for more
    than one batch holds (hundreds of megabytes), and UnknownOutcomeError when the server's answer is lost: a second
    import then stores what is missing, if anything is.
    """
    lines = list(lines)
    now -= now % 1_000  # as precise as it is stored: the configuration that is saved is the one that others will read
    while True:
        fold = await configuration_fold(connection, codec())
        events, bad = parse(lines, fold.directory, actor, lambda done: progress(done, 2 * len(lines)))
        if bad:
            return Imported({}, 0, bad, fold.sequence)
        changed = changes(fold.directory, events, now, bankroll_micros)
        if changed:
            records = pack(changed, now, actor=actor, after=fold.sequence, largest=connection.max_payload)
            sent = partial(_stored, progress, len(lines), len(records))
            sequence = await _append(connection, records, fold, sent)
            if sequence is None:
                continue
        else:
            sequence = fold.sequence
        progress(2 * len(lines), 2 * len(lines))
        await save_if_long(connection, fold.directory, sequence, behind=fold.folded + len(changed))
        return _imported(events, changed, sequence)


async def _append(
    connection: Connection, records: list[Record], fold: ConfigurationFold, sent: Callable[[int], None]
) -> int | None:
    """The CONFIG sequence of the last record; None when something else was configured meanwhile.

    Operator switches that came meanwhile are folded: they change nothing of what lines mean.
    """
    while True:
        try:
            expected = ExpectedVersion(WHOLE, fold.sequence)
            return (await append(connection, records, expected, timeout=_ANSWER_SECONDS, sent=sent)).last
        except ConflictError as error:
            log.info("config.changed_meanwhile", why=str(error))
        async for batch in read_all(connection, CONFIG.name, after=fold.sequence):
            for stored in batch:
                if not stored.subject.startswith(_SWITCHES):
                    return None
                fold.fold(stored)


def _stored(progress: Progress, lines: int, records: int, sent: int) -> None:
    progress(lines + lines * sent // records, 2 * lines)


async def import_lines_at(
    connection: Connection,
    lines: Iterable[str],
    *,
    actor: str,
    now: int,
    expected: int,
    bankroll_micros: int = 0,
) -> Imported:
    """Like `import_lines`, only as long as `expected` is the last sequence of CONFIG: what an operator has seen.

    Raises ConflictError when CONFIG has moved, and writes nothing then; ValueError for more changes than one batch.
    """
    now -= now % 1_000
    fold = await configuration_fold(connection, codec())
    if fold.sequence != expected:
        raise ConflictError(CONFIG.name, expected, fold.sequence)
    events, bad = parse(lines, fold.directory, actor)
    if bad:
        return Imported({}, 0, bad, fold.sequence)
    changed = changes(fold.directory, events, now, bankroll_micros)
    sequence = fold.sequence
    if changed:
        records = pack(changed, now, actor=actor, after=sequence, largest=connection.max_payload)
        if len(records) > MAX_BATCH:
            raise ValueError(f"{len(changed):,} changes are more than what is stored at once; use: vibe config import")
        unchanged = ExpectedVersion(WHOLE, sequence)
        sequence = (await append(connection, records, unchanged, timeout=_ANSWER_SECONDS)).last
    return _imported(events, changed, sequence)


def _imported(events: Sequence[Event], changed: Sequence[Event], sequence: int) -> Imported:
    written = Counter(kind_of(event) for event in changed)
    of_lines = {key_of(event) for event in changed if not isinstance(event, PolicyMaterialized | ControlChanged)}
    return Imported(dict(written), sum(key_of(event) not in of_lines for event in events), [], sequence)


async def store_control(
    connection: Connection, target: ControlTarget, key: str, state: ControlState, *, actor: str, note: str, now: int
) -> int:
    """Store an operator switch; returns its CONFIG sequence. It applies from the next decision on."""
    event = ControlChanged(target=target, id=key, state=state, actor=actor, note=note)
    name = f"{target.value}:{key}" if key else target.value
    payload = codec().encode(event, id=f"control:{name}@{now}", source="vibe/control", time_ns=now, correlation=name)
    return (await append(connection, [Record(subjects.config("control", name), payload)])).last
