"""Configuration files: JSON lines of influencers, subscribers, subscriptions, accounts and guardrails, checked.

A file is imported whole or not at all. Every bad line is reported with its number, what was wrong and what is
allowed. An export writes the same lines.
"""

import json
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from pydantic import ValidationError

from domain.configuration import Configuration
from domain.events import (
    AccountConfigured,
    Event,
    GuardrailConfigured,
    InfluencerConfigured,
    OnClose,
    PortfolioScope,
    SubscriberConfigured,
    SubscriptionConfigured,
)
from domain.guardrails import GLOBAL
from domain.micros import decimal_text
from domain.sizing import SIZING_MODES
from handlers.services.config_lines import LINE


class BadLine(NamedTuple):
    """One thing wrong with one line (numbered from 1)."""

    number: int
    what: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.what}"


_HINTS = {
    "union_tag_invalid": "use one of influencer, subscriber, subscription, account, guardrail",
    "union_tag_not_found": 'every line needs "kind": influencer, subscriber, subscription, account or guardrail',
    "extra_forbidden": "is not a field of this kind of line",
}


_REPORTED_EVERY = 5_000
_decode = json.JSONDecoder(parse_float=Decimal).decode


def _object(text: str) -> Any:
    """The object of a line. Raises json.JSONDecodeError, ArithmeticError or RecursionError."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return _decode(text)  # at three times the cost: it may read it, and names the column otherwise


def parse(
    lines: Iterable[str], configuration: Configuration, actor: str, progress: Callable[[int], None] = lambda done: None
) -> tuple[list[Event], list[BadLine]]:
    """The events of a file in its order, and everything that is wrong with it, against what is configured already.

    Blank lines and lines that begin with # are skipped. `progress` gets the number of lines that are checked.
    """
    events: list[Event] = []
    bad: list[BadLine] = []
    first_seen: dict[tuple[str, str], int] = {}
    numbered: list[tuple[int, Event]] = []
    for number, text in enumerate(lines, 1):
        if number % _REPORTED_EVERY == 0:
            progress(number)
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        try:
            line = LINE.validate_python(_object(text))
            event = line.event(actor)
        except json.JSONDecodeError as error:
            bad.append(BadLine(number, f"is not JSON: {error.msg} at column {error.colno}"))
            continue
        except (ArithmeticError, RecursionError):
            bad.append(BadLine(number, "is not JSON that can be read: a number is too large or the nesting too deep"))
            continue
        except ValidationError as error:
            bad += [BadLine(number, _explained(item)) for item in error.errors()]
            continue
        except ValueError as error:
            bad.append(BadLine(number, str(error)))
            continue
        key = key_of(event)
        if key in first_seen:
            bad.append(BadLine(number, f"{key[0]} {key[1]!r} was set on line {first_seen[key]} already"))
            continue
        first_seen[key] = number
        numbered.append((number, event))
        events.append(event)
    bad += _references(numbered, configuration)
    return events, sorted(bad)


def _explained(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part not in _KINDS)
    message = error["msg"].removeprefix("Value error, ")
    hint = _HINTS.get(error["type"])
    return f"{where + ': ' if where else ''}{message}{f' ({hint})' if hint else ''}"


_KINDS = ("influencer", "subscriber", "subscription", "account", "guardrail")


def _references(numbered: list[tuple[int, Event]], configuration: Configuration) -> list[BadLine]:
    """Ids that are used must exist, here or already; an address belongs to one influencer, and a venue account and an
    agent to one subscriber: two that share an agent would use the same nonces."""
    bad = []
    influencers = set(configuration.influencers) | {e.id for _, e in numbered if isinstance(e, InfluencerConfigured)}
    subscribers = set(configuration.subscribers) | {e.id for _, e in numbered if isinstance(e, SubscriberConfigured)}
    renewed = {e.id for _, e in numbered if isinstance(e, InfluencerConfigured)}
    owner = {
        (known.venue, address): known.id
        for known in configuration.influencers.values()
        if known.id not in renewed
        for address in known.addresses
    }
    replaced = {e.id for _, e in numbered if isinstance(e, AccountConfigured)}
    of_account = {
        (known.venue, what, name): known.subscriber_id
        for known in configuration.accounts.values()
        if known.id not in replaced
        for what, name in (("agent", known.account.agent), ("account", known.account.trading_address))
    }
    for number, event in numbered:
        match event:
            case SubscriptionConfigured():
                if event.subscriber_id not in subscribers:
                    bad.append(BadLine(number, f"subscriber_id {event.subscriber_id!r} is not configured"))
                if event.influencer_id not in influencers:
                    bad.append(BadLine(number, f"influencer_id {event.influencer_id!r} is not configured"))
            case InfluencerConfigured():
                for address in event.addresses:
                    taken = owner.setdefault((event.venue, address), event.id)
                    if taken != event.id:
                        bad.append(BadLine(number, f"address {address} belongs to influencer {taken!r} already"))
            case AccountConfigured():
                if event.subscriber_id not in subscribers:
                    bad.append(BadLine(number, f"subscriber_id {event.subscriber_id!r} is not configured"))
                for what, name in (("agent", event.account.agent), ("account", event.account.trading_address)):
                    taken = of_account.setdefault((event.venue, what, name), event.subscriber_id)
                    if taken != event.subscriber_id:
                        bad.append(BadLine(number, f"{what} {name} belongs to subscriber {taken!r} already"))
            case GuardrailConfigured() if event.scope != GLOBAL:
                kind, _, name = event.scope.partition(":")
                if name not in (influencers if kind == "influencer" else subscribers):
                    bad.append(BadLine(number, f"scope {event.scope!r} is not configured"))
    return bad


def key_of(event: Event) -> tuple[str, str]:
    """(kind, id) of a configuration event: what a later line of the same key replaces."""
    match event:
        case InfluencerConfigured():
            return "influencer", event.id
        case SubscriberConfigured():
            return "subscriber", event.id
        case SubscriptionConfigured():
            return "subscription", event.id
        case AccountConfigured():
            return "account", event.id
        case GuardrailConfigured():
            return "guardrail", event.scope
    raise TypeError(f"{type(event).__name__} is not configuration")


def line_of(event: Event) -> dict[str, Any]:
    """The line that would configure this event again."""
    match event:
        case InfluencerConfigured():
            return {
                "kind": "influencer",
                "id": event.id,
                "venue": event.venue.value,
                "addresses": list(event.addresses),
                "label": event.label,
                **_status(event),
            }
        case SubscriberConfigured():
            line = {
                "kind": "subscriber",
                "id": event.id,
                "mode": event.mode.value,
                "deposit_usd": decimal_text(event.deposit_micros),
                **_status(event),
            }
            return line if event.scope is PortfolioScope.SUBSCRIBER else {**line, "portfolio": event.scope.value}
        case SubscriptionConfigured():
            parameter = SIZING_MODES[event.sizing.mode].parameter
            amount = decimal_text(getattr(event.sizing, parameter.field))
            filters = {
                "allowed_assets": list(event.filters.allowed_assets),
                "blocked_assets": list(event.filters.blocked_assets),
                "sides": [side.value for side in event.filters.sides],
                "allowed_markets": list(event.filters.allowed_markets),
                "blocked_markets": list(event.filters.blocked_markets),
                "days": list(event.filters.days),
                "hours": [
                    f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"
                    for start, end in event.filters.hours
                ],
            }
            return {
                "kind": "subscription",
                "id": event.id,
                "subscriber_id": event.subscriber_id,
                "influencer_id": event.influencer_id,
                "sizing": {"mode": event.sizing.mode, parameter.name: amount},
                "limits": event.limits,
                "filters": {name: value for name, value in filters.items() if value},
                **_status(event),
            }
        case AccountConfigured():
            line = {
                "kind": "account",
                "subscriber_id": event.subscriber_id,
                "venue": event.venue.value,
                "address": event.account.address,
                "agent": event.account.agent,
                "status": event.status.value,
            }
            return line if event.account.vault is None else {**line, "vault": event.account.vault}
        case GuardrailConfigured():
            return {"kind": "guardrail", "scope": event.scope, "values": event.values}
    raise TypeError(f"{type(event).__name__} is not configuration")


def _status(event: InfluencerConfigured | SubscriberConfigured | SubscriptionConfigured) -> dict[str, str]:
    status = {"status": event.status.value}
    return status if event.on_close is OnClose.FOLLOW_EXITS else {**status, "on_close": event.on_close.value}
