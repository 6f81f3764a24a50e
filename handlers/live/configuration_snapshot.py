"""Snapshots of the configuration: what CONFIG folds to as of a sequence, so that a start need not read all of it.

Each kind of entries is a snapshot of its own, because a process loads only the kinds that it keeps. Entries are stored
in columns, and what many of them have in common once: 200,000 subscriptions are about 10 MB, loaded in half a second.
A snapshot is only an optimisation: one of another schema, of another log, or damaged is ignored, and CONFIG is read
from its first event.
"""

from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import structlog
from msgspec import Struct

from domain.configuration import Configuration, Kind
from domain.events import (
    AccountConfigured,
    ControlTarget,
    Filters,
    GuardrailConfigured,
    InfluencerConfigured,
    LiveAccount,
    Mode,
    OnClose,
    PortfolioScope,
    Sizing,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
    Venue,
)
from domain.guardrails import GUARDRAILS, Policy
from domain.operator_switches import Switch
from streams.connection import Connection
from streams.errors import LogError
from streams.processing import snapshots
from streams.subjects import PARTITIONS, Lane
from streams.topology import CONFIG

log = structlog.get_logger()

T = TypeVar("T")

_EVERYTHING = Lane(0, PARTITIONS - 1)
_LAYOUT = 2
"""Raised with every change of what the columns hold; changed events and guardrails are noticed by themselves."""


class Column(Struct, Generic[T], gc=False):
    """One value per entry: the distinct values, and for each entry the place of its own (unsigned ints of 32 bits)."""

    distinct: list[T]
    places: bytes


class Influencers(Struct):
    events: list[InfluencerConfigured]
    follows: list[tuple[Venue, str, str]]
    resumed_at: dict[str, int]


class Subscribers(Struct):
    ids: list[str]
    modes: Column[Mode]
    deposits: Column[int]
    statuses: Column[Status]
    actors: Column[str]
    scopes: Column[PortfolioScope]
    on_close: Column[OnClose]


class Subscriptions(Struct):
    ids: list[str]
    subscribers: list[str]
    influencers: Column[str]
    sizings: Column[Sizing]
    limits: Column[dict[str, int]]
    filters: Column[Filters]
    statuses: Column[Status]
    actors: Column[str]
    on_close: Column[OnClose]
    active_since: Column[int | None]
    resumed_at: Column[int | None]


class Policies(Struct):
    hashes: list[str]
    values: dict[str, Column[int]]
    """By guardrail, in the order of `Policy`."""


class Controls(Struct):
    switches: list[tuple[ControlTarget, str, list[Switch]]]


class _Section(NamedTuple):
    """How the entries of a kind are stored: the type of the payload, from a configuration to it, and back."""

    type: Any
    dump: Callable[[Configuration], Any]
    restore: Callable[[Configuration, Any], None]
    entries: tuple[type, ...]
    """The structs whose fields the payload depends on."""

    @property
    def schema(self) -> int:
        """A number that changes with the layout and with every field of the entries and its default."""
        fields = [
            (
                entry.__name__,
                [(field.name, str(field.type), repr(field.default)) for field in msgspec.structs.fields(entry)],
            )
            for entry in self.entries
        ]
        return int.from_bytes(blake2b(repr((_LAYOUT, fields)).encode(), digest_size=6).digest(), "big")


async def save(connection: Connection, directory: Configuration, sequence: int) -> None:
    """Store what a configuration keeps, as of a CONFIG sequence. A failure is only logged: it can be done later."""
    try:
        for kind in sorted(directory.kinds):
            schema, payload = _SECTIONS[kind].schema, dump(directory, kind)
            await snapshots.save(connection, _name(kind), _EVERYTHING, schema, CONFIG.name, sequence, payload)
        log.info("config.snapshot_saved", sequence=sequence, kinds=sorted(directory.kinds))
    except LogError as error:
        log.warning("config.snapshot_not_saved", error=str(error))


async def load(connection: Connection, directory: Configuration, until: int | None = None) -> dict[Kind, int]:
    """Fill an empty configuration from the snapshots; returns the CONFIG sequence of each kind that was found.

    With `until`, newer snapshots are passed over: what they lack is not known any more.
    """
    reached: dict[Kind, int] = {}
    for kind in directory.kinds:
        try:
            found = await snapshots.load(connection, _name(kind), _EVERYTHING, _SECTIONS[kind].schema, CONFIG.name)
            if found is None or (until is not None and found[0] > until):
                continue
            restore(directory, kind, found[1])
        except (LogError, msgspec.MsgspecError) as error:
            log.warning("config.snapshot_ignored", kind=kind.value, error=str(error))
            continue
        reached[kind] = found[0]
    return reached


def dump(directory: Configuration, kind: Kind) -> bytes:
    """All entries of a kind."""
    return msgspec.msgpack.encode(_SECTIONS[kind].dump(directory))


def restore(directory: Configuration, kind: Kind, payload: bytes) -> None:
    """The inverse of `dump`, into a configuration without entries of this kind. Raises msgspec.MsgspecError."""
    section = _SECTIONS[kind]
    section.restore(directory, msgspec.msgpack.decode(payload, type=section.type))


def _name(kind: Kind) -> str:
    return f"config-{kind.value}"


def _column(values: Iterable[Hashable], as_stored: Callable[[Any], Any] = lambda value: value) -> Column[Any]:
    """The column of these values; `as_stored` makes of a distinct one what is stored of it."""
    place_of: dict[Hashable, int] = {}
    places = array("I", (place_of.setdefault(value, len(place_of)) for value in values))
    return Column([as_stored(value) for value in place_of], places.tobytes())


def _values(columns: Iterable[Column[Any]]) -> Iterator[Iterator[Any]]:
    """For each column its values, one per entry."""
    for column in columns:
        places = array("I")
        places.frombytes(column.places)
        yield map(column.distinct.__getitem__, places)


def _dump_influencers(directory: Configuration) -> Influencers:
    follows = [(venue, address, name) for (venue, address), name in directory.follows.items()]
    return Influencers(list(directory.influencers.values()), follows, directory.influencers_resumed_at)


def _restore_influencers(directory: Configuration, stored: Influencers) -> None:
    for event in stored.events:
        directory.influencers[event.id] = event
    for venue, address, name in stored.follows:
        directory.follows[venue, address] = name
    directory.influencers_resumed_at.update(stored.resumed_at)


def _dump_subscribers(directory: Configuration) -> Subscribers:
    known: Sequence[SubscriberConfigured] = list(directory.subscribers.values())
    return Subscribers(
        ids=[one.id for one in known],
        modes=_column(one.mode for one in known),
        deposits=_column(one.deposit_micros for one in known),
        statuses=_column(one.status for one in known),
        actors=_column(one.actor for one in known),
        scopes=_column(one.scope for one in known),
        on_close=_column(one.on_close for one in known),
    )


def _restore_subscribers(directory: Configuration, stored: Subscribers) -> None:
    columns = (stored.modes, stored.deposits, stored.statuses, stored.actors, stored.scopes, stored.on_close)
    for name, mode, deposit, status, actor, scope, on_close in zip(stored.ids, *_values(columns), strict=True):
        directory.subscribers[name] = SubscriberConfigured(
            id=name, mode=mode, deposit_micros=deposit, status=status, actor=actor, scope=scope, on_close=on_close
        )


def _dump_subscriptions(directory: Configuration) -> Subscriptions:
    known: Sequence[SubscriptionConfigured] = list(directory.subscriptions.values())
    return Subscriptions(
        ids=[one.id for one in known],
        subscribers=[one.subscriber_id for one in known],
        influencers=_column(one.influencer_id for one in known),
        sizings=_column(one.sizing for one in known),
        limits=_column((tuple(one.limits.items()) for one in known), dict),
        filters=_column(one.filters for one in known),
        statuses=_column(one.status for one in known),
        actors=_column(one.actor for one in known),
        on_close=_column(one.on_close for one in known),
        active_since=_column(directory.active_since.get(one.id) for one in known),
        resumed_at=_column(directory.resumed_at.get(one.id) for one in known),
    )


def _restore_subscriptions(directory: Configuration, stored: Subscriptions) -> None:
    columns = (
        stored.influencers,
        stored.sizings,
        stored.limits,
        stored.filters,
        stored.statuses,
        stored.actors,
        stored.on_close,
        stored.active_since,
        stored.resumed_at,
    )
    for name, subscriber, influencer, sizing, limits, filters, status, actor, on_close, since, resumed in zip(
        stored.ids, stored.subscribers, *_values(columns), strict=True
    ):
        event = SubscriptionConfigured(
            id=name,
            subscriber_id=subscriber,
            influencer_id=influencer,
            sizing=sizing,
            limits=limits,
            filters=filters,
            status=status,
            actor=actor,
            on_close=on_close,
        )
        directory.restore_subscription(event, since, resumed)


def _dump_policies(directory: Configuration) -> Policies:
    known: Sequence[Policy] = list(directory.policies.values())
    return Policies(
        hashes=list(directory.policies),
        values={name: _column(getattr(one, name) for one in known) for name in GUARDRAILS},
    )


def _restore_policies(directory: Configuration, stored: Policies) -> None:
    for policy_hash, *values in zip(stored.hashes, *_values(stored.values.values()), strict=True):
        directory.policies[policy_hash] = Policy(**dict(zip(stored.values, values, strict=True)))


def _dump_controls(directory: Configuration) -> Controls:
    return Controls([(target, key, switches) for (target, key), switches in directory.controls.switches.items()])


def _restore_controls(directory: Configuration, stored: Controls) -> None:
    for target, key, switches in stored.switches:
        directory.controls.restore(target, key, switches)


def _restore_accounts(directory: Configuration, stored: list[AccountConfigured]) -> None:
    for event in stored:
        directory.accounts[event.id] = event


def _restore_guardrails(directory: Configuration, stored: list[GuardrailConfigured]) -> None:
    for event in stored:
        directory.guardrails[event.scope] = event


_SECTIONS: dict[Kind, _Section] = {
    Kind.INFLUENCER: _Section(Influencers, _dump_influencers, _restore_influencers, (InfluencerConfigured,)),
    Kind.SUBSCRIBER: _Section(Subscribers, _dump_subscribers, _restore_subscribers, (SubscriberConfigured,)),
    Kind.SUBSCRIPTION: _Section(
        Subscriptions, _dump_subscriptions, _restore_subscriptions, (SubscriptionConfigured, Sizing, Filters)
    ),
    Kind.ACCOUNT: _Section(
        list[AccountConfigured],
        lambda directory: list(directory.accounts.values()),
        _restore_accounts,
        (AccountConfigured, LiveAccount),
    ),
    Kind.GUARDRAIL: _Section(
        list[GuardrailConfigured],
        lambda directory: list(directory.guardrails.values()),
        _restore_guardrails,
        (GuardrailConfigured,),
    ),
    Kind.POLICY: _Section(Policies, _dump_policies, _restore_policies, (Policy,)),
    Kind.CONTROL: _Section(Controls, _dump_controls, _restore_controls, ()),
}
