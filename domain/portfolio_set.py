"""Many portfolios, and which to re-evaluate: marks moved, a day ended, a market was resolved, breakers were reset."""

from collections.abc import Container

from domain import breakers
from domain import portfolio as portfolios
from domain.events import CopyDecided, Event, ExecutionCompleted, OrderFilled, PositionSettled
from domain.mark_prices import Asset, MarkPrices
from domain.portfolio import Portfolio

EVALUATION_INTERVAL_NS = 1_000_000_000
"""How often marks are compared with those of the last evaluation."""


class PortfolioSet:
    """Portfolios by subscriber id. Not derived from the log and not saved: the order of re-evaluation."""

    def __init__(self, of: dict[str, Portfolio]) -> None:
        self.of = of
        self.holders: dict[Asset, set[str]] = {}
        """The subscribers that hold an asset or have ordered it."""
        for subscriber_id, portfolio in of.items():
            for asset in portfolio.holdings:
                self.holders.setdefault(asset, set()).add(subscriber_id)
        self.has_settled = any(portfolio.settled for portfolio in of.values())
        """True once a settlement was folded, which the venue may correct."""
        self.to_reevaluate: dict[str, None] = {}
        """The subscribers to re-evaluate, in order."""
        self.evaluated_at = 0
        self._marks_sequence = 0
        self._orders = 0
        self._day = -1

    def evolve(self, subscriber_id: str, event: Event) -> None:
        """Fold one event of a subscriber into its portfolio."""
        portfolio = self.of.get(subscriber_id)
        if portfolio is None:
            portfolio = self.of[subscriber_id] = Portfolio()
        portfolios.evolve(portfolio, event)
        self.has_settled = self.has_settled or isinstance(event, PositionSettled)
        if isinstance(event, CopyDecided | OrderFilled | ExecutionCompleted | PositionSettled):
            self._hold(subscriber_id, (event.venue.value, event.asset), portfolio)

    def _hold(self, subscriber_id: str, asset: Asset, portfolio: Portfolio) -> None:
        holders = self.holders.get(asset)
        if asset in portfolio.holdings:
            if holders is None:
                self.holders[asset] = {subscriber_id}
            else:
                holders.add(subscriber_id)
        elif holders is not None:
            holders.discard(subscriber_id)
            if not holders:
                del self.holders[asset]

    def next_evaluation(self) -> int | None:
        """When (ns) `take` may return something next; None when nothing is held or was settled."""
        if self.to_reevaluate:
            return 0
        return self.evaluated_at + EVALUATION_INTERVAL_NS if self.holders or self.has_settled else None

    def take(self, marks: MarkPrices, orders: int, now: int, count: int, excluded: Container[str]) -> list[str]:
        """At most `count` subscribers to re-evaluate at `now` (ns), apart from the excluded ones, who stay in order.

        `orders` is the number of the operators' orders so far.
        """
        if now - self.evaluated_at >= EVALUATION_INTERVAL_NS:
            self.evaluated_at = now
            self._collect(marks, orders, now)
        taken = [subscriber_id for subscriber_id in self.to_reevaluate if subscriber_id not in excluded][:count]
        for subscriber_id in taken:
            del self.to_reevaluate[subscriber_id]
        return taken

    def _paid(self, asset: Asset) -> list[str]:
        """The subscribers that a settlement of an asset was paid to: all are looked through, because it is rare."""
        return [
            subscriber_id
            for subscriber_id, portfolio in self.of.items()
            if any(settled == asset for _, settled in portfolio.settled)
        ]

    def _collect(self, marks: MarkPrices, orders: int, now: int) -> None:
        day = breakers.day_of(now)
        all_of_them = day != self._day or orders != self._orders
        for asset, holders in self.holders.items():
            mark = marks.mark(asset)
            moved = mark is not None and mark.sequence > self._marks_sequence
            # A resolved asset is still held when an order in it was under way.
            if all_of_them or moved or marks.resolution(asset) is not None:
                self.to_reevaluate.update(dict.fromkeys(sorted(holders)))
        if self.has_settled:
            for asset in marks.moved(self._marks_sequence, marks.sequence):
                resolution = marks.resolution(asset)
                if resolution is not None and resolution.corrects:
                    self.to_reevaluate.update(dict.fromkeys(sorted(self._paid(asset))))
        self._day, self._orders, self._marks_sequence = day, orders, marks.sequence
