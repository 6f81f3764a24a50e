"""Counts who trades in public, minute by minute, in bounded memory.

A feed that connects again repeats its last trades. A trade counts when it is newer than the newest one counted of its
asset, or as new with an id that was not counted, and not older than the beginning of counting: what is repeated after a
restart was counted before it.
"""

from collections.abc import Collection, Iterator

from domain.events import ObservedTrader, TradersObserved, Venue
from domain.ids import derived

MINUTE = 60_000_000_000
BATCH = 500
"""Traders in one event."""
MOST = 100_000
"""Addresses in one minute; later ones are left out of that minute."""


class ObservedTraders:
    """The traders of one venue. `left_out` counts trades of addresses beyond the most of a minute."""

    def __init__(self, venue: Venue, started: int, *, most: int = MOST) -> None:
        self._venue = venue
        self._started = started
        self._most = most
        self._minute = -1
        self._counts: dict[str, list[int]] = {}
        self._newest: dict[str, tuple[int, set[int]]] = {}
        self.left_out = 0

    def new(self, asset: str, time: int, trade_id: int) -> bool:
        """Whether this trade (its time at the venue in ns) has not been counted; it counts as counted from now on."""
        newest, ids = self._newest.get(asset, (self._started, set()))
        if time < newest or (time == newest and trade_id in ids):
            return False
        if time > newest:
            ids = set()
        ids.add(trade_id)
        self._newest[asset] = time, ids
        return True

    def traded(self, addresses: Collection[str], notional_micros: int, now: int) -> list[TradersObserved]:
        """Count one new trade between these addresses at `now` (ns); returns the minute that is over, if one is."""
        over = self.over(now)
        self._minute = now // MINUTE
        parties = set(addresses)
        for address in parties:
            counts = self._counts.get(address)
            if counts is None:
                if len(self._counts) >= self._most:
                    self.left_out += 1
                    continue
                counts = self._counts[address] = [0, 0, 0]
            counts[0] += 1
            counts[1] += notional_micros
            counts[2] += len(parties) < len(addresses)
        return over

    def over(self, now: int) -> list[TradersObserved]:
        """The events of the counted minute, when it is over at `now` (ns); counting then begins anew."""
        return self.take() if now // MINUTE != self._minute else []

    def take(self) -> list[TradersObserved]:
        """The events of what was counted since they were last taken."""
        found = list(self._events())
        self._counts = {}
        return found

    def _events(self) -> Iterator[TradersObserved]:
        ordered = sorted(self._counts.items())
        for at in range(0, len(ordered), BATCH):
            yield TradersObserved(
                observed_id=derived("obs", self._venue, self._minute, at),
                venue=self._venue,
                minute=self._minute * MINUTE,
                traders=tuple(
                    ObservedTrader(address=address, trades=trades, notional_micros=notional, self_trades=own)
                    for address, (trades, notional, own) in ordered[at : at + BATCH]
                ),
            )
