"""Events of DISCOVERY: who trades in public, followed or not."""

from msgspec import Struct

from domain.events.catalogue import Event, stored
from domain.venues import Venue


class ObservedTrader(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One address in one minute. `notional_micros` is what it traded, both sides of a trade with itself counted once;
    `self_trades` of its trades were with itself."""

    address: str
    trades: int
    notional_micros: int
    self_trades: int = 0


@stored("traders.observed")
class TradersObserved(Event, frozen=True, kw_only=True):
    """A batch of the traders that a venue's public feed named in one minute; `minute` is its beginning (ns)."""

    observed_id: str
    venue: Venue
    minute: int
    traders: tuple[ObservedTrader, ...]
