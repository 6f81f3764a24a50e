"""What operators configure."""

from domain.configuration import Configuration
from domain.events import (
    Event,
    Filters,
    InfluencerConfigured,
    Mode,
    OnClose,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
    Venue,
)
from domain.micros import micros
from tests.domain.facts.requests import fixed
from tests.domain.facts.values import ANN, at


def influencer(
    id: str = "ann",
    *addresses: str,
    status: Status = Status.ACTIVE,
    on_close: OnClose = OnClose.FOLLOW_EXITS,
    venue: Venue = Venue.HYPERLIQUID,
) -> InfluencerConfigured:
    return InfluencerConfigured(
        id=id,
        venue=venue,
        addresses=addresses or (ANN,),
        label=id.title(),
        status=status,
        actor="ops",
        on_close=on_close,
    )


def subscriber(
    id: str = "sam",
    *,
    mode: Mode = Mode.PAPER,
    status: Status = Status.ACTIVE,
    on_close: OnClose = OnClose.FOLLOW_EXITS,
) -> SubscriberConfigured:
    return SubscriberConfigured(
        id=id, mode=mode, deposit_micros=micros("10000"), status=status, actor="ops", on_close=on_close
    )


def subscription(
    id: str = "sam-ann",
    *,
    subscriber: str = "sam",
    influencer: str = "ann",
    status: Status = Status.ACTIVE,
    on_close: OnClose = OnClose.FOLLOW_EXITS,
    filters: Filters | None = None,
    limits: dict[str, int] | None = None,
) -> SubscriptionConfigured:
    return SubscriptionConfigured(
        id=id,
        subscriber_id=subscriber,
        influencer_id=influencer,
        sizing=fixed("50"),
        limits=limits or {},
        filters=filters or Filters(),
        status=status,
        actor="ops",
        on_close=on_close,
    )


def configuration(*events: Event, ms: int = -1000) -> Configuration:
    """What these events configure, recorded a second before anything happens."""
    made = Configuration()
    for event in events:
        made.evolve(event, at(ms))
    return made
