"""Live orders on Hyperliquid: one signed action each, sent as it is, and what the venue's answers mean
(docs/venues/hyperliquid.md, orders).
"""

import asyncio
from collections.abc import Callable, Collection
from decimal import Decimal, InvalidOperation
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import structlog

from domain.events import LiveAccount, OrderSubmitted, TradeSide, VenueFill
from domain.micros import MICRO, NotExactError, decimal_text, micros, nearest_micros
from domain.reason_codes import Reason
from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.signing import SigningKey, sign_action
from gateways.live_orders import Answered, AnswerKind, Found, Prepared, Status, UnknownAssetError, Verdict
from gateways.rate_limit import RateLimiter
from gateways.venue_errors import VenueUnavailableError, WireError

log = structlog.get_logger()

MAINNET = "https://api.hyperliquid.xyz"
_SECONDS = 10.0
_REFRESH_SECONDS = 60.0
"""How often a dex is asked again for an asset that it did not list."""
_SHOWN = 2_000
"""Bytes of an answer that are kept."""
_MILLISECOND = 1_000_000
_BUILDERS = 100_000
_PER_DEX = 10_000

REASONS: tuple[tuple[str, Reason], ...] = (
    ("Order could not immediately match", Reason.NO_LIQUIDITY_WITHIN_BOUNDS),
    ("No liquidity available for market order", Reason.NO_LIQUIDITY_WITHIN_BOUNDS),
    ("Order must have minimum value", Reason.BELOW_MINIMUM),
    ("Price must be divisible", Reason.ORDER_INVALID),
    ("Order has invalid price", Reason.ORDER_INVALID),
    ("Order has invalid size", Reason.ORDER_INVALID),
    ("Order has zero size", Reason.ORDER_INVALID),
    ("Insufficient margin", Reason.INSUFFICIENT_MARGIN),
    ("Order would cause position to exceed margin tier", Reason.INSUFFICIENT_MARGIN),
    ("Order has insufficient spot balance", Reason.INSUFFICIENT_MARGIN),
    ("Reduce only order would increase position", Reason.POSITION_DIFFERS),
    ("Too many cumulative requests sent", Reason.REQUESTS_EXHAUSTED),
    ("User or API Wallet", Reason.AGENT_UNUSABLE),
    ("Must deposit before performing actions", Reason.AGENT_UNUSABLE),
    ("Unable to recover signer", Reason.AGENT_UNUSABLE),
    ("Vault not registered", Reason.AGENT_UNUSABLE),
    ("Invalid nonce", Reason.AGENT_UNUSABLE),
    ("Action expired", Reason.ORDER_EXPIRED),
)
"""What the venue's words mean, by how they begin; other words are a refusal for a reason that they state."""
_DUPLICATE = "Invalid nonce: duplicate nonce"
_LATER = ("Only post-only orders allowed immediately",)
"""Refusals that pass: the same bytes are sent again."""
_WORKING = frozenset({"open", "triggered"})


class OrderClient:
    """`POST /exchange`, and what the venue knows of orders. `info` shares its request limit with it."""

    def __init__(self, url: str, info: InfoClient, limiter: RateLimiter, clock: Callable[[], int]) -> None:
        self._url = f"{url.rstrip('/')}/exchange"
        self._mainnet = url.rstrip("/") == MAINNET
        self._info = info
        self._limiter = limiter
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._urgent = 0
        self._none_urgent = asyncio.Event()
        self._none_urgent.set()
        self._assets: dict[str, int] = {}
        self._read_at: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def start(self) -> None:
        await self._read_dex("", 0)

    async def know(self, assets: Collection[str]) -> None:
        for dex in sorted({asset.rpartition(":")[0] for asset in assets if asset not in self._assets}):
            if asyncio.get_running_loop().time() - self._read_at.get(dex, -_REFRESH_SECONDS) < _REFRESH_SECONDS:
                continue  # it does not list them, or did not when it was asked last
            try:
                place = 0
                if dex:
                    names = _names(await self._info.call({"type": "perpDexs"}))
                    place = names.index(dex) if dex in names else -1
                if place >= 0:
                    await self._read_dex(dex, place)
            except (VenueUnavailableError, WireError) as error:
                log.warning("orders.assets_not_read", dex=dex, why=str(error))

    async def _read_dex(self, dex: str, place: int) -> None:
        """The numbers by which orders name the coins of a dex, which has this place among all of them: the main one,
        which is null there, included."""
        first = _BUILDERS + _PER_DEX * place if place else 0
        for number, coin in enumerate(_universe(await self._info.call({"type": "meta", "dex": dex}))):
            if coin is not None:
                self._assets[coin] = first + number
        self._read_at[dex] = asyncio.get_running_loop().time()

    def prepare(self, order: OrderSubmitted, key: SigningKey, nonce: int) -> Prepared:
        asset = self._assets.get(order.asset)
        if asset is None or order.account is None:
            raise UnknownAssetError(order.asset)
        wire = {
            "a": asset,
            "b": order.trade_side is TradeSide.BUY,
            "p": decimal_text(order.limit_price_micros),
            "s": decimal_text(order.share_micros),
            "r": order.reduce_only,
            "t": {"limit": {"tif": "Ioc"}},
            "c": order.cloid,
        }
        # The order of the keys is part of what is signed.
        action = {"type": "order", "orders": [wire], "grouping": "na"}
        expires_after, vault = order.expires_at // _MILLISECOND, order.account.vault
        signature = sign_action(
            key, action, nonce=nonce, expires_after=expires_after, vault=vault, mainnet=self._mainnet
        )
        body = {
            "action": action,
            "nonce": nonce,
            "signature": signature.wire(),
            "vaultAddress": vault,
            "expiresAfter": expires_after,
        }
        return Prepared(msgspec.json.encode(action).decode(), msgspec.json.encode(body), expires_after)

    async def send(self, body: bytes, *, urgent: bool) -> Answered:
        assert self._session is not None, "use `async with`"
        await self._turn(urgent=urgent)
        sent_at = self._clock()
        try:
            headers = {"content-type": "application/json"}
            async with self._session.post(self._url, data=body, headers=headers) as response:
                payload = await response.content.read(_SHOWN)
                return Answered(response.status, payload, "", sent_at, self._clock())
        except (aiohttp.ClientError, TimeoutError) as error:
            return Answered(None, b"", f"{type(error).__name__}: {error}"[:300], sent_at, self._clock())

    async def _turn(self, *, urgent: bool) -> None:
        """Wait until the request limit allows an action; one that is not urgent lets those that are go first."""
        if not urgent:
            await self._none_urgent.wait()
            await self._limiter.spend(1)
            return
        self._urgent += 1
        self._none_urgent.clear()
        try:
            await self._limiter.spend(1)
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._none_urgent.set()

    def read(self, order: OrderSubmitted, answer: Answered) -> Verdict:
        if answer.http_status == 429:
            self._limiter.pause(1.0)
        if answer.http_status == 422:
            return Verdict(AnswerKind.REFUSED, reason=Reason.ORDER_INVALID, detail=_text(answer.payload))
        if answer.http_status != 200:
            return Verdict(AnswerKind.UNCLEAR, detail=answer.error or f"HTTP {answer.http_status}")
        try:
            return _read(order, msgspec.json.decode(answer.payload))
        except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError, AttributeError, ValueError) as error:
            return Verdict(AnswerKind.UNCLEAR, detail=f"an answer that cannot be read: {error}"[:300])

    async def status(self, order: OrderSubmitted) -> tuple[Answered, Found | None]:
        assert order.account is not None
        sent_at = self._clock()
        body = {"type": "orderStatus", "user": order.account.trading_address, "oid": order.cloid}
        try:
            payload = await self._info.call(body, attempts=1)
        except (VenueUnavailableError, WireError) as error:
            return Answered(None, b"", str(error)[:300], sent_at, self._clock()), None
        answer = Answered(200, payload[:_SHOWN], "", sent_at, self._clock())
        try:
            return answer, _found(msgspec.json.decode(payload))
        except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError, AttributeError, ValueError):
            return answer, None

    async def spare(self) -> None:
        await self._limiter.spare()

    async def positions(self, account: LiveAccount, assets: Collection[str]) -> dict[str, int] | None:
        found = dict[str, int]()
        try:
            for dex in sorted({"", *(asset.rpartition(":")[0] for asset in assets)}):
                body = {"type": "clearinghouseState", "user": account.trading_address, "dex": dex}
                state = msgspec.json.decode(await self._info.call(body, attempts=1))
                for row in state["assetPositions"]:
                    found[row["position"]["coin"]] = micros(row["position"]["szi"])
        except (VenueUnavailableError, WireError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        except (LookupError, TypeError, AttributeError, NotExactError):
            return None
        return {asset: share for asset, share in found.items() if share}

    async def fills(self, account: LiveAccount, since: int) -> dict[int, tuple[VenueFill, ...]] | None:
        body = {
            "type": "userFillsByTime",
            "user": account.trading_address,
            "startTime": since // _MILLISECOND,
        }
        found = dict[int, tuple[VenueFill, ...]]()
        await self._limiter.spare()  # orders go first
        try:
            for row in msgspec.json.decode(await self._info.call(body, attempts=1)):
                found[row["oid"]] = (*found.get(row["oid"], ()), _fill(row))
        except (VenueUnavailableError, WireError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        except (LookupError, TypeError, AttributeError, NotExactError):
            return None
        return found


def _read(order: OrderSubmitted, answer: Any) -> Verdict:
    if answer["status"] != "ok":
        return _refused(str(answer["response"]))
    statuses = answer["response"]["data"]["statuses"]
    if len(statuses) != 1:
        return Verdict(AnswerKind.ARRIVED, detail=f"{len(statuses)} statuses for one order")
    status = statuses[0]
    if isinstance(status, dict) and "error" in status:
        return _refused(str(status["error"]))
    if isinstance(status, dict) and "filled" in status:
        filled = status["filled"]
        size = micros(str(filled["totalSz"]))
        notional = _notional(size, str(filled["avgPx"]))
        if size <= 0 or notional <= 0:
            return Verdict(AnswerKind.ARRIVED, int(filled["oid"]), detail="a fill of nothing")
        reason = Reason.PARTIAL_FILL if size < order.share_micros else None
        return Verdict(AnswerKind.DONE, int(filled["oid"]), size, notional, reason)
    return Verdict(AnswerKind.ARRIVED, detail=f"status {status!r}"[:200])


def _refused(text: str) -> Verdict:
    if text.startswith(_DUPLICATE):
        return Verdict(AnswerKind.ARRIVED, detail=text[:300])
    if text.startswith(_LATER):
        return Verdict(AnswerKind.UNCLEAR, detail=text[:300])
    reason = next((reason for words, reason in REASONS if text.startswith(words)), Reason.ORDER_REFUSED)
    return Verdict(AnswerKind.REFUSED, reason=reason, detail=text[:300])


def _notional(size: int, average: str) -> int:
    """Size (micros) times an average price that may have any number of digits, to the nearest micro."""
    try:
        return int((Decimal(average) * size).to_integral_value())
    except InvalidOperation:
        raise ValueError(f"average price {average!r}") from None


def _found(answer: Any) -> Found:
    if answer["status"] == "unknownOid":
        return Found(Status.UNKNOWN)
    shown = answer["order"]
    order, word = shown["order"], str(shown["status"])
    filled = micros(order["origSz"]) - micros(order["sz"])
    status = Status.OPEN if word in _WORKING else Status.OVER
    # What was refused never rested: its remainder says nothing.
    return Found(status, int(order["oid"]), 0 if word.endswith("Rejected") or word == "rejected" else filled, word)


def _fill(row: Any) -> VenueFill:
    size, price = micros(row["sz"]), nearest_micros(row["px"])
    return VenueFill(
        share_micros=size,
        price_micros=price,
        notional_micros=price * size // MICRO,
        fee_micros=micros(row["fee"]),
        trade_id=int(row["tid"]),
        filled_at=int(row["time"]) * _MILLISECOND,
    )


def _names(payload: bytes) -> list[str | None]:
    try:
        entries = msgspec.json.decode(payload, type=list[Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"not a list of dexes: {error}") from error
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    return [name if isinstance(name, str) and name else None for name in names]


def _universe(payload: bytes) -> list[str | None]:
    try:
        universe = msgspec.json.decode(payload)["universe"]
        return [entry.get("name") if isinstance(entry, dict) else None for entry in universe]
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError) as error:
        raise WireError(f"not a universe: {error}") from error


def _text(payload: bytes) -> str:
    return payload[:300].decode(errors="replace")
