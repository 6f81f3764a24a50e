"""The Data API's client against a local server with the venue's traps: caches, cursors, drifting offsets."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from msgspec import Raw

from gateways.polymarket.activity import numbered, parse_activity
from gateways.polymarket.data_api import DataApi, Status
from gateways.polymarket.positions import parse_positions, parse_value
from gateways.venue_errors import VenueUnavailableError, WireError
from tests.gateways.test_http_client import LocalServer, client, reply, serving
from tests.gateways.test_polymarket_activity import MARKET, v1

WALLET = "0x" + "ab" * 20
START = 1_784_059_201
Row = dict[str, Any]


def rows(count: int, *, per_second: int = 1, first: int = 0) -> list[Row]:
    """`count` different trades, oldest first."""
    return [
        json.loads(v1(timestamp=START + number // per_second, transactionHash=f"0x{number:064x}"))
        for number in range(first, first + count)
    ]


def numbers(found: Sequence[Raw]) -> list[int]:
    return [int(parse_activity(bytes(row)).transaction, 16) for row in found]


class Version2:
    """Keyset pages behind a cursor that starts again when a filter changes, and a cache without expiry."""

    def __init__(self, held: list[Row], *, newest_first: bool = False, page_rows: int = 3) -> None:
        self.held = held
        self._newest_first = newest_first
        self._page_rows = page_rows
        self._cache: dict[str, web.Response] = {}
        self.cached = 0

    def __call__(self, request: web.Request) -> web.Response:
        if request.query_string in self._cache:
            self.cached += 1
            return web.Response(body=self._cache[request.query_string].body)
        answer = self._cache[request.query_string] = self._answer(dict(request.query))
        return answer

    def _answer(self, query: dict[str, str]) -> web.Response:
        query.pop("_", None)
        cursor = query.pop("cursor", "0|")
        filters = json.dumps(sorted(query.items()))
        at, _, bound_to = cursor.partition("|")
        offset = int(at) if bound_to == filters else 0
        low, high = int(query["start"]), int(query.get("end", 10**10))
        wanted = [row for row in self.held if low <= row["timestamp"] <= high]
        wanted = wanted[::-1] if self._newest_first else wanted
        last = offset + self._page_rows
        pagination = {
            "limit": int(query["limit"]),
            "offset": 0,
            "has_more": last < len(wanted),
            "next_cursor": f"{last}|{filters}" if last < len(wanted) else None,
        }
        return web.json_response({"data": wanted[offset:last], "pagination": pagination})


class Version1:
    """Pages by offset over rows that grow while they are read, 400 past offset 3000."""

    def __init__(self, held: list[Row], *, newest_first: bool, growing: list[Row] | None = None) -> None:
        self.held = held
        self._newest_first = newest_first
        self._growing = growing or []

    def __call__(self, request: web.Request) -> web.Response:
        query = request.query
        offset = int(query["offset"])
        if offset >= 3000:
            return web.json_response({"error": "max historical activity offset of 3000 exceeded"}, status=400)
        low, high = int(query["start"]), int(query["end"])
        wanted = [row for row in self.held if low <= row["timestamp"] <= high]
        wanted = wanted[::-1] if self._newest_first else wanted
        if self._growing:
            self.held.append(self._growing.pop(0))
        return web.json_response(wanted[offset : offset + int(query["limit"])])


def api(ask: Any, server: LocalServer) -> DataApi:
    return DataApi(ask, f"{server.url}/data/")


# --- version 2 -----------------------------------------------------------------------------------------------


async def test_activity_is_complete_and_oldest_first() -> None:
    async with serving() as server, client() as ask:
        server.on("/data/v2/activity", Version2(rows(10)))
        found = await api(ask, server).activity(WALLET.upper().replace("X", "x"), START)
        assert numbers(found) == list(range(10))
        assert len(server.asked) == 4
        assert set(server.values("user")) == {WALLET}
        assert set(server.values("sort_direction")) == {"ASC"}
        assert set(server.values("exclude_deposits_withdrawals")) == {"false"}
        types = set(server.values("type")[0].split(","))
        assert {"TRADE", "SPLIT", "MERGE", "REDEEM", "CONVERSION", "MIGRATION", "DEPOSIT", "TIP"} <= types
        assert set(server.values("next_cursor")) == {""}


async def test_the_window_includes_both_ends() -> None:
    async with serving() as server, client() as ask:
        server.on("/data/v2/activity", Version2(rows(10)))
        found = await api(ask, server).activity(WALLET, START + 2, START + 6)
        assert numbers(found) == [2, 3, 4, 5, 6]


async def test_trades_show_dust_and_maker_fills_oldest_first() -> None:
    async with serving() as server, client() as ask:
        server.on("/data/v2/trades", Version2(rows(7), newest_first=True))
        assert numbers(await api(ask, server).trades(WALLET, START)) == list(range(7))
        assert set(server.values("taker_only")) == {"false"}
        assert set(server.values("filter_type")) == {"TOKENS"}
        assert all(0 < float(value) < 0.01 for value in server.values("filter_amount"))


async def test_no_request_is_ever_repeated_so_that_no_cache_answers() -> None:
    async with serving() as server, client() as ask:
        venue = Version2(rows(2))
        server.on("/data/v2/activity", venue)
        data = api(ask, server)
        assert numbers(await data.activity(WALLET, START)) == [0, 1]
        venue.held += rows(1, first=2)
        assert numbers(await data.activity(WALLET, START)) == [0, 1, 2]
        assert venue.cached == 0
        assert len(set(server.values("_"))) == len(server.asked)
        assert "" not in server.values("_")


async def test_ids_do_not_depend_on_the_page_size() -> None:
    held = [row for row in rows(4) for _ in range(3)]
    ids = []
    for page_rows in (1, 5, 100):
        async with serving() as server, client() as ask:
            server.on("/data/v2/activity", Version2(held, page_rows=page_rows))
            ids.append([key for key, _ in numbered(await api(ask, server).activity(WALLET, START))])
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids[0])) == 12


async def test_a_repeated_cursor_is_an_error() -> None:
    async with serving() as server, client() as ask:
        body = {"data": rows(1), "pagination": {"has_more": True, "next_cursor": "round"}}
        server.on("/data/v2/activity", reply(body))
        with pytest.raises(WireError, match="the cursor 'round' a second time"):
            await api(ask, server).activity(WALLET, START)
        assert len(server.asked) == 2


async def test_an_incomplete_set_of_pages_is_an_error() -> None:
    async with serving() as server, client(attempts=2) as ask:
        body = {"data": rows(1), "pagination": {"has_more": True, "next_cursor": "next"}}
        server.on(
            "/data/v2/activity",
            reply(body),
            reply({}, 500),
            reply({}, 500),
            reply(body),
            reply({}, 404),
        )
        for _ in range(2):
            with pytest.raises(VenueUnavailableError):
                await api(ask, server).activity(WALLET, START)


async def test_rate_limits_between_pages_lose_nothing() -> None:
    async with serving() as server, client() as ask:
        venue = Version2(rows(5), page_rows=2)
        server.on("/data/v2/activity", venue, reply({}, 429, Retry_After="0"), venue, reply({}, 503), venue)
        assert numbers(await api(ask, server).activity(WALLET, START)) == list(range(5))


@pytest.mark.parametrize("body", [None, 5, {"data": 5}, [1, 2], {"error": "x"}])
async def test_hostile_answers_are_refused_or_raw(body: Any) -> None:
    async with serving() as server, client() as ask:
        server.on("/data/v2/activity", reply(body))
        if isinstance(body, list):
            assert await api(ask, server).activity(WALLET, START) == [Raw(b"1"), Raw(b"2")]
        else:
            with pytest.raises(WireError):
                await api(ask, server).activity(WALLET, START)


@pytest.mark.parametrize("wallet", ["", "0x12", f"{WALLET},{WALLET}", WALLET[2:]])
async def test_a_wallet_must_be_one_address(wallet: str) -> None:
    async with serving() as server, client() as ask:
        for question in (api(ask, server).activity(wallet, 1), api(ask, server).trades(wallet, 1)):
            with pytest.raises(WireError, match="not an address"):
                await question
        assert server.asked == []


# --- version 1 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "per_second"), [(0, 1), (3, 1), (500, 1), (1700, 7), (1700, 400), (4100, 1300)])
async def test_version_one_activity_is_complete_without_deep_offsets(count: int, per_second: int) -> None:
    async with serving() as server, client() as ask:
        server.on("/data/activity", Version1(rows(count, per_second=per_second), newest_first=False))
        found = await api(ask, server).activity(WALLET, START, START + count)
        assert numbers(found) == list(range(count))
        assert max(int(offset or 0) for offset in server.values("offset")) < 3000
        assert set(server.values("limit")[1:]) == {"500"}
        assert "MIGRATION" not in server.values("type")[1].split(",")


@pytest.mark.parametrize(("count", "per_second"), [(1200, 1), (1200, 90), (3000, 1100)])
async def test_version_one_trades_neither_repeat_nor_miss_what_shifts(count: int, per_second: int) -> None:
    """New fills come with every request: by offset, each would repeat the last row of the page before."""
    held = rows(count, per_second=per_second)
    growing = rows(50, per_second=per_second, first=count + per_second)
    async with serving() as server, client() as ask:
        server.on("/data/trades", Version1(held, newest_first=True, growing=growing))
        found = await api(ask, server).trades(WALLET, START, START + count)
        got = numbers(found)
        assert len(set(got)) == len(got)
        assert sorted(got)[:count] == list(range(count))
        seconds = [parse_activity(bytes(row)).event_time for row in found]
        assert seconds == sorted(seconds)
        assert set(server.values("takerOnly")[1:]) == {"false"}


async def test_a_second_that_offsets_cannot_finish_is_an_error_not_a_loss() -> None:
    async with serving() as server, client() as ask:
        server.on("/data/activity", Version1(rows(3001, per_second=5000), newest_first=False))
        with pytest.raises(WireError, match="more rows than offsets reach"):
            await api(ask, server).activity(WALLET, START, START + 1)


async def test_a_version_one_that_ignores_the_window_is_refused() -> None:
    async with serving() as server, client() as ask:
        server.on("/data/activity", reply(rows(500)))
        with pytest.raises(WireError, match="sent a row of second"):
            await api(ask, server).activity(WALLET, START + 600, START + 700)


async def test_without_either_version_the_url_is_wrong() -> None:
    async with serving() as server, client() as ask:
        for question in (api(ask, server).activity(WALLET, 1), api(ask, server).positions(WALLET)):
            with pytest.raises(WireError, match="is this a Data API"):
                await question


# --- positions, value, status --------------------------------------------------------------------------------


def position(number: int) -> Row:
    return {"asset": str(number + 1), "conditionId": MARKET, "size": 0.5, "avgPrice": 0.25}


@pytest.mark.parametrize("count", [0, 1, 500, 501, 1234])
async def test_positions_are_all_pages_in_one_array(count: int) -> None:
    def answer(request: web.Request) -> web.Response:
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        return web.json_response([position(number) for number in range(count)][offset : offset + limit])

    async with serving() as server, client() as ask:
        server.on("/data/positions", answer)
        payload = await api(ask, server).positions(WALLET)
        held = parse_positions(payload).positions
        assert [one.asset for one in held] == [str(number + 1) for number in range(count)]
        assert set(server.values("sizeThreshold")) == {"0"}
        assert len(set(server.values("_"))) == len(server.asked)


async def test_a_position_that_closes_between_two_pages_hides_no_other() -> None:
    held = [position(number) for number in range(900)]

    def answer(request: web.Request) -> web.Response:
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        page = held[offset : offset + limit]
        del held[:20]
        return web.json_response(page)

    async with serving() as server, client() as ask:
        server.on("/data/positions", answer)
        assert len(parse_positions(await api(ask, server).positions(WALLET)).positions) == 900


async def test_positions_of_version_two_where_there_is_no_other() -> None:
    row = {"token_id": "7", "condition_id": MARKET, "current_size": 2, "avg_price": None}
    async with serving() as server, client() as ask:
        server.on("/data/v2/positions", reply({"data": [row], "pagination": {"has_more": False}}))
        assert [one.asset for one in parse_positions(await api(ask, server).positions(WALLET)).positions] == ["7"]


async def test_a_value_is_returned_as_served() -> None:
    async with serving() as server, client() as ask:
        data = api(ask, server)
        assert await data.value(WALLET) == b"null"
        server.on("/data/v2/value", reply({"data": {"proxy_wallet": WALLET, "value": 2481.2971}}))
        assert parse_value(await data.value(WALLET)) == 2_481_297_100
        server.on("/data/value", reply([{"user": WALLET, "value": 123.45}]))
        assert await data.value(WALLET) == json.dumps([{"user": WALLET, "value": 123.45}]).encode()


async def test_the_status_has_the_newest_block_that_is_complete() -> None:
    ingestion = {"cursors": {}, "lagging": [], "max_synced_block": 91_145_440, "min_synced_block": 91_145_435}
    async with serving() as server, client() as ask:
        server.on(
            "/data/v2/status",
            reply({"data": {"serving": {"lag_seconds": 4.5, "worst": "trades"}, "ingestion": ingestion}}),
            reply({"data": {"serving": {"lag_seconds": 4}, "ingestion": {"max_synced_block": 7}}}),
            reply({"data": {"ingestion": {}}}),
            reply({"data": {}}),
        )
        data = api(ask, server)
        assert await data.status() == Status(91_145_435, 4.5)
        assert await data.status() == Status(7, 4.0)
        for _ in range(2):
            with pytest.raises(WireError):
                await data.status()
