"""Fills, quotes, books and mids on the WebSocket: what starts each feed, and what keeps it going."""

from gateways.sandbox.hyperliquid import INFLUENCERS, FlowSource
from gateways.sandbox.hyperliquid.coins import COINS
from gateways.sandbox.hyperliquid.flow import NOISE, flow
from gateways.sandbox.hyperliquid.market_data import text
from tests.gateways.test_sandbox_hyperliquid_info import ask
from tests.gateways.test_sandbox_hyperliquid_ws import (
    FILL_KEYS,
    ORIGIN_MS,
    ORIGIN_NS,
    SEED,
    Clock,
    connected,
    played,
    serving,
    until,
    wire_trades,
)
from tests.streams.deadlines import settled


async def test_user_fills_start_with_a_snapshot_and_go_on_without_a_flag() -> None:
    clock = Clock(30)
    source = FlowSource(SEED, origin_ns=ORIGIN_NS)
    async with serving(source, clock) as sandbox, connected(sandbox) as client:
        who = INFLUENCERS[0]
        past = [t for t in wire_trades([a for a in until(30) if a.twap_id is None]) if who.address in t["users"]]
        await settled(
            lambda: ask(sandbox, type="userFills", user=who.address),
            lambda fills: bool(fills) and fills[0]["tid"] == past[-1]["tid"],
        )
        await client.subscribe(type="userFills", user=who.address)
        snapshot = await client.next("userFills")
        assert list(snapshot["data"]) == ["isSnapshot", "user", "fills"]
        assert snapshot["data"]["isSnapshot"] is True
        assert [fill["tid"] for fill in snapshot["data"]["fills"]] == [t["tid"] for t in reversed(past)]

        clock.advance(6)
        coming = [a for a in until(36) if a.offset_ms >= 30_000 and a.actor == who.id and a.twap_id is None]
        assert coming
        for action in coming:
            live = (await client.next("userFills"))["data"]
            assert list(live) == ["user", "fills"]
            assert live["user"] == who.address
            for fill, printed in zip(live["fills"], wire_trades([action]), strict=True):
                assert list(fill) == FILL_KEYS
                assert {key: fill[key] for key in ("coin", "px", "sz", "time", "hash", "tid")} == {
                    key: printed[key] for key in ("coin", "px", "sz", "time", "hash", "tid")
                }
                assert fill["side"] == ("B" if printed["users"][0] == who.address else "A")
                assert fill["crossed"] == (fill["side"] == printed["side"])


async def test_a_stranger_has_an_empty_snapshot() -> None:
    async with played(1) as sandbox, connected(sandbox) as client:
        await client.subscribe(type="userFills", user="0x" + "0" * 40)
        frame = await client.next()
        assert frame == {"channel": "userFills", "data": {"isSnapshot": True, "user": "0x" + "0" * 40, "fills": []}}


async def test_quotes_come_on_subscribing_and_on_every_change() -> None:
    clock = Clock()
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as sandbox, connected(sandbox) as client:
        action = next(action for action in flow(SEED) if action.actor != NOISE)
        assert action.book is not None
        await client.subscribe(type="bbo", coin=action.coin)
        first = await client.next("bbo")
        await client.subscribe(type="l2Book", coin=action.coin)
        assert len((await client.next("l2Book"))["data"]["levels"][0]) == 20
        clock.advance(action.offset_ms / 1_000)
        bbo, book = (await client.next("bbo"))["data"], (await client.next("l2Book"))["data"]
    assert first["data"]["bbo"] != bbo["bbo"]
    assert list(bbo) == [*list(book)[:2], "bbo"] == ["coin", "time", "bbo"]
    assert bbo["time"] == book["time"] == ORIGIN_MS + action.offset_ms
    assert [list(side) for side in bbo["bbo"]] == [["px", "sz", "n"]] * 2
    assert [side[0] for side in book["levels"]] == bbo["bbo"]
    assert [[row["px"] for row in side] for side in book["levels"]] == [
        [text(level.px) for level in side] for side in (action.book.bids, action.book.asks)
    ]


async def test_noise_changes_no_quote() -> None:
    clock = Clock()
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as sandbox, connected(sandbox) as client:
        noise = next(action for action in flow(SEED) if action.actor == NOISE)
        await client.subscribe(type="bbo", coin=noise.coin)
        await client.next("bbo")
        await client.subscribe(type="trades", coin=noise.coin)
        clock.advance(noise.offset_ms / 1_000)
        assert (await client.next())["channel"] == "trades"
        assert await client.quiet()


async def test_variants_of_the_book() -> None:
    async with played(1) as sandbox, connected(sandbox) as client:
        await client.subscribe(type="l2Book", coin="BTC", fast=True)
        fast = (await client.next())["data"]
        assert list(fast) == ["coin", "time", "levels", "fast"]
        assert [len(side) for side in fast["levels"]] == [5, 5]
        again = (await client.next("l2Book", timeout_s=1.0))["data"]
        assert again["levels"] == fast["levels"], "a fast book repeats without a change, twice a second"
        await client.subscribe(type="l2Book", coin="BTC", nSigFigs=4)
        merged = await client.next()
        while "fast" in merged["data"]:
            merged = await client.next()
        assert all(float(row["px"]) % 10 == 0 for side in merged["data"]["levels"] for row in side)
        assert "fast" not in merged["data"]


async def test_mids_come_on_subscribing_and_when_they_changed() -> None:
    clock = Clock()
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as sandbox, connected(sandbox) as client:
        await client.subscribe(type="allMids", dex="xyz")
        assert list((await client.next())["data"]["mids"]) == ["xyz:SP500"]
        await client.subscribe(type="allMids")
        mids = (await client.next("allMids"))["data"]
        assert list(mids) == ["mids"]
        assert list(mids["mids"]) == [coin.name for coin in COINS if not coin.dex]
        clock.advance(5)
        frame = (await client.next("allMids"))["data"]
        while "dex" in frame or frame["mids"] == mids["mids"]:
            frame = (await client.next("allMids"))["data"]
        assert sum(frame["mids"][coin] != mid for coin, mid in mids["mids"].items()) >= 3
