"""A Polygon node over HTTP: its head, logs of the past, a wallet's cash (docs/venues/polymarket.md, Polygon nodes).

Public nodes are behind load balancers, some of them a few blocks behind the others: "invalid block range" is worth a
retry. How many blocks one request may span differs between providers; the span shrinks until the node accepts it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from gateways.http_client import HttpClient, retries
from gateways.polymarket import json_fields
from gateways.polymarket.log_parsing import Log, block_seconds, filter_of, log_id, quantity
from gateways.polymarket.log_socket import WALLETS_PER_SUBSCRIPTION
from gateways.venue_errors import VenueUnavailableError, WireError

PUSD = "0xc011a7e12a19f7b1f670d46f03b03f3342e82dfb"
"""The venue's collateral since 2026-04-28, six decimals."""
_BALANCE_OF = "0x70a08231"
BLOCKS_PER_REQUEST = 1000
ATTEMPTS = 6
_LATER = ("invalid block range", "rate limit", "too many requests", "timeout", "timed out", "header not found")
"""Parts of errors after which the node may answer the same request a little later."""
_SMALLER = ("range", "limit", "exceed", "more than", "too large", "too many")


class _Error(Struct):
    message: str = ""
    code: int = 0


class _Answer(Struct):
    result: Raw = Raw()
    error: _Error | None = None


class _Place(Struct, rename="camel"):
    block_hash: str
    block_number: str
    log_index: str
    block_timestamp: str | None = None


class _Block(Struct):
    timestamp: str


_ANSWER = msgspec.json.Decoder(_Answer)
_TEXT = msgspec.json.Decoder(str)
_LOGS = msgspec.json.Decoder(list[Raw])
_PLACE = msgspec.json.Decoder(_Place)
_BLOCK = msgspec.json.Decoder(_Block | None)


class PolygonRpc:
    """Requests to a node. All raise VenueUnavailableError or WireError."""

    def __init__(
        self,
        client: HttpClient,
        http_url: str,
        *,
        blocks_per_request: int = BLOCKS_PER_REQUEST,
        first_wait_seconds: float = 0.2,
    ) -> None:
        self._client = client
        self._url = http_url
        self._span = blocks_per_request
        self._first_wait = first_wait_seconds

    async def head(self) -> int:
        """The number of the newest block."""
        return quantity(await self._text("eth_blockNumber", []), "block number")

    async def logs(self, from_block: int, to_block: int, wallets: Sequence[str]) -> list[Log]:
        """All fills of `wallets` in the blocks from..to, both included, in the order of the chain."""
        wanted = list(dict.fromkeys(wallets))
        found: dict[tuple[int, int, str], Log] = {}
        times: dict[str, int] = {}
        for at in range(0, len(wanted), WALLETS_PER_SUBSCRIPTION):
            asked = filter_of(wanted[at : at + WALLETS_PER_SUBSCRIPTION])
            for payload in await self._all(asked, from_block, to_block):
                place = _place(payload)
                key = quantity(place.block_number, "blockNumber"), quantity(place.log_index, "logIndex")
                found[*key, log_id(payload)] = Log(payload, await self._time(place, times))
        return [found[key] for key in sorted(found)]

    async def cash(self, wallet: str) -> int:
        """The wallet's collateral in micros of a dollar."""
        call = {"to": PUSD, "data": f"{_BALANCE_OF}{'0' * 24}{json_fields.wallet(wallet)[2:]}"}
        balance = await self._text("eth_call", [call, "latest"])
        return json_fields.bounded(quantity(balance, "balance"), "balance")

    async def _all(self, asked: dict[str, Any], from_block: int, to_block: int) -> list[Raw]:
        rows: list[Raw] = []
        at = from_block
        while at <= to_block:
            last = min(at + self._span - 1, to_block)
            try:
                part = await self._call("eth_getLogs", [asked | {"fromBlock": hex(at), "toBlock": hex(last)}])
            except WireError as error:
                span = last - at + 1
                if span == 1 or not any(word in str(error).lower() for word in _SMALLER):
                    raise
                self._span = max(1, span // 4)
                continue
            try:
                rows += _LOGS.decode(part)
            except msgspec.MsgspecError as error:
                raise WireError(f"not a list of logs: {error}") from error
            at = last + 1
        return rows

    async def _time(self, place: _Place, times: dict[str, int]) -> int | None:
        if place.block_timestamp:
            return block_seconds(place.block_timestamp)
        if place.block_hash not in times:
            payload = await self._call("eth_getBlockByHash", [place.block_hash, False])
            try:
                block = _BLOCK.decode(payload)
            except msgspec.MsgspecError as error:
                raise WireError(f"not a block: {error}") from error
            if block is None:
                return None
            times[place.block_hash] = block_seconds(block.timestamp)
        return times[place.block_hash]

    async def _text(self, method: str, params: list[Any]) -> str:
        try:
            return _TEXT.decode(await self._call(method, params))
        except msgspec.MsgspecError as error:
            raise WireError(f"{method} was not answered with text: {error}") from error

    async def _call(self, method: str, params: list[Any]) -> Raw:
        try:
            async for attempt in retries(_may_pass, ATTEMPTS, self._first_wait):
                with attempt:
                    return await self._once(method, params)
        except WireError as error:
            if not _may_pass(error):
                raise
            raise VenueUnavailableError(f"{method}: {error} ({ATTEMPTS} attempts)") from error
        raise AssertionError("unreachable")

    async def _once(self, method: str, params: list[Any]) -> Raw:
        payload = await self._client.post(self._url, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        if payload is None:
            raise WireError(f"{self._url} is not there: is this a Polygon node?")
        try:
            answer = _ANSWER.decode(payload)
        except msgspec.MsgspecError as error:
            raise WireError(f"{method}: not an answer of a node: {error}") from error
        if answer.error is not None:
            raise WireError(f"{method}: the node answered {answer.error.code} {answer.error.message[:200]!r}")
        if not answer.result:
            raise WireError(f"{method}: an answer with neither result nor error")
        return answer.result


def _may_pass(error: Exception) -> bool:
    return isinstance(error, WireError) and any(word in str(error).lower() for word in _LATER)


def _place(payload: Raw) -> _Place:
    try:
        return _PLACE.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a log: {error}") from error
