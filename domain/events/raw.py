"""Events of RAW: what a venue sent, unmodified."""

from msgspec import Raw

from domain.events.catalogue import Event, stored
from domain.venues import Venue


@stored("raw.received")
class RawReceived(Event, frozen=True, kw_only=True):
    """One thing a venue sent about one followed address, unmodified."""

    raw_id: str
    venue: Venue
    channel: str
    influencer_id: str
    address: str
    payload: Raw
    detect_time: int
    venue_time: int | None = None
    """When it happened at the venue, where the payload itself does not say."""
