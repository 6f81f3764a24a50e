"""What a portfolio holds of one asset and has ordered of it, in all and by subscription (docs/design.md, portfolio)."""

from msgspec import Struct
from msgspec.structs import replace

from domain.position import Position


class Pending(Struct, frozen=True):
    """What is left of a decided order whose result is not known yet: signed shares, and the part of them that opens.

    `reserved_micros` is the cash that the whole opening can cost at its limit with its fee, `reserved_for_micros` the
    shares that this is for.
    """

    subscription_id: str
    delta_micros: int
    opens_micros: int
    reserved_micros: int = 0
    reserved_for_micros: int = 0

    @property
    def reserves(self) -> int:
        """The cash (micros) that the rest of the opening can cost."""
        if not self.reserved_for_micros:
            return 0
        return -(-self.reserved_micros * self.opens_micros // self.reserved_for_micros)

    def filled(self, share_delta: int) -> "Pending":
        """The rest of the order after `share_delta` signed shares filled; fills reduce first."""
        left = self.delta_micros - share_delta
        opens = min(self.opens_micros, abs(left))
        return Pending(self.subscription_id, left, opens, self.reserved_micros, self.reserved_for_micros)


class Part(Struct, frozen=True):
    """One subscription's part: signed shares held, and of its `orders` pending orders the signed shares and those that
    open.

    `config_sequence` is the one of CONFIG that the newest decision had seen which opened it or kept what it owed: it
    came after every older order to close.
    """

    influencer_id: str
    share_micros: int = 0
    ordered_micros: int = 0
    opens_micros: int = 0
    orders: int = 0
    config_sequence: int = 0


class Settled(Struct, frozen=True):
    """What a resolved market paid a subscription for: signed shares, at which price, by which resolution and when.

    `realized_micros` is the profit of the subscriber's position in the asset after it; of several subscriptions the
    newest has all of it.
    """

    influencer_id: str
    market: str
    share_micros: int
    price_micros: int
    resolution_id: str
    settled_at: int
    realized_micros: int = 0


class Holding(Struct):
    """One asset: the position over all subscriptions, each subscription's part, and the pending orders by attempt.

    The position's mark, the mid of the newest decision on the asset, is the price of pending orders too. Held means
    that some subscription has shares: two of them may hold a position against each other that nets to nothing.
    """

    position: Position
    parts: dict[str, Part] = {}
    orders: dict[str, Pending] = {}
    opens_micros: int = 0

    @property
    def is_open(self) -> bool:
        """True while something is held."""
        return bool(self.position.share_micros) or any(part.share_micros for part in self.parts.values())

    def copy(self) -> "Holding":
        """A holding of its own with the same state."""
        return Holding(self.position, dict(self.parts), dict(self.orders), self.opens_micros)

    def ordered(self, attempt_id: str, order: Pending, influencer_id: str, config_sequence: int) -> None:
        """Add an order that was decided as of this sequence of CONFIG."""
        part = self.parts.get(order.subscription_id) or Part(influencer_id)
        self.orders[attempt_id] = order
        self.opens_micros += order.opens_micros
        self.parts[order.subscription_id] = Part(
            influencer_id,
            part.share_micros,
            part.ordered_micros + order.delta_micros,
            part.opens_micros + order.opens_micros,
            part.orders + 1,
            config_sequence if order.opens_micros else part.config_sequence,
        )

    def kept(self, subscription_id: str, config_sequence: int) -> None:
        """What a subscription owed is kept by a decision as of this sequence of CONFIG."""
        part = self.parts.get(subscription_id)
        if part is not None:
            self.parts[subscription_id] = replace(part, config_sequence=config_sequence)

    def filled(self, attempt_id: str, share_delta: int) -> None:
        """Move signed shares of an order into its subscription's part."""
        before = self.orders[attempt_id]
        after = self.orders[attempt_id] = before.filled(share_delta)
        opened = before.opens_micros - after.opens_micros
        self.opens_micros -= opened
        part = self.parts[before.subscription_id]
        self.parts[before.subscription_id] = Part(
            part.influencer_id,
            part.share_micros + share_delta,
            part.ordered_micros - share_delta,
            part.opens_micros - opened,
            part.orders,
            part.config_sequence,
        )

    def completed(self, attempt_id: str) -> None:
        """Drop what is left of an order."""
        order = self.orders.pop(attempt_id)
        self.opens_micros -= order.opens_micros
        part = self.parts[order.subscription_id]
        self._set(
            order.subscription_id,
            Part(
                part.influencer_id,
                part.share_micros,
                part.ordered_micros - order.delta_micros,
                part.opens_micros - order.opens_micros,
                part.orders - 1,
                part.config_sequence,
            ),
        )

    def settled(self, subscription_id: str, share_delta: int) -> None:
        """Take signed shares of a subscription that a resolved market paid out."""
        part = self.parts[subscription_id]
        self._set(
            subscription_id,
            Part(
                part.influencer_id,
                part.share_micros + share_delta,
                part.ordered_micros,
                part.opens_micros,
                part.orders,
                part.config_sequence,
            ),
        )

    def _set(self, subscription_id: str, part: Part) -> None:
        if part.share_micros or part.orders:
            self.parts[subscription_id] = part
        else:
            del self.parts[subscription_id]
