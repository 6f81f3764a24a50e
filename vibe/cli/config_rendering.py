"""How `vibe config show` shows the configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
from rich.console import Console

from domain.configuration import Configuration
from domain.events import InfluencerConfigured, Sizing, SubscriberConfigured, SubscriptionConfigured
from domain.guardrails import GLOBAL, GUARDRAILS, evaluate
from domain.micros import MICRO, decimal_text
from handlers.services.config_file import line_of
from vibe.cli.output import show, table


def show_configuration(console: Console, configuration: Configuration, sequence: int, limit: int) -> None:
    """Influencers by venue, subscribers, who copies whom (at most `limit` lines each), and the guardrails."""
    if not configuration.influencers and not configuration.subscribers:
        _line(console, "nothing is configured yet. To begin: vibe config import FILE (its --help shows the lines)")
    else:
        _show_influencers(console, configuration, limit)
        _show_subscribers(console, configuration)
        _show_subscriptions(console, configuration, limit)
    _show_guardrails(console, configuration)
    _line(console, f"as of CONFIG sequence {sequence:,}")


def _show_influencers(console: Console, configuration: Configuration, limit: int) -> None:
    influencers = list(configuration.influencers.values())
    for venue in dict.fromkeys(known.venue for known in influencers):
        made = table("influencer", "addresses", "copied by", "status")
        for known in influencers[:limit]:
            if known.venue is venue:
                copied = sum(1 for _ in configuration.subscriptions_of(known.id))
                made.add_row(known.id, "\n".join(known.addresses), f"{copied:,}", status_text(known))
        if made.rows:
            _line(console, f"followed on {venue.value}", style="bold")
            show(made, console)
            console.print()
    _hidden(console, len(influencers) - limit, "influencers")


def _show_subscribers(console: Console, configuration: Configuration) -> None:
    kinds = Counter((known.mode.value, status_text(known)) for known in configuration.subscribers.values())
    for (mode, status), count in sorted(kinds.items()):
        _line(console, f"{count:,} subscriber{'' if count == 1 else 's'}: {mode}, {status}")


def _show_subscriptions(console: Console, configuration: Configuration, limit: int) -> None:
    _line(console, f"{len(configuration.subscriptions):,} subscriptions: who copies whom", style="bold")
    made = table("subscriber", "influencer", "sizing", "limits and filters", "status", text=("limits and filters",))
    subscriptions = sorted(configuration.subscriptions.values(), key=lambda one: (one.subscriber_id, one.influencer_id))
    for one in subscriptions[:limit]:
        made.add_row(one.subscriber_id, one.influencer_id, sizing_text(one.sizing), _own_rules(one), status_text(one))
    show(made, console)
    _hidden(console, len(subscriptions) - limit, "subscriptions")
    console.print()


def sizing_text(sizing: Sizing) -> str:
    """The sizing of a subscription in a few words."""
    match sizing.mode:
        case "copy_percent":
            return f"copy {decimal_text(sizing.percent_micros)} %"
        case "fixed_notional":
            return f"{decimal_text(sizing.notional_micros)} USD"
        case "percent_of_equity":
            return f"{decimal_text(sizing.percent_micros)} % of equity"
    parameter = f" {decimal_text(sizing.percent_micros)} %" if sizing.percent_micros else ""
    return f"{sizing.mode}{parameter}"


def status_text(one: InfluencerConfigured | SubscriberConfigured | SubscriptionConfigured) -> str:
    """active, paused, closed, or abandoned: closed, and exits are not copied either."""
    return "abandoned" if one.is_abandoned else one.status.value


def _own_rules(one: SubscriptionConfigured) -> str:
    limits = [f"{name} {guardrail_text(name, value)}" for name, value in one.limits.items()]
    filters = [f"{name} {', '.join(map(str, values))}" for name, values in line_of(one)["filters"].items()]
    return "; ".join((*limits, *filters))


def _show_guardrails(console: Console, configuration: Configuration) -> None:
    made = table("guardrail", "value", "from")
    scopes: dict[str, Mapping[str, int]] = {scope: one.values for scope, one in configuration.guardrails.items()}
    ours = scopes.pop(GLOBAL, {})
    for name, value in msgspec.structs.asdict(evaluate(ours)).items():
        made.add_row(name, guardrail_text(name, value), "global" if name in ours else "default")
        for scope, values in scopes.items():
            if name in values:
                made.add_row("", guardrail_text(name, values[name]), scope)
    show(made, console)


def guardrail_text(name: str, value: int) -> str:
    """The value of a guardrail with its unit, which its name and its declaration in domain/guardrails.py state."""
    unit = GUARDRAILS[name].text
    _, _, without_limit = unit.partition("; 0 = ")
    if value == 0 and without_limit:
        return without_limit
    if name.endswith("_bps"):
        return f"{value:,} bps"
    if name.endswith("_ms"):
        return f"{value / 60_000:g} min" if value >= 60_000 else f"{value:,} ms"
    if "fraction of" in unit:
        return f"{value / 10_000:g} %"
    if "in dollars" in unit:
        return f"${decimal_text(value)}"
    return f"x {value / MICRO:g}" if name.endswith("_micros") else f"{value:,}"


def _hidden(console: Console, count: int, what: str) -> None:
    if count > 0:
        _line(console, f"... and {count:,} more {what}; --limit shows more, vibe config export prints all")


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, markup=False, highlight=False)
