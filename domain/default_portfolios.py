"""The portfolios that come with every influencer, created when it is enabled (docs/design.md,
default portfolios).

EXEC_USER is a paper subscriber with one subscription; EXEC_GLOBAL is the one paper subscriber with a subscription to
every enabled influencer. SHADOW_USER needs no configuration: it is the fold of the influencer's own fills.
"""

from collections.abc import Iterator

from domain.configuration import Configuration
from domain.events import (
    Event,
    Filters,
    InfluencerConfigured,
    Mode,
    PortfolioScope,
    Sizing,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
)
from domain.micros import MICRO

EXEC_GLOBAL = "exec-global"
SIZING = Sizing("copy_percent", percent_micros=MICRO)
"""1 % of the influencer's notional."""


def exec_user(influencer_id: str) -> str:
    """The id of an influencer's EXEC_USER subscriber."""
    return f"exec-user:{influencer_id}"


def wanted(configuration: Configuration, influencer: InfluencerConfigured, bankroll_micros: int) -> Iterator[Event]:
    """What an enabled influencer's portfolios still need; what is configured already stays as it is."""
    if influencer.status is not Status.ACTIVE:
        return
    for subscriber_id, scope in (
        (exec_user(influencer.id), PortfolioScope.EXEC_USER),
        (EXEC_GLOBAL, PortfolioScope.EXEC_GLOBAL),
    ):
        if subscriber_id not in configuration.subscribers:
            yield SubscriberConfigured(
                id=subscriber_id,
                mode=Mode.PAPER,
                deposit_micros=bankroll_micros,
                status=Status.ACTIVE,
                actor=influencer.actor,
                scope=scope,
            )
        subscription_id = f"{subscriber_id}/{influencer.id}" if scope is PortfolioScope.EXEC_GLOBAL else subscriber_id
        if subscription_id not in configuration.subscriptions:
            yield SubscriptionConfigured(
                id=subscription_id,
                subscriber_id=subscriber_id,
                influencer_id=influencer.id,
                sizing=SIZING,
                limits={},
                filters=Filters(),
                status=Status.ACTIVE,
                actor=influencer.actor,
            )
