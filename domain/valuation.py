"""What a portfolio is worth and what is at risk, as running sums (docs/design.md, portfolio).

A fold marks the assets that it changed, and a mark that moves concerns the portfolios that hold its asset: `at` brings
only those up to date, so a decision costs the same however much is held. Every sum equals the full sum over the
holdings at the same marks, to the micro.
"""

from collections.abc import Iterable, Mapping
from itertools import islice, takewhile

from msgspec import Struct

from domain.holding import Holding, Part
from domain.mark_prices import Asset, Mark, MarkPrices
from domain.micros import times
from domain.position import Position


class Exposure(Struct, frozen=True, gc=False):
    """|shares x price| in micros, pending orders that open included: in total, in one market (all its assets), and
    copied from one influencer."""

    total_micros: int
    market_micros: int
    influencer_micros: int


class Line(Struct, frozen=True, gc=False):
    """What one asset counts for: the price of what is held and of what is ordered, the signed worth of what is held,
    what is at risk, and its market."""

    price_micros: int
    mid_micros: int
    worth_micros: int
    at_risk_micros: int
    market: str


_NO_LINE = Line(0, 0, 0, 0, "")


class Copies:
    """What one subscription has at risk, by asset and in all, as of a number of repricings."""

    __slots__ = ("at_risk", "influencer_id", "repricings", "total_micros")

    def __init__(self, influencer_id: str, repricings: int) -> None:
        self.influencer_id = influencer_id
        self.repricings = repricings
        self.at_risk: dict[Asset, int] = {}
        self.total_micros = 0


class Valuation:
    """The running sums over the holdings of one portfolio, as of the last call of `at`.

    `worth_micros` is the signed worth of everything held, `total_micros` what is at risk in all. The holdings are the
    portfolio's own: it reports what it changes in them (`touch`).
    """

    def __init__(self, holdings: Mapping[Asset, Holding]) -> None:
        self.worth_micros = 0
        self.total_micros = 0
        self._holdings = holdings
        self._marks: MarkPrices | None = None
        self._sequence = 0
        self._touched = {asset: set(holding.parts) for asset, holding in holdings.items()}
        self._lines: dict[Asset, Line] = {}
        self._markets: dict[tuple[str, str], int] = {}
        self._copies: dict[str, Copies] = {}
        self._subscriptions: dict[str, set[str]] = {}
        """By influencer."""
        self._repriced: dict[Asset, int] = {}
        """The number of each asset's newest repricing, in their order: a subscription catches up when it is asked."""
        self._repricings = 0

    def touch(self, asset: Asset, subscription_id: str) -> None:
        """An event changed an asset's mid, or what a subscription holds or has ordered of it."""
        touched = self._touched.get(asset)
        if touched is None:
            self._touched[asset] = {subscription_id}
        else:
            touched.add(subscription_id)

    def at(self, marks: MarkPrices, sequence: int | None = None) -> "Valuation":
        """These sums at the marks as of a sequence of GROUPS (None = the newest)."""
        if sequence is None:
            sequence = marks.sequence
        if sequence != self._sequence or marks is not self._marks:
            for asset in self._moved(marks, sequence):
                self._touched.setdefault(asset, set())
            self._marks, self._sequence = marks, sequence
        if self._touched:
            touched, self._touched = self._touched, {}
            for asset, subscriptions in touched.items():
                self._update(asset, marks.mark(asset, sequence))
                for subscription_id in subscriptions:
                    self._update_copies(subscription_id, asset)
        return self

    def exposure(self, asset: Asset, market: str, influencer_id: str) -> Exposure:
        """What is at risk in all, in a market (empty: in the asset alone), and copied from an influencer."""
        line = self._lines.get(asset, _NO_LINE)
        in_market = self._markets.get((asset[0], market), 0) if market else 0
        if not market or line.market != market:
            in_market += line.at_risk_micros
        return Exposure(self.total_micros, in_market, self._copied_from(influencer_id))

    # --- assets ---------------------------------------------------------------------------------------------------

    def _moved(self, marks: MarkPrices, sequence: int) -> list[Asset]:
        """The held assets whose marks may have moved: at most as many steps as there are of either."""
        held = self._holdings
        if marks is self._marks and sequence > self._sequence:
            moved = list(islice(marks.moved(self._sequence, sequence), len(held) + 1))
            if len(moved) <= len(held):
                return [asset for asset in moved if asset in held]
        return list(held)

    def _update(self, asset: Asset, mark: Mark | None) -> None:
        before = self._lines.get(asset, _NO_LINE)
        holding = self._holdings.get(asset)
        if holding is not None:
            after = self._lines[asset] = line_of(holding, mark)
            if after.price_micros != before.price_micros or after.mid_micros != before.mid_micros:
                self._repricings += 1
                self._repriced.pop(asset, None)
                self._repriced[asset] = self._repricings
        else:
            after = _NO_LINE
            self._lines.pop(asset, None)
            self._repriced.pop(asset, None)
        self.worth_micros += after.worth_micros - before.worth_micros
        self.total_micros += after.at_risk_micros - before.at_risk_micros
        if before.market:
            self._add_to_market((asset[0], before.market), -before.at_risk_micros)
        if after.market:
            self._add_to_market((asset[0], after.market), after.at_risk_micros)

    def _add_to_market(self, market: tuple[str, str], micros: int) -> None:
        total = self._markets.get(market, 0) + micros
        if total:
            self._markets[market] = total
        else:
            self._markets.pop(market, None)

    # --- subscriptions --------------------------------------------------------------------------------------------

    def _update_copies(self, subscription_id: str, asset: Asset) -> None:
        holding = self._holdings.get(asset)
        part = holding.parts.get(subscription_id) if holding is not None else None
        copies = self._copies.get(subscription_id)
        if part is None:
            if copies is not None:
                copies.total_micros -= copies.at_risk.pop(asset, 0)
                if not copies.at_risk:
                    self._forget(subscription_id, copies)
            return
        if copies is None:
            copies = self._copies[subscription_id] = Copies(part.influencer_id, self._repricings)
            self._subscriptions.setdefault(part.influencer_id, set()).add(subscription_id)
        at_risk = _at_risk(part, self._lines[asset])
        copies.total_micros += at_risk - copies.at_risk.get(asset, 0)
        copies.at_risk[asset] = at_risk

    def _forget(self, subscription_id: str, copies: Copies) -> None:
        del self._copies[subscription_id]
        of_influencer = self._subscriptions[copies.influencer_id]
        of_influencer.discard(subscription_id)
        if not of_influencer:
            del self._subscriptions[copies.influencer_id]

    def _copied_from(self, influencer_id: str) -> int:
        total = 0
        for subscription_id in self._subscriptions.get(influencer_id, ()):
            copies = self._copies[subscription_id]
            if copies.repricings != self._repricings:
                self._catch_up(subscription_id, copies)
            total += copies.total_micros
        return total

    def _catch_up(self, subscription_id: str, copies: Copies) -> None:
        """Value what was repriced since; at most as many steps as there are repricings or assets."""
        at_risk = copies.at_risk
        assets: Iterable[Asset] = list(at_risk)
        if self._repricings - copies.repricings < len(at_risk):
            newest_first = reversed(self._repriced.items())
            assets = [asset for asset, _ in takewhile(lambda one: one[1] > copies.repricings, newest_first)]
        for asset in assets:
            if asset in at_risk:
                part = self._holdings[asset].parts[subscription_id]
                after = _at_risk(part, self._lines[asset])
                copies.total_micros += after - at_risk[asset]
                at_risk[asset] = after
        copies.repricings = self._repricings


def line_of(holding: Holding, mark: Mark | None) -> Line:
    """What a holding counts for at a mark: the price is the newer of the mark and the mid of the newest decision."""
    position = holding.position
    price = price_of(position, mark)
    worth = times(price, position.share_micros)
    ordered = times(position.mark_micros, holding.opens_micros)
    return Line(price, position.mark_micros, worth, abs(worth) + ordered, position.market)


def price_of(position: Position, mark: Mark | None) -> int:
    """The newest price of a position, in micros: the log's mark, or the mid of a later decision."""
    return mark.price_micros if mark is not None and mark.at >= position.marked_at else position.mark_micros


def _at_risk(part: Part, line: Line) -> int:
    return abs(times(line.price_micros, part.share_micros)) + times(line.mid_micros, part.opens_micros)
