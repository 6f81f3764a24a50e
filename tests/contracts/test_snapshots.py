"""The contract of account snapshots, kept by the sandboxes and by the stand-ins of the ingest tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Raw

from domain.events import Venue
from domain.micros import MICRO, micros
from gateways.http_client import HttpClient
from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.raw_events import ACCOUNT_CHANNEL
from gateways.polymarket.data_api import DataApi
from gateways.polymarket.raw_events import POSITIONS_CHANNEL, WalletSnapshot
from gateways.rate_limit import RateLimiter
from gateways.sandbox.hyperliquid import INFLUENCERS as ACCOUNTS
from gateways.sandbox.polymarket import INFLUENCERS as WALLETS
from tests.contracts.snapshots import Accounts, SnapshotsContract
from tests.contracts.venues import ORIGIN_NS, hyperliquid, polymarket
from tests.gateways.test_hyperliquid_info_client import answering
from tests.handlers.ingest.polymarket.by_hand import OTHER, WALLET, position, venue

NEW = "0x" + "5f" * 20


class HyperliquidAccounts:
    empty = NEW

    def __init__(self, info: InfoClient, holder: str) -> None:
        self._info = info
        self.holder = holder

    async def payload(self, address: str) -> bytes:
        return await self._info.account(address)

    async def held(self, address: str) -> dict[str, int]:
        rows = msgspec.json.decode(await self._info.account(address))["assetPositions"]
        return {row["position"]["coin"]: micros(row["position"]["szi"]) for row in rows}


class PolymarketAccounts:
    def __init__(self, data_api: DataApi, holder: str, empty: str) -> None:
        self._data_api = data_api
        self.holder, self.empty = holder, empty

    async def payload(self, address: str) -> bytes:
        return msgspec.json.encode(WalletSnapshot(Raw(await self._data_api.positions(address))))

    async def held(self, address: str) -> dict[str, int]:
        rows = msgspec.json.decode(await self._data_api.positions(address))
        return {row["asset"]: int(Decimal(str(row["size"])) * MICRO) for row in rows}


class OnHyperliquid(SnapshotsContract):
    venue, channel = Venue.HYPERLIQUID, ACCOUNT_CHANNEL


class OnPolymarket(SnapshotsContract):
    venue, channel = Venue.POLYMARKET, POSITIONS_CHANNEL


class TestHyperliquidSandbox(OnHyperliquid):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Accounts]:
        async with hyperliquid() as sandbox, InfoClient(sandbox.url) as info:
            yield HyperliquidAccounts(info, ACCOUNTS[0].address)


class TestHyperliquidStandIn(OnHyperliquid):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Accounts]:
        def answer(body: dict[str, Any]) -> object:
            held = [] if body["user"] == NEW else [("BTC", "0.5"), ("SOL", "-3.25")]
            rows = [{"position": {"coin": coin, "szi": size, "leverage": {"value": 5}}} for coin, size in held]
            return {"assetPositions": rows, "time": ORIGIN_NS // 1_000_000}

        async with answering(answer) as (info, _, _):
            yield HyperliquidAccounts(info, ACCOUNTS[0].address)


class TestPolymarketSandbox(OnPolymarket):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Accounts]:
        async with polymarket() as sandbox, HttpClient(RateLimiter(500, 500)) as client:
            yield PolymarketAccounts(DataApi(client, sandbox.data_url), WALLETS[0].address, NEW)


class TestPolymarketStandIn(OnPolymarket):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Accounts]:
        async with venue() as stand_in, HttpClient(RateLimiter(500, 500)) as client:
            stand_in.positions[WALLET] = [position(12.5), position(0.000001, "777")]
            yield PolymarketAccounts(DataApi(client, f"{stand_in.url}/data"), WALLET, OTHER)
