"""The configuration: who is followed, who copies whom, under which policy; the fold of CONFIG.

One instance serves every stage of a process. It is folded in place (hundreds of thousands of entries) and indexed for
the two questions of the hot path: which influencer has this address, and which subscriptions copy this influencer.
"""

from collections.abc import Iterator

from domain.events import (
    ControlChanged,
    Event,
    GuardrailConfigured,
    InfluencerConfigured,
    PolicyMaterialized,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
    Venue,
)
from domain.guardrails import GLOBAL, Policy, as_stored, evaluate, hash_of
from domain.operator_switches import Controls


class Configuration:
    """Every configured thing by id, and the indexes over them."""

    def __init__(self) -> None:
        self.influencers: dict[str, InfluencerConfigured] = {}
        self.subscribers: dict[str, SubscriberConfigured] = {}
        self.subscriptions: dict[str, SubscriptionConfigured] = {}
        self.guardrails: dict[str, GuardrailConfigured] = {}
        self.policies: dict[str, Policy] = {}
        self.controls = Controls()
        self.active_since: dict[str, int] = {}
        self.resumed_at: dict[str, int] = {}
        """When each subscription began, and when it last became active; ns."""
        self._of_portfolio: dict[str, Policy] = {}
        self._followed: dict[tuple[Venue, str], str] = {}
        self._subscriptions_of: dict[str, dict[str, None]] = {}
        self._evaluated: dict[tuple[str, str, tuple[tuple[str, int], ...]], tuple[str, Policy]] = {}

    def evolve(self, event: Event, at: int, sequence: int = 0) -> None:
        """Fold one CONFIG event recorded at `at` (ns) under a sequence."""
        match event:
            case InfluencerConfigured():
                self._set_influencer(event)
            case SubscriberConfigured():
                self.subscribers[event.id] = event
            case SubscriptionConfigured():
                self._set_subscription(event, at)
            case GuardrailConfigured():
                self.guardrails[event.scope] = event
                self._evaluated.clear()
                self._of_portfolio.clear()
            case PolicyMaterialized():
                self.policies[event.hash] = as_stored(event.values)
            case ControlChanged():
                self.controls.evolve(event, at, sequence)

    def _set_influencer(self, event: InfluencerConfigured) -> None:
        before = self.influencers.get(event.id)
        if before is not None:
            for address in before.addresses:
                # Another influencer may have taken the address over already.
                if self._followed.get((before.venue, address)) == event.id:
                    del self._followed[before.venue, address]
        self.influencers[event.id] = event
        if event.status is Status.ACTIVE:
            for address in event.addresses:
                self._followed[event.venue, address] = event.id

    def _set_subscription(self, event: SubscriptionConfigured, at: int) -> None:
        before = self.subscriptions.get(event.id)
        if before and before.influencer_id != event.influencer_id:
            self._subscriptions_of[before.influencer_id].pop(event.id, None)
            before = None  # it is new to this influencer
        self.subscriptions[event.id] = event
        self._subscriptions_of.setdefault(event.influencer_id, {})[event.id] = None
        if event.status is Status.CLOSED:
            self.active_since.pop(event.id, None)
        elif event.status is Status.ACTIVE and (before is None or before.status is not Status.ACTIVE):
            self.resumed_at[event.id] = at
            if before is None:
                self.active_since[event.id] = at
            else:
                self.active_since.setdefault(event.id, at)

    def followed(self, venue: Venue) -> dict[str, str]:
        """address -> influencer id of everyone followed on a venue; a fresh dict."""
        return {address: influencer for (of, address), influencer in self._followed.items() if of is venue}

    def influencer_of(self, venue: Venue, address: str) -> str | None:
        return self._followed.get((venue, address))

    def subscriptions_of(self, influencer_id: str) -> Iterator[SubscriptionConfigured]:
        """Every subscription to an influencer, whatever its status, in the order of their first configuration."""
        for subscription_id in self._subscriptions_of.get(influencer_id, ()):
            yield self.subscriptions[subscription_id]

    def policy_of(self, subscription: SubscriptionConfigured) -> tuple[str, Policy]:
        """The evaluated policy of a subscription and its hash; equal layers are evaluated once."""
        # Most subscribers have no guardrails of their own, so that equal layers share one evaluation.
        scope = f"subscriber:{subscription.subscriber_id}"
        own = scope if scope in self.guardrails else ""
        key = (subscription.influencer_id, own, tuple(sorted(subscription.limits.items())))
        found = self._evaluated.get(key)
        if found is None:
            policy = evaluate(
                self._values(GLOBAL),
                self._values(f"influencer:{subscription.influencer_id}"),
                self._values(own),
                subscription.limits,
            )
            found = self._evaluated[key] = (hash_of(policy), policy)
        return found

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

    def _values(self, scope: str) -> dict[str, int]:
        guardrail = self.guardrails.get(scope)
        return guardrail.values if guardrail else {}
