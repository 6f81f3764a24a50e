"""The configuration: who is followed, who copies whom, under which policy; the fold of CONFIG.

One instance serves every stage of a process. It is folded in place (hundreds of thousands of entries) and indexed for
the two questions of the hot path: which influencer has this address, and which subscriptions copy this influencer. A
process that needs only some kinds of entries keeps only those, and equal parts of entries are one object in memory.
"""

from collections.abc import Collection, Hashable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NoReturn, Protocol, TypeVar

from msgspec.structs import replace

from domain.events import (
    AccountConfigured,
    ControlChanged,
    Event,
    GuardrailConfigured,
    InfluencerConfigured,
    LiveAccount,
    PolicyMaterialized,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
    Venue,
)
from domain.guardrails import GLOBAL, Policy, as_stored, evaluate, hash_of
from domain.operator_switches import Controls


class Kind(StrEnum):
    """What an event of CONFIG configures."""

    INFLUENCER = "influencer"
    SUBSCRIBER = "subscriber"
    SUBSCRIPTION = "subscription"
    ACCOUNT = "account"
    GUARDRAIL = "guardrail"
    POLICY = "policy"
    CONTROL = "control"


ALL_KINDS = frozenset(Kind)

KIND_OF: dict[type[Event], Kind] = {
    InfluencerConfigured: Kind.INFLUENCER,
    SubscriberConfigured: Kind.SUBSCRIBER,
    SubscriptionConfigured: Kind.SUBSCRIPTION,
    AccountConfigured: Kind.ACCOUNT,
    GuardrailConfigured: Kind.GUARDRAIL,
    PolicyMaterialized: Kind.POLICY,
    ControlChanged: Kind.CONTROL,
}
"""What each event of CONFIG configures."""

T = TypeVar("T", bound=Hashable)


class _Named(Protocol):
    @property
    def id(self) -> str: ...


class Configuration:
    """Every configured thing by id, and the indexes over them.

    `kinds` are what is kept; events of other kinds are passed over, and to ask for them raises LookupError: an empty
    answer would be taken for the truth.
    """

    influencers: dict[str, InfluencerConfigured]
    subscribers: dict[str, SubscriberConfigured]
    subscriptions: dict[str, SubscriptionConfigured]
    accounts: dict[str, AccountConfigured]
    guardrails: dict[str, GuardrailConfigured]
    policies: dict[str, Policy]
    controls: Controls
    active_since: dict[str, int]
    resumed_at: dict[str, int]
    """When each subscription began, and when it last became active; ns."""
    influencers_resumed_at: dict[str, int]
    """When each influencer that was not active last became active again; ns."""

    def __init__(self, kinds: Collection[Kind] = ALL_KINDS) -> None:
        self.kinds = frozenset(kinds)
        self.influencers = self._kept(Kind.INFLUENCER, {})
        self.subscribers = self._kept(Kind.SUBSCRIBER, {})
        self.subscriptions = self._kept(Kind.SUBSCRIPTION, {})
        self.accounts = self._kept(Kind.ACCOUNT, {})
        self.guardrails = self._kept(Kind.GUARDRAIL, {})
        self.policies = self._kept(Kind.POLICY, {})
        self.controls = self._kept(Kind.CONTROL, Controls())
        self.active_since = self._kept(Kind.SUBSCRIPTION, {})
        self.resumed_at = self._kept(Kind.SUBSCRIPTION, {})
        self.influencers_resumed_at = self._kept(Kind.INFLUENCER, {})
        self._of_portfolio: dict[str, Policy] = {}
        self.follows: dict[tuple[Venue, str], str] = {}
        """The influencer of each followed (venue, address)."""
        self._subscriptions_of: dict[str, dict[str, None]] = {}
        self._evaluated: dict[tuple[str, str, tuple[tuple[str, int], ...]], tuple[str, Policy]] = {}
        self._shared: dict[Hashable, Any] = {}
        self._shared_limits: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}
        self._last_at = 0

    def _kept(self, kind: Kind, empty: Any) -> Any:
        return empty if kind in self.kinds else _NotKept(kind)

    def evolve(self, event: Event, at: int, sequence: int = 0) -> None:
        """Fold one CONFIG event recorded at `at` (ns) under a sequence."""
        if KIND_OF.get(type(event)) not in self.kinds:
            return
        event = self.compacted(event)
        match event:
            case InfluencerConfigured():
                self._set_influencer(event, at)
            case SubscriberConfigured():
                self.subscribers[event.id] = event
            case SubscriptionConfigured():
                self._set_subscription(event, at)
            case AccountConfigured():
                self.accounts[event.id] = event
            case GuardrailConfigured():
                self.guardrails[event.scope] = event
                self._evaluated.clear()
                self._of_portfolio.clear()
            case PolicyMaterialized():
                values = {name: self._share(value) for name, value in event.values.items()}
                self.policies[event.hash] = as_stored(values)
            case ControlChanged():
                self.controls.evolve(event, at, sequence)

    def _set_influencer(self, event: InfluencerConfigured, at: int) -> None:
        before = self.influencers.get(event.id)
        if before is not None:
            for address in before.addresses:
                # Another influencer may have taken the address over already.
                if self.follows.get((before.venue, address)) == event.id:
                    del self.follows[before.venue, address]
        self.influencers[event.id] = event
        if before is not None and before.status is not Status.ACTIVE and event.status is Status.ACTIVE:
            self.influencers_resumed_at[event.id] = at
        if not event.is_abandoned:  # its exits are copied, whether or not anything is opened
            for address in event.addresses:
                self.follows[event.venue, address] = event.id

    def _set_subscription(self, event: SubscriptionConfigured, at: int) -> None:
        before = self.subscriptions.get(event.id)
        if before and before.influencer_id != event.influencer_id:
            self._subscriptions_of[before.influencer_id].pop(event.id, None)
            del self.subscriptions[event.id]  # it is new to this influencer, and the last of its subscriptions
            before = None
        # One object for equal times: a file of 200,000 lines has one time.
        at = self._last_at = self._last_at if self._last_at == at else at
        self.subscriptions[event.id] = event
        self._subscriptions_of.setdefault(event.influencer_id, {})[event.id] = None
        if event.is_abandoned:
            self.active_since.pop(event.id, None)
        elif event.status is Status.ACTIVE and (before is None or before.status is not Status.ACTIVE):
            self.resumed_at[event.id] = at
            if before is None:
                self.active_since[event.id] = at
            else:
                self.active_since.setdefault(event.id, at)

    def restore_subscription(
        self, event: SubscriptionConfigured, active_since: int | None, resumed_at: int | None
    ) -> None:
        """Take over a subscription whose history was folded before; in the order of `subscriptions`."""
        self.subscriptions[event.id] = event = self._compacted(event)
        self._subscriptions_of.setdefault(event.influencer_id, {})[event.id] = None
        if active_since is not None:
            self.active_since[event.id] = active_since
        if resumed_at is not None:
            self.resumed_at[event.id] = resumed_at

    def compacted(self, event: Event) -> Event:
        """The same event, with one object for what it has in common with entries that are known."""
        match event:
            case SubscriberConfigured():
                return replace(event, actor=self._share(event.actor))
            case SubscriptionConfigured():
                return self._compacted(event)
        return event

    def _compacted(self, event: SubscriptionConfigured) -> SubscriptionConfigured:
        return SubscriptionConfigured(
            id=event.id,
            subscriber_id=self._id_of(self.subscribers, Kind.SUBSCRIBER, event.subscriber_id),
            influencer_id=self._id_of(self.influencers, Kind.INFLUENCER, event.influencer_id),
            sizing=self._share(event.sizing),
            limits=self._shared_limits.setdefault(tuple(event.limits.items()), event.limits),
            filters=self._share(event.filters),
            status=event.status,
            actor=self._share(event.actor),
            on_close=event.on_close,
        )

    def _id_of(self, known: Mapping[str, _Named], kind: Kind, name: str) -> str:
        one = known.get(name) if kind in self.kinds else None
        return one.id if one is not None else name

    def _share(self, value: T) -> T:
        shared: T = self._shared.setdefault(value, value)
        return shared

    def followed(self, venue: Venue) -> dict[str, str]:
        """address -> influencer id of everyone followed on a venue; a fresh dict."""
        return {address: influencer for (of, address), influencer in self.follows.items() if of is venue}

    def influencer_of(self, venue: Venue, address: str) -> str | None:
        return self.follows.get((venue, address))

    def subscriptions_of(self, influencer_id: str) -> Iterator[SubscriptionConfigured]:
        """Every subscription to an influencer, whatever its status, in the order of their first configuration."""
        for subscription_id in self._subscriptions_of.get(influencer_id, ()):
            yield self.subscriptions[subscription_id]

    def policy_of(self, subscription: SubscriptionConfigured) -> tuple[str, Policy]:
        """The evaluated policy of a subscription and its hash; equal layers are evaluated once."""
        # Most influencers and subscribers have no guardrails of their own, so that equal layers share one evaluation.
        followed = self._own(f"influencer:{subscription.influencer_id}")
        own = self._own(f"subscriber:{subscription.subscriber_id}")
        key = (followed, own, tuple(sorted(subscription.limits.items())) if subscription.limits else ())
        found = self._evaluated.get(key)
        if found is None:
            policy = evaluate(self._values(GLOBAL), self._values(followed), self._values(own), subscription.limits)
            found = self._evaluated[key] = (hash_of(policy), policy)
        return found

    def live_account(self, subscriber_id: str, venue: Venue) -> LiveAccount | None:
        """The active account of a subscriber at a venue."""
        configured = self.accounts.get(f"{subscriber_id}:{venue.value}")
        return configured.account if configured is not None and configured.status is Status.ACTIVE else None

    def policy_named(self, policy_hash: str) -> Policy | None:
        """The policy that was materialized under a hash."""
        return self.policies.get(policy_hash)

    def influencer_policy(self, influencer_id: str) -> Policy:
        """The policy of everything that is copied from an influencer; its quotes use it."""
        return evaluate(self._values(GLOBAL), self._values(f"influencer:{influencer_id}"))

    def subscriber_policy(self, subscriber_id: str) -> Policy:
        """The policy of a portfolio as a whole; its breakers use it."""
        own = f"subscriber:{subscriber_id}"
        scope = own if own in self.guardrails else GLOBAL
        if scope not in self._of_portfolio:
            self._of_portfolio[scope] = evaluate(self._values(GLOBAL), self._values(scope))
        return self._of_portfolio[scope]

    def _own(self, scope: str) -> str:
        """The scope when it has guardrails of its own, else nothing."""
        return scope if scope in self.guardrails else ""

    def _values(self, scope: str) -> dict[str, int]:
        guardrail = self.guardrails.get(scope)
        return guardrail.values if guardrail else {}


class _NotKept:
    """In place of the entries of a kind that a configuration does not keep."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def _refuse(self, *_: object) -> NoReturn:
        raise LookupError(f"this configuration keeps no {self._kind.value} entries; name the kind where it is made")

    __getattr__ = __getitem__ = __contains__ = __iter__ = __len__ = _refuse
