"""The read models that the engine builds: one module of this package each, under the read model's name."""

from importlib import import_module

from projections.engine.projection import Projection

NAMES = (
    "trade_event",
    "activity_event",
    "shadow_entry",
    "influencer_position",
    "signal_group",
    "market_price_snapshot",
    "market",
    "copy_attempt",
    "position",
    "owed_exit",
    "ledger_entry",
    "portfolio_snapshot",
    "influencer_metrics",
    "trader_activity",
    "influencer",
    "subscriber",
    "subscription",
    "guardrail",
    "audit_log",
    "system_metrics",
    "system_checkpoint",
    "event_count",
)
"""In the order in which commands list them."""


def projection_of(name: str) -> Projection:
    """The read model that a module of this package defines. Raises TypeError unless it defines one of that name."""
    module = import_module(f"{__name__}.{name}")
    defined = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    found = [each() for each in defined if issubclass(each, Projection)]
    if [each.name for each in found] != [name]:
        names = ", ".join(each.name for each in found) or "none"
        raise TypeError(f"{module.__name__}: expected one subclass of Projection with the name {name!r}, found {names}")
    return found[0]


PROJECTIONS: tuple[Projection, ...] = tuple(map(projection_of, NAMES))
