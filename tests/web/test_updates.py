"""Live updates: rows come once and in order, also after a lost connection, for those who may get them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from streams import subjects
from streams.append import Record, append
from streams.reader import Stored
from tests.web.browser import Browser
from tests.web.conftest import Demo, Server
from vibe.web.checks import Checks
from vibe.web.site import Site
from vibe.web.updates.client import MOST_ROWS, PROGRESS, Client, Made, Wanted
from vibe.web.updates.feed import Feed
from vibe.web.updates.topics import TOPICS


class Live:
    """One socket of live updates."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def hear(self, seconds: float = 20) -> dict[str, Any]:
        message = await self.socket.receive(timeout=seconds)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        heard: dict[str, Any] = json.loads(message.data)
        return heard

    async def rows(self, count: int, seconds: float = 40) -> list[dict[str, Any]]:
        """The next rows, at least so many."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(seconds):
            while len(found) < count:
                frame = await self.hear(seconds)
                assert "op" not in frame, frame
                found += frame["rows"]
        return found


@asynccontextmanager
async def live(browser: Browser, **headers: str) -> AsyncIterator[Live]:
    async with browser.socket("/ws/v1/updates", headers) as socket:
        yield Live(socket)


def places(rows: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(row["seq"], row["index"]) for row in rows]


async def test_rows_come_once_and_in_order_and_a_lost_connection_loses_none(demo: Demo) -> None:
    async with live(demo.browser) as first, live(demo.browser) as whole:
        for one in (first, whole):
            await one.send(op="subscribe", topic="decisions")
            begun = await one.hear()
            assert (begun["op"], begun["topic"]) == ("subscribed", "decisions")
        seen = await first.rows(5)
        after = seen[-1]["seq"]
        everything = await whole.rows(len(seen) + 15, 60)
        # Disconnected here: what comes meanwhile is read again from behind the last row.
        await first.socket.close()
        async with live(demo.browser) as again:
            await again.send(op="subscribe", topic="decisions", after=after)
            assert (await again.hear())["seq"] == after
            seen += await again.rows(10, 60)
    found = places(seen)
    assert found == sorted(set(found)), "no row twice, all in order"
    all_places = places(everything)
    begin, end = max(found[0], all_places[0]), min(found[-1], all_places[-1])
    both = [[place for place in of if begin <= place <= end] for of in (found, all_places)]
    assert both[0] == both[1] != [], "no row is missing"
    newest = seen[-1]
    page = (await demo.browser.get(f"/attempts?subscriber={newest['subscriber_id']}&limit=200")).json
    assert newest["attempt_id"] in {item["attempt_id"] for item in page["items"]}, "the read models have it already"


async def test_a_key_selects_rows_and_lag_comes_by_itself(demo: Demo) -> None:
    async with live(demo.browser) as one:
        await one.send(op="subscribe", topic="lag")
        assert (await one.hear())["op"] == "subscribed"
        frame = await one.hear()
        assert {row["stream"] for row in frame["rows"]} >= {"RAW", "EXECUTIONS"}
        await one.send(op="unsubscribe", topic="lag")
        await one.send(op="subscribe", topic="positions", key="alice", after=0)
        rows: list[dict[str, Any]] = []
        async with asyncio.timeout(40):
            while not rows:
                heard = await one.hear(40)
                rows += heard.get("rows", []) if heard.get("topic") == "positions" else []
        assert {row["subscriber_id"] for row in rows} == {"alice"}


async def test_what_is_no_message_is_explained(admin: Browser) -> None:
    async with live(admin) as one:
        await one.socket.send_str("{}")
        assert "subscribe" in (await one.hear())["detail"]
        await one.send(op="subscribe", topic="everything")
        assert "topics: decisions, trades" in (await one.hear())["detail"]
        await one.send(op="shout", topic="decisions")
        assert "use subscribe or unsubscribe" in (await one.hear())["detail"]
        for number in range(40):
            await one.send(op="subscribe", topic="decisions", key=f"s{number}")
        answers = [await one.hear() for _ in range(40)]
        assert "at most 32 subscriptions" in answers[-1]["detail"]


async def test_only_a_page_of_this_server_with_a_session_gets_a_socket(server: Server, admin: Browser) -> None:
    async with aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await stranger.ws_connect(f"{server.address}/ws/v1/updates")
        assert refused.value.status == 401
    with pytest.raises(aiohttp.WSServerHandshakeError) as foreign:
        async with live(admin, Origin="http://evil.example"):
            pass
    assert foreign.value.status == 403


async def test_a_socket_ends_with_its_session(server: Server, admin: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vibe.web.updates.socket._CHECK_SECONDS", 0.1)
    async with live(admin) as one:
        await server.site.pool.execute("TRUNCATE vibe_web.session")
        message = await one.socket.receive(timeout=10)
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert message.data == 4401


async def test_many_clients_get_the_same_rows_and_one_key_has_a_bounded_number(demo: Demo) -> None:
    key = (await demo.browser.change("POST", "/keys", {"name": "crowd", "role": "viewer"})).json["key"]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{demo.address}/ws/v1/updates"
        sockets = [await session.ws_connect(url, headers=headers) for _ in range(50)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url, headers=headers)
        assert refused.value.status == 429
        for socket in sockets:
            await socket.send_str('{"op":"subscribe","topic":"trades"}')
        heard = await asyncio.gather(*(_first_rows(socket) for socket in sockets))
        assert len(set(heard)) <= 3, "all began within a moment"
        await asyncio.gather(*(socket.close() for socket in sockets))


async def _first_rows(socket: aiohttp.ClientWebSocketResponse) -> int:
    while True:
        frame = json.loads((await socket.receive(timeout=40)).data)
        if "rows" in frame:
            place: int = frame["rows"][0]["seq"]
            return place


def made(sequence: int, identity: str | None = None) -> Made:
    return Made(sequence, "alice", identity, msgspec.Raw(b"{}"))


def test_a_slow_client_keeps_the_newest_of_each_position_and_learns_that_it_missed_decisions() -> None:
    positions = Wanted(TOPICS["positions"], "")
    positions.put([made(number, "alice BTC") for number in range(1, 9)], 8)
    (frame,) = positions.take()
    assert json.loads(frame)["seq"] == 8
    assert len(json.loads(frame)["rows"]) == 1
    decisions = Wanted(TOPICS["decisions"], "")
    decisions.put([made(number) for number in range(1, MOST_ROWS + 2)], MOST_ROWS + 1)
    (frame,) = decisions.take()
    assert json.loads(frame) == {"op": "reset", "topic": "decisions", "key": "", "seq": MOST_ROWS + 1}
    decisions.put([made(MOST_ROWS + 2)], MOST_ROWS + 2)
    (frame,) = decisions.take()
    assert json.loads(frame)["seq"] == MOST_ROWS + 2


def test_rows_that_were_sent_are_not_sent_again() -> None:
    wanted = Wanted(TOPICS["trades"], "alice")
    wanted.sent = 5
    assert not wanted.put([made(4), made(5)], 5)
    assert wanted.put([made(5), made(6)], 6)
    (frame,) = wanted.take()
    assert len(json.loads(frame)["rows"]) == 1


def test_a_subscription_without_rows_learns_how_far_the_stream_was_looked_at() -> None:
    wanted = Wanted(TOPICS["decisions"], "rare")
    assert not wanted.put([made(PROGRESS - 1)], PROGRESS - 1)
    assert list(wanted.take()) == []
    assert wanted.put([], PROGRESS)
    (frame,) = wanted.take()
    assert json.loads(frame) == {"topic": "decisions", "key": "rare", "seq": PROGRESS, "rows": []}
    assert list(wanted.take()) == []


async def test_a_failed_look_at_the_session_is_made_again_and_keeps_nothing_alive(
    server: Server, admin: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vibe.web.updates.socket._CHECK_SECONDS", 0.1)
    looked, real = 0, Checks.identity

    async def once_away(self: Checks, request: aiohttp.web.Request, *, seen: bool = True) -> Any:
        nonlocal looked
        looked += not seen
        if not seen and looked == 1:
            raise ConnectionError("Postgres is away")
        return await real(self, request, seen=seen)

    monkeypatch.setattr(Checks, "identity", once_away)
    async with live(admin) as one:
        await server.site.pool.execute("UPDATE vibe_web.session SET seen_at = now() - interval '11 hours 59 minutes'")
        await asyncio.sleep(0.5)
        assert looked >= 2
        idle = await server.site.pool.fetchval(
            "SELECT min(now() - seen_at) > interval '11 hours' FROM vibe_web.session"
        )
        assert idle, "an open socket does not count as use"
        await server.site.pool.execute("UPDATE vibe_web.session SET seen_at = now() - interval '13 hours'")
        message = await one.socket.receive(timeout=10)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4401)


async def test_a_follower_that_ended_is_replaced_and_no_row_is_lost(site: Site) -> None:
    feed, client = Feed(site), Client()
    feed.clients.add(client)
    try:
        await feed.subscribe(client, TOPICS["decisions"], "", None)
        (follower,) = feed._followers.values()

        async def failing(batch: list[Stored]) -> None:
            raise RuntimeError("a hole in the stream")

        follower._following._take = failing
        await append(site.connection, [Record(subjects.executions("sam"), b"{}")])
        async with asyncio.timeout(10):
            while feed._followers.get("EXECUTIONS") in (None, follower):
                await asyncio.sleep(0.02)
            await feed._followers["EXECUTIONS"].started
            frames: list[dict[str, Any]] = []
            while len(frames) < 2:
                await client.waiting.wait()
                frames += [json.loads(frame) for frame in client.take()]
        assert [frame["op"] for frame in frames] == ["subscribed", "subscribed"]
        assert frames[0]["seq"] == frames[1]["seq"], "it goes on behind what was sent"
    finally:
        await feed.close()
