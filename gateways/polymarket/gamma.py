"""Gamma: the name of a market, its tokens, its limits for orders, and its resolution.

Outcomes, tokens and prices come as JSON inside JSON strings. A market's listed end is not the time of its payout, and a
closed market is not yet resolved: payouts count only once the oracle's resolution is final (docs/venues/polymarket.md,
Gamma and resolutions).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from domain.events import MarketDescribed, MarketResolved, Outcome, Payout, Venue
from domain.ids import derived
from domain.micros import MICRO
from gateways.http_client import HttpClient, Params
from gateways.polymarket import json_fields
from gateways.venue_errors import WireError
from gateways.venue_types import ListedMarket

HIGHEST_FEE_RATE_MICROS = 70_000
"""The highest category (crypto): used for a market that charges fees and names no rate."""
DEFAULT_TICK_MICROS = 10_000
DEFAULT_MIN_SHARE_MICROS = 5_000_000
FINAL = frozenset({"resolved", "settled"})
_ALMOST_DECIDED_MICROS = 10_000
"""Closer than a cent to 0 or 1 is the last price of a market whose payout is 0 or 1."""
_OTHER_PAYOUTS_AFTER_NS = 3_600 * 1_000_000_000
"""How long after the resolution other prices count as payouts: before it updates them, Gamma lists the last prices."""
NOT_FINAL = frozenset({"requested", "proposed", "disputed"})
IDS_PER_REQUEST = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Market(Struct, frozen=True):
    """A market as Gamma lists it; times in ns. `payouts` is None until it is finally resolved. `opens_at` is when its
    event begins, or else when it was listed; None unless that is before `closes_at`."""

    market: str
    question: str
    slug: str
    outcomes: tuple[Outcome, ...]
    tick_micros: int
    min_share_micros: int
    fee_rate_micros: int
    opens_at: int | None
    closes_at: int | None
    accepting: bool
    closed: bool
    payouts: tuple[Payout, ...] | None
    resolved_at: int | None


class WireFeeSchedule(Struct):
    rate: Raw = Raw()


class WireMarket(Struct, rename="camel"):
    condition_id: str
    question: str | None = None
    slug: str | None = None
    outcomes: str | list[str] | None = None
    outcome_prices: str | list[str] | None = None
    clob_token_ids: str | list[str] | None = None
    position_ids: str | list[str] | None = None
    order_price_min_tick_size: Raw = Raw()
    order_min_size: Raw = Raw()
    fees_enabled: bool | None = None
    fee_schedule: WireFeeSchedule | None = None
    start_date: str | None = None
    event_start_time: str | None = None
    end_date: str | None = None
    closed_time: str | None = None
    uma_end_date: str | None = None
    accepting_orders: bool | None = None
    enable_order_book: bool | None = None
    closed: bool | None = None
    automatically_resolved: bool | None = None
    uma_resolution_status: str | None = None
    resolution_status: str | None = None


class _Named(Struct, rename="camel"):
    condition_id: str
    clob_token_ids: str | list[str] | None = None
    position_ids: str | list[str] | None = None


_MARKET = msgspec.json.Decoder(WireMarket)
_NAMED = msgspec.json.Decoder(_Named)
_LISTING = msgspec.json.Decoder(list[Raw])
_STRINGS = msgspec.json.Decoder(list[str])


def parse_market(payload: bytes) -> Market:
    """One Gamma market object. Raises WireError.

    A market without a tick or a minimum has the venue's defaults (0.01 and 5 shares).
    """
    try:
        wire = _MARKET.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a market: {error}") from error
    market = json_fields.hexadecimal(wire.condition_id, "conditionId")
    outcomes = _outcomes(wire)
    closed, closes_at = bool(wire.closed), _time(wire.end_date)
    payouts = _payouts(wire, outcomes) if closed else None
    return Market(
        market=market,
        question=wire.question or "",
        slug=wire.slug or "",
        outcomes=outcomes,
        tick_micros=_tick(wire.order_price_min_tick_size),
        min_share_micros=_at_least_zero(wire.order_min_size, DEFAULT_MIN_SHARE_MICROS, "orderMinSize"),
        fee_rate_micros=_fee_rate(wire),
        opens_at=_opens_at(wire, closes_at),
        closes_at=closes_at,
        accepting=bool(wire.accepting_orders) and wire.enable_order_book is not False and not closed,
        closed=closed,
        payouts=payouts,
        resolved_at=(_time(wire.closed_time) or _time(wire.uma_end_date)) if payouts else None,
    )


def described(market: Market, at: int) -> MarketDescribed:
    """The description as an event; `at` in ns."""
    return MarketDescribed(
        description_id=derived("mkt", Venue.POLYMARKET, market.market, at),
        venue=Venue.POLYMARKET,
        market=market.market,
        question=market.question,
        slug=market.slug,
        outcomes=market.outcomes,
        tick_micros=market.tick_micros,
        min_share_micros=market.min_share_micros,
        fee_rate_micros=market.fee_rate_micros,
        closes_at=market.closes_at,
        accepting=market.accepting,
        described_at=at,
    )


def resolved(market: Market, detect_time: int) -> MarketResolved | None:
    """The resolution of a market as an event, or None while it is not final.

    A market is resolved once: the id of the event is made of the market alone.
    """
    if market.payouts is None or not _is_settled(market.payouts, market.resolved_at, detect_time):
        return None
    return MarketResolved(
        resolution_id=derived("res", Venue.POLYMARKET, market.market),
        venue=Venue.POLYMARKET,
        market=market.market,
        payouts=market.payouts,
        resolved_at=market.resolved_at if market.resolved_at is not None else detect_time,
        detect_time=detect_time,
    )


class Profile(NamedTuple):
    """The wallets that trade for an address, lower case; `payload` is the answer unmodified."""

    proxy_wallets: tuple[str, ...]
    name: str
    payload: Raw


class _WireUser(Struct, rename="camel"):
    proxy_wallet: str | None = None


class _WireProfile(Struct, rename="camel"):
    proxy_wallet: str | None = None
    name: str | None = None
    pseudonym: str | None = None
    users: list[_WireUser] | None = None


_PROFILE = msgspec.json.Decoder(_WireProfile)


def parse_profile(payload: bytes) -> Profile:
    """A public-profile answer. Raises WireError."""
    try:
        wire = _PROFILE.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a profile: {error}") from error
    written = [wire.proxy_wallet, *(user.proxy_wallet for user in wire.users or ())]
    wallets = dict.fromkeys(json_fields.wallet(one, "proxyWallet") for one in written if one)
    return Profile(tuple(wallets), wire.name or wire.pseudonym or "", Raw(payload))


class Gamma:
    """Requests to the Gamma API. All raise VenueUnavailableError or WireError."""

    def __init__(self, client: HttpClient, base_url: str) -> None:
        self._client = client
        self._url = base_url.rstrip("/")

    async def markets(self, condition_ids: Sequence[str]) -> dict[str, Raw]:
        """The market objects of condition ids, by id in lower case; ids that Gamma does not know are absent."""
        wanted = dict.fromkeys(json_fields.hexadecimal(one, "condition id") for one in condition_ids)
        found: dict[str, Raw] = {}
        # A listing has either the open markets or, with closed=true, the closed ones.
        for closed in ("false", "true"):
            missing = [one for one in wanted if one not in found]
            for at in range(0, len(missing), IDS_PER_REQUEST):
                part = missing[at : at + IDS_PER_REQUEST]
                asked = {"condition_ids": part, "closed": closed, "limit": str(len(part))}
                for named, market in await self._listing(asked):
                    if named.condition_id.lower() in part:
                        found[named.condition_id.lower()] = market
        return found

    async def market_of(self, token: str) -> Raw | None:
        """The market object that a token belongs to, or None."""
        json_fields.token(token)
        for closed in ("false", "true"):
            for named, market in await self._listing({"clob_token_ids": token, "closed": closed}):
                if token in (*_strings(named.clob_token_ids, "tokens"), *_strings(named.position_ids, "positions")):
                    return market
        return None

    def read(self, payload: Raw, now: int) -> ListedMarket:
        """A market object of `markets` or `market_of`, as of `now` (ns). Raises WireError."""
        market = parse_market(bytes(payload))
        return ListedMarket(f"pm:market:{market.market}", described(market, now), resolved(market, now), market.closed)

    async def profile(self, address: str) -> Profile | None:
        """The profile of an address; None when Gamma does not know it."""
        payload = await self._client.get(f"{self._url}/public-profile", {"address": json_fields.wallet(address)})
        return None if payload is None or payload.strip() in (b"null", b"{}", b"") else parse_profile(payload)

    async def _listing(self, asked: Params) -> Iterable[tuple[_Named, Raw]]:
        payload = await self._client.get(f"{self._url}/markets", asked)
        if payload is None:
            return ()
        try:
            return [(_NAMED.decode(market), market) for market in _LISTING.decode(payload)]
        except msgspec.MsgspecError as error:
            raise WireError(f"not a list of markets: {error}") from error


def _outcomes(wire: WireMarket) -> tuple[Outcome, ...]:
    labels = _strings(wire.outcomes, "outcomes")
    tokens = _strings(wire.clob_token_ids, "clobTokenIds") or _strings(wire.position_ids, "positionIds")
    if len(labels) != len(tokens) or len(tokens) < 2 or len(set(tokens)) != len(tokens):
        raise WireError(f"{len(labels)} outcomes and {len(tokens)} tokens: a different token for each of 2 or more")
    return tuple(Outcome(json_fields.token(token), label) for token, label in zip(tokens, labels, strict=True))


def _opens_at(wire: WireMarket, closes_at: int | None) -> int | None:
    """The latest of the times that Gamma gives for a beginning before the end: a market about five minutes is listed a
    day ahead, and the event of a market about a game begins where the market ends."""
    if closes_at is None:
        return None
    begins = (_time(wire.event_start_time), _time(wire.start_date))
    return max((time for time in begins if time is not None and time < closes_at), default=None)


def _payouts(wire: WireMarket, outcomes: tuple[Outcome, ...]) -> tuple[Payout, ...] | None:
    status = (wire.uma_resolution_status or "").lower()
    is_final = status in FINAL or (wire.resolution_status or "").lower() in FINAL or bool(wire.automatically_resolved)
    if status in NOT_FINAL or not is_final:
        return None
    prices = [_price(one) for one in _strings(wire.outcome_prices, "outcomePrices")]
    # Thirds and the like do not add up to 1 exactly.
    if len(prices) != len(outcomes) or abs(sum(prices) - MICRO) > len(prices):
        return None
    if not all(0 <= price <= MICRO and not 0 < min(price, MICRO - price) < _ALMOST_DECIDED_MICROS for price in prices):
        return None
    return tuple(Payout(outcome.asset, price) for outcome, price in zip(outcomes, prices, strict=True))


def _is_settled(payouts: tuple[Payout, ...], resolved_at: int | None, now: int) -> bool:
    """True when these are payouts and not the last prices: 0, 1/2 and 1 at once, others after a time."""
    if all(payout.price_micros in (0, MICRO // 2, MICRO) for payout in payouts):
        return True
    return resolved_at is not None and now - resolved_at >= _OTHER_PAYOUTS_AFTER_NS


def _price(written: str) -> int:
    value = json_fields.number(Raw(msgspec.json.encode(written)), "outcomePrices")
    return -1 if value is None else json_fields.nearest_micros(value, "outcomePrices")


def _fee_rate(wire: WireMarket) -> int:
    if not wire.fees_enabled:
        return 0
    written = None if wire.fee_schedule is None else json_fields.number(wire.fee_schedule.rate, "feeSchedule.rate")
    if written is None:
        return HIGHEST_FEE_RATE_MICROS
    if not 0 <= written <= 1:
        raise WireError(f"feeSchedule.rate {json_fields.shortest(written)[:80]} is not in 0..1")
    return json_fields.exact_micros(written, "feeSchedule.rate")


def _tick(raw: Raw) -> int:
    tick = _at_least_zero(raw, DEFAULT_TICK_MICROS, "orderPriceMinTickSize")
    if not 0 < tick < MICRO:
        raise WireError(f"orderPriceMinTickSize of {tick} micros is not between 0 and 1")
    return tick


def _at_least_zero(raw: Raw, default: int, what: str) -> int:
    value = json_fields.number(raw, what)
    if value is not None and value < Decimal(0):
        raise WireError(f"{what} {json_fields.shortest(value)[:80]} is negative")
    return default if value is None else json_fields.exact_micros(value, what)


def _strings(written: str | list[str] | None, what: str) -> list[str]:
    if not written or isinstance(written, list):
        return written or []
    try:
        return _STRINGS.decode(written)
    except msgspec.MsgspecError as error:
        raise WireError(f"{what} {written[:80]!r} is not a list of strings in JSON: {error}") from error


def _time(written: str | None) -> int | None:
    """Nanoseconds of a date with a time of day; None for a bare date, which is no time."""
    if not written or len(written) <= len("2026-07-24"):
        return None
    try:
        time = datetime.fromisoformat(written)
    except ValueError:
        raise WireError(f"{written[:80]!r} is not a time in ISO 8601") from None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND * 1_000
