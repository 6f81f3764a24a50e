"""An influencer's whole position in an asset: that of all its addresses together (docs/design.md, signals).

The positions of each address are folded by themselves. A signal or gap of one address states what the others hold, so
that groups, and with them copies, follow the influencer and not one of its addresses.
"""

from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from domain.events import Event, GapDetected, SignalRecorded
from domain.influencer_account import Account


def other_addresses(address: str, seen: Collection[str], configured: Collection[str]) -> tuple[str, ...]:
    """The other addresses of an influencer whose positions count: of those that events named (`seen`), the configured
    ones. While a configured address trades through another one, such as a proxy wallet, all that were seen count."""
    counted = configured if configured and seen and set(configured) <= set(seen) else seen
    return tuple(other for other in counted if other != address)


def held_by(accounts: Iterable[Account], asset: str) -> int:
    """The signed shares (micros) of an asset that these accounts hold together."""
    holdings = (account.holdings.get(asset) for account in accounts)
    return sum(holding.share_micros for holding in holdings if holding is not None)


def whole_equity(accounts: Iterable[Account]) -> int | None:
    """The equity (micros) of these accounts together; None when one of them never stated its own."""
    equities = [account.equity_micros for account in accounts]
    return None if None in equities else sum(equity for equity in equities if equity is not None)


def with_others(events: Iterable[Event], others: Mapping[str, Account]) -> tuple[Event, ...]:
    """The events of one address, each signal and gap with what the other addresses hold of its asset."""
    return tuple(
        replace(event, others_micros=held_by(others.values(), event.asset))
        if isinstance(event, SignalRecorded | GapDetected)
        else event
        for event in events
    )
