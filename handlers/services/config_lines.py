"""The lines of a configuration file: what each kind may hold, and the CONFIG event that it becomes."""

import re
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from domain.events import (
    AccountConfigured,
    Filters,
    GuardrailConfigured,
    InfluencerConfigured,
    LiveAccount,
    Mode,
    OnClose,
    PortfolioScope,
    Sizing,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
    TradeSide,
    Venue,
)
from domain.guardrails import GUARDRAILS, WORDS
from domain.micros import MICRO, dollars
from domain.sizing import SIZING_MODES

MAX_DOLLARS = 1_000_000_000


def _money(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError('write it as a decimal string such as "10000" or "10000.50"')
    return _amount(value)


@lru_cache(maxsize=4096)  # files of many lines hold few different amounts
def _amount(value: str | int) -> int:
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
    found: dict[str, int] = {}
    for written, value in values.items():
        key, words = WORDS.get(written, (written, {}))
        if words and (isinstance(value, str) or written not in GUARDRAILS):
            if value not in words:
                raise ValueError(f"guardrail {written} must be {' or '.join(words)}; got {value!r}")
            value = words[value]
        if key not in GUARDRAILS:
            raise ValueError(f"guardrail {key!r} is unknown; use one of {', '.join(GUARDRAILS)}")
        if key in found:
            raise ValueError(f"guardrail {key} is set twice, once as {written}; leave one of them out")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise ValueError(f"guardrail {key} must be a whole number from 0; got {value!r}")
        found[key] = value
    return found


Guardrails = Annotated[dict[str, int], BeforeValidator(_guardrails)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InfluencerLine(_Line):
    kind: Literal["influencer"]
    id: Name
    venue: Literal["hyperliquid", "polymarket"]
    addresses: Annotated[list[Address], Field(min_length=1, max_length=100)]
    label: Annotated[str, Field(max_length=200)] = ""
    status: Status = Status.ACTIVE
    on_close: OnClose = OnClose.FOLLOW_EXITS

    def event(self, actor: str) -> InfluencerConfigured:
        return InfluencerConfigured(
            id=self.id,
            venue=Venue(self.venue),
            addresses=tuple(dict.fromkeys(self.addresses)),
            label=self.label or self.id,
            status=self.status,
            on_close=self.on_close,
            actor=actor,
        )


class SubscriberLine(_Line):
    kind: Literal["subscriber"]
    id: Name
    mode: Mode = Mode.PAPER
    deposit_usd: Money
    status: Status = Status.ACTIVE
    on_close: OnClose = OnClose.FOLLOW_EXITS
    portfolio: Literal["SUBSCRIBER", "EXEC_USER", "EXEC_GLOBAL"] = "SUBSCRIBER"

    def event(self, actor: str) -> SubscriberConfigured:
        return SubscriberConfigured(
            id=self.id,
            mode=self.mode,
            deposit_micros=self.deposit_usd,
            status=self.status,
            on_close=self.on_close,
            actor=actor,
            scope=PortfolioScope(self.portfolio),
        )


class SizingLine(BaseModel):
    """A mode, and the one parameter that it names in domain/sizing.py."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Money]
    mode: str

    def sizing(self) -> Sizing:
        """The sizing that is stored. Raises ValueError for an unknown mode or any other than the mode's parameter."""
        if self.mode not in SIZING_MODES:
            raise ValueError(f"sizing.mode {self.mode!r} is unknown; use one of {', '.join(SIZING_MODES)}")
        parameter, given = SIZING_MODES[self.mode].parameter, self.__pydantic_extra__
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
    # Tuples: pydantic copies a default list for every line.
    allowed_assets: tuple[str, ...] = ()
    blocked_assets: tuple[str, ...] = ()
    sides: tuple[TradeSide, ...] = ()
    allowed_markets: tuple[str, ...] = ()
    blocked_markets: tuple[str, ...] = ()
    days: tuple[Annotated[int, Field(ge=1, le=7, description="ISO weekday, 1 = Monday")], ...] = ()
    hours: tuple[Hours, ...] = ()

    def filters(self) -> Filters:
        return Filters(
            self.allowed_assets,
            self.blocked_assets,
            self.sides,
            self.allowed_markets,
            self.blocked_markets,
            tuple(sorted(set(self.days))),
            self.hours,
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
    on_close: OnClose = OnClose.FOLLOW_EXITS

    def event(self, actor: str) -> SubscriptionConfigured:
        return SubscriptionConfigured(
            id=self.id,
            subscriber_id=self.subscriber_id,
            influencer_id=self.influencer_id,
            sizing=self.sizing.sizing(),
            limits=dict(sorted(self.limits.items())),
            filters=self.filters.filters(),
            status=self.status,
            on_close=self.on_close,
            actor=actor,
        )


class AccountLine(_Line):
    """The venue account of a live subscriber, and the name of its agent's key."""

    kind: Literal["account"]
    subscriber_id: Name
    venue: Literal["hyperliquid"]
    address: Address
    agent: Name
    vault: Address | None = None
    status: Status = Status.ACTIVE

    def event(self, actor: str) -> AccountConfigured:
        return AccountConfigured(
            subscriber_id=self.subscriber_id,
            venue=Venue(self.venue),
            account=LiveAccount(self.address, self.agent, self.vault),
            status=self.status,
            actor=actor,
        )


class GuardrailLine(_Line):
    kind: Literal["guardrail"]
    scope: Annotated[str, Field(pattern=r"^(global|influencer:.+|subscriber:.+)$")]
    values: Guardrails

    def event(self, actor: str) -> GuardrailConfigured:
        return GuardrailConfigured(scope=self.scope, values=dict(sorted(self.values.items())), actor=actor)


Line = InfluencerLine | SubscriberLine | SubscriptionLine | AccountLine | GuardrailLine
LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])
"""Validates the object of one line."""
