"""The Data API of the sandbox: what it hides, windows, pages by offset and by cursor, error bodies."""

from typing import Any

from gateways.sandbox.polymarket import MARKETS, FlowSource
from gateways.sandbox.polymarket.traders import DRIPPER, MAKER, SPLITTER, TAKER
from tests.gateways.test_sandbox_polymarket_data import ORIGIN_NS, ORIGIN_S, SEED, Clock, played, serving


async def test_makers_and_dust_are_hidden_unless_asked_for() -> None:
    async with played(80.0) as client:
        assert await client.get("/data/trades", user=MAKER.address) == []
        assert (await client.get("/data/v2/trades", user=MAKER.address))["data"] == []
        assert len(await client.get("/data/trades", user=MAKER.address, takerOnly="false")) > 10
    source = FlowSource(SEED, origin_ns=ORIGIN_NS)
    async with serving(source, Clock(80)) as client:
        default = await client.walk("/data/v2/trades", user=DRIPPER.address, taker_only="false", limit=1000)
        everything = await client.walk(
            "/data/v2/trades", user=DRIPPER.address, taker_only="false", filter_amount="0.000001", limit=1000
        )
        assert min(row["size"] for row in default) >= 0.01
        assert min(row["size"] for row in everything) < 0.01
        assert len(everything) > len(default)
        activity = await client.walk("/data/v2/activity", user=DRIPPER.address, type="TRADE", limit=1000)
        assert len(activity) == len(everything), "activity hides neither"


async def test_windows_include_both_ends() -> None:
    async with played() as client:
        rows = await client.walk("/data/v2/activity", user=TAKER.address, start=ORIGIN_S)
        times = sorted({row["timestamp"] for row in rows})
        assert min(times) >= ORIGIN_S
        some = await client.walk("/data/v2/activity", user=TAKER.address, start=times[1], end=times[3])
        assert {row["timestamp"] for row in some} == set(times[1:4])
        old = await client.get("/data/trades", user=TAKER.address, start=times[1], end=times[3])
        assert len(old) == len([row for row in some if row["type"] == "TRADE"])
        market = MARKETS[0].condition
        only = await client.walk("/data/v2/activity", user=SPLITTER.address, condition=market)
        assert {row["condition_id"] for row in only} == {market}
        everybody = await client.walk("/data/v2/trades", condition=market, limit=1000)
        assert len({row["proxy_wallet"] for row in everybody}) > 3


async def test_a_walk_by_cursor_is_stable_while_rows_come_in() -> None:
    clock = Clock(10)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client:
        before = await client.walk("/data/v2/activity", user=DRIPPER.address, limit=1000)
        page = await client.get("/data/v2/activity", user=DRIPPER.address, limit=4)
        rows = page["data"]
        offsets = await client.get("/data/activity", user=DRIPPER.address, limit=4)
        clock.advance(10)
        later = await client.get("/data/activity", user=DRIPPER.address, limit=4, offset=4)
        assert later[0]["timestamp"] > rows[3]["timestamp"], "offsets have drifted"
        assert len(offsets) == 4
        while page["pagination"]["has_more"]:
            cursor = page["pagination"]["next_cursor"]
            page = await client.get("/data/v2/activity", user=DRIPPER.address, cursor=cursor, limit=900)
            assert len(page["data"]) <= 4, "the cursor holds the page size"
            rows += page["data"]
        assert rows == before
        upwards = await client.walk("/data/v2/activity", user=DRIPPER.address, limit=5, sort_direction="ASC")
        assert upwards[: len(before)] == before[::-1]


async def test_next_cursor_as_a_parameter_is_ignored_and_filters_have_to_be_sent_again() -> None:
    async with played() as client:
        page = await client.get("/data/v2/activity", user=DRIPPER.address, limit=3)
        cursor = page["pagination"]["next_cursor"]
        again = await client.get("/data/v2/activity", user=DRIPPER.address, limit=3, next_cursor=cursor)
        assert again["data"] == page["data"]
        other = await client.get("/data/v2/activity", user=TAKER.address, cursor=cursor)
        assert {row["proxy_wallet"] for row in other["data"]} == {TAKER.address}


async def test_a_page_that_ends_with_the_rows_has_no_more() -> None:
    async with played() as client:
        count = len(await client.walk("/data/v2/activity", user=TAKER.address))
        page = await client.get("/data/v2/activity", user=TAKER.address, limit=count)
        assert page["pagination"] == {"limit": count, "offset": 0, "has_more": False, "next_cursor": None}
        page = await client.get("/data/v2/activity", user=TAKER.address, limit=count - 1)
        assert page["pagination"]["has_more"] is True


async def test_the_first_version_refuses_in_its_words() -> None:
    async with played(trades_offset=3_000) as client:
        cases: list[tuple[str, dict[str, Any], str]] = [
            ("/data/trades", {"offset": 3_001}, "max historical activity offset of 3000 exceeded"),
            (
                "/data/activity",
                {"user": TAKER.address, "offset": 5_001},
                "max historical activity offset of 5000 exceeded",
            ),
            ("/data/activity", {}, "required query param 'user' not provided"),
            ("/data/trades", {"filterType": "CASH"}, "filterType and filterAmount must be provided together"),
            ("/data/trades", {"market": "0x1", "eventId": 4}, "market and eventId are mutually exclusive"),
        ]
        for path, query, text in cases:
            response = await client.ask(path, **query)
            assert (response.status, await response.json()) == (400, {"error": text})
        assert await client.get("/data/activity", user=f"{TAKER.address},{MAKER.address}") == []
        assert len(await client.get("/data/activity", user=DRIPPER.address, limit=9_999)) <= 500
        assert (await client.ask("/data/nothing")).status == 404


async def test_the_second_version_refuses_with_a_trace() -> None:
    async with played() as client:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"user": TAKER.address, "offset": 5}, "offset"),
            ({"user": TAKER.address, "limit": 1_001}, "limit"),
            ({"user": TAKER.address, "cursor": "%%%"}, "cursor"),
            ({"user": TAKER.address, "type": "TRADE,GIFT"}, "type"),
            ({"user": "0x12"}, "user"),
            ({"user": "0xE111180000d2663C0091e4f400237545B87B996B"}, "user"),
            ({}, "user"),
            ({"user": TAKER.address, "condition": ",".join(f"0x{n}" for n in range(21))}, "condition"),
        ]
        for query, parameter in cases:
            response = await client.ask("/data/v2/activity", **query)
            body = await response.json()
            assert (response.status, body["code"], body["retryable"]) == (400, "invalid_request", False)
            assert body["parameter"] == parameter
            assert body["trace_id"] == response.headers["x-trace-id"]
        body = await (await client.ask("/data/v2/nothing")).json()
        assert body["code"] == "not_found"
