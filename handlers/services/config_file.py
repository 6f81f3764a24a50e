"""Configuration files: JSON lines of influencers, subscribers, subscriptions and guardrails, checked and explained.

A file is taken whole or not at all. Every bad line is reported with its number, what was wrong and what is
allowed. The same lines come out of an export.
"""

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from domain.configuration import Configuration
from domain.events import (
    Event,
    Filters,
    GuardrailConfigured,
    InfluencerConfigured,
    Mode,
    PortfolioScope,
    Sizing,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
    TradeSide,
    Venue,
)
from domain.guardrails import GLOBAL, GUARDRAILS
from domain.micros import MICRO, decimal_text, dollars
from domain.sizing import SIZING_MODES

MAX_DOLLARS = 1_000_000_000


class BadLine(NamedTuple):
    """One thing wrong with one line (numbered from 1)."""

    number: int
    what: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.what}"


def _money(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError('write it as a decimal string such as "10000" or "10000.50"')
    try:
        amount = dollars(value)
    except ArithmeticError as error:
        raise ValueError(f"{value!r} is not a decimal number") from error
    if not 0 <= amount <= MAX_DOLLARS * 1_000_000:
        raise ValueError(f"must lie between 0 and {MAX_DOLLARS:,}")
    return amount


Money = Annotated[int, BeforeValidator(_money)]
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:@#/-]*$")]
_ADDRESS = re.compile(r"^0x[0-9a-f]{40}$")


def _address(value: object) -> str:
    text = str(value).strip().lower()
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"{value!r} is not an address; expected 0x and 40 hexadecimal digits")
    return text


Address = Annotated[str, BeforeValidator(_address)]


def _guardrails(values: object) -> dict[str, int]:
    if not isinstance(values, dict):
        raise ValueError('expected an object such as {"spread_bps": 20}')
    for key, value in values.items():
        if key not in GUARDRAILS:
            raise ValueError(f"guardrail {key!r} is unknown; use one of {', '.join(GUARDRAILS)}")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise ValueError(f"guardrail {key} must be a whole number from 0; got {value!r}")
    return values


Guardrails = Annotated[dict[str, int], BeforeValidator(_guardrails)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InfluencerLine(_Line):
    kind: Literal["influencer"]
    id: Name
    venue: Venue
    addresses: Annotated[list[Address], Field(min_length=1, max_length=100)]
    label: Annotated[str, Field(max_length=200)] = ""
    status: Status = Status.ACTIVE

    def event(self, actor: str) -> InfluencerConfigured:
        return InfluencerConfigured(
            id=self.id,
            venue=self.venue,
            addresses=tuple(dict.fromkeys(self.addresses)),
            label=self.label or self.id,
            status=self.status,
            actor=actor,
        )


class SubscriberLine(_Line):
    kind: Literal["subscriber"]
    id: Name
    mode: Mode = Mode.PAPER
    deposit_usd: Money
    status: Status = Status.ACTIVE
    portfolio: Literal["SUBSCRIBER", "EXEC_USER", "EXEC_GLOBAL"] = "SUBSCRIBER"

    def event(self, actor: str) -> SubscriberConfigured:
        return SubscriberConfigured(
            id=self.id,
            mode=self.mode,
            deposit_micros=self.deposit_usd,
            status=self.status,
            actor=actor,
            scope=PortfolioScope(self.portfolio),
        )


class SizingLine(_Line):
    mode: str
    percent: Money | None = None
    notional_usd: Money | None = None

    def sizing(self) -> Sizing:
        if self.mode not in SIZING_MODES:
            raise ValueError(f"sizing.mode {self.mode!r} is unknown; use one of {', '.join(SIZING_MODES)}")
        parameter = SIZING_MODES[self.mode].parameter
        given = {name: value for name in ("percent", "notional_usd") if (value := getattr(self, name)) is not None}
        if given.keys() != {parameter.name}:
            raise ValueError(
                f"sizing.mode {self.mode} needs exactly {parameter.name!r}; got {sorted(given) or 'nothing'}"
            )
        value = given[parameter.name]
        if not 0 < value <= parameter.most_micros:
            raise ValueError(f"sizing.{parameter.name} must be above 0 and at most {parameter.most_micros // MICRO}")
        return Sizing(self.mode, **{parameter.field: value})


_HOURS = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")


def _hours(value: object) -> tuple[int, int]:
    match = _HOURS.fullmatch(str(value))
    if match is None:
        raise ValueError(f'{value!r} is not a range of UTC hours such as "08:00-17:30"')
    first_hour, first_minute, last_hour, last_minute = map(int, match.groups())
    start, end = 60 * first_hour + first_minute, 60 * last_hour + last_minute
    if start >= 1440 or end > 1440 or start == end:
        raise ValueError(f"{value!r} must lie within 00:00-24:00 and not be empty")
    return start, end


Hours = Annotated[tuple[int, int], BeforeValidator(_hours)]


class FilterLine(_Line):
    allowed_assets: list[str] = []
    blocked_assets: list[str] = []
    sides: list[TradeSide] = []
    allowed_markets: list[str] = []
    blocked_markets: list[str] = []
    days: list[Annotated[int, Field(ge=1, le=7, description="ISO weekday, 1 = Monday")]] = []
    hours: list[Hours] = []

    def filters(self) -> Filters:
        return Filters(
            tuple(self.allowed_assets),
            tuple(self.blocked_assets),
            tuple(self.sides),
            tuple(self.allowed_markets),
            tuple(self.blocked_markets),
            tuple(sorted(set(self.days))),
            tuple(self.hours),
        )


class SubscriptionLine(_Line):
    kind: Literal["subscription"]
    id: Name
    subscriber_id: Name
    influencer_id: Name
    sizing: SizingLine
    limits: Guardrails = {}
    filters: FilterLine = FilterLine()
    status: Status = Status.ACTIVE

    def event(self, actor: str) -> SubscriptionConfigured:
        return SubscriptionConfigured(
            id=self.id,
            subscriber_id=self.subscriber_id,
            influencer_id=self.influencer_id,
            sizing=self.sizing.sizing(),
            limits=dict(sorted(self.limits.items())),
            filters=self.filters.filters(),
            status=self.status,
            actor=actor,
        )


class GuardrailLine(_Line):
    kind: Literal["guardrail"]
    scope: Annotated[str, Field(pattern=r"^(global|influencer:.+|subscriber:.+)$")]
    values: Guardrails

    def event(self, actor: str) -> GuardrailConfigured:
        return GuardrailConfigured(scope=self.scope, values=dict(sorted(self.values.items())), actor=actor)


Line = InfluencerLine | SubscriberLine | SubscriptionLine | GuardrailLine
_ADAPTER: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])
_HINTS = {
    "union_tag_invalid": "use one of influencer, subscriber, subscription, guardrail",
    "union_tag_not_found": 'say what it is: "kind": influencer, subscriber, subscription or guardrail',
    "extra_forbidden": "is not a field of this kind of line",
}


def parse(lines: Iterable[str], directory: Configuration, actor: str) -> tuple[list[Event], list[BadLine]]:
    """The events of a file in its order, and everything that is wrong with it, against what is configured already.

    Blank lines and lines that begin with # are passed over.
    """
    events: list[Event] = []
    bad: list[BadLine] = []
    first_seen: dict[tuple[str, str], int] = {}
    numbered: list[tuple[int, Event]] = []
    for number, text in enumerate(lines, 1):
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        try:
            line = _ADAPTER.validate_python(json.loads(text, parse_float=Decimal))
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
    bad += _references(numbered, directory)
    return events, sorted(bad)


def _explained(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part not in _KINDS)
    message = error["msg"].removeprefix("Value error, ")
    hint = _HINTS.get(error["type"])
    return f"{where + ': ' if where else ''}{message}{f' ({hint})' if hint else ''}"


_KINDS = ("influencer", "subscriber", "subscription", "guardrail")


def _references(numbered: list[tuple[int, Event]], directory: Configuration) -> list[BadLine]:
    """Ids that are used must exist, here or already; an address belongs to one influencer."""
    bad = []
    influencers = set(directory.influencers) | {e.id for _, e in numbered if isinstance(e, InfluencerConfigured)}
    subscribers = set(directory.subscribers) | {e.id for _, e in numbered if isinstance(e, SubscriberConfigured)}
    renewed = {e.id for _, e in numbered if isinstance(e, InfluencerConfigured)}
    owner = {
        (known.venue, address): known.id
        for known in directory.influencers.values()
        if known.id not in renewed
        for address in known.addresses
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
                "status": event.status.value,
            }
        case SubscriberConfigured():
            line = {
                "kind": "subscriber",
                "id": event.id,
                "mode": event.mode.value,
                "deposit_usd": decimal_text(event.deposit_micros),
                "status": event.status.value,
            }
            return line if event.scope is PortfolioScope.SUBSCRIBER else {**line, "portfolio": event.scope.value}
        case SubscriptionConfigured():
            sizing = {"mode": event.sizing.mode}
            if event.sizing.percent_micros:
                sizing["percent"] = decimal_text(event.sizing.percent_micros)
            if event.sizing.notional_micros:
                sizing["notional_usd"] = decimal_text(event.sizing.notional_micros)
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
                "sizing": sizing,
                "limits": event.limits,
                "filters": {name: value for name, value in filters.items() if value},
                "status": event.status.value,
            }
        case GuardrailConfigured():
            return {"kind": "guardrail", "scope": event.scope, "values": event.values}
    raise TypeError(f"{type(event).__name__} is not configuration")
