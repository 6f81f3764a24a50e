"""Following CONFIG: loaded whole, then live; and as it was at any earlier sequence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from domain.events import Status, Venue
from handlers.group import Group
from handlers.live.configuration import LiveConfiguration, directory_at
from handlers.live.event_codec import codec
from handlers.match import Match
from handlers.normalize import Normalize
from handlers.plan import Plan
from handlers.quote import Quote
from handlers.services.config_import import import_lines
from streams.append import Record, append
from streams.connection import Connection, connect
from streams.processing.stage import Stage
from tests.handlers.folding import ALICE, BOB, LINES, NOW
from tests.streams.deadlines import eventually
from tests.streams.own_server import own_server


@asynccontextmanager
async def following(log: Connection) -> AsyncIterator[LiveConfiguration]:
    configuration = LiveConfiguration(log, codec())
    await configuration.start()
    try:
        yield configuration
    finally:
        await configuration.close()


def influencer(name: str, address: str, status: str = "active") -> str:
    return (
        f'{{"kind":"influencer","id":"{name}","venue":"hyperliquid","addresses":["{address}"],"status":"{status}",'
        '"on_close":"abandon"}'
    )


async def test_changes_take_effect_while_it_runs(log: Connection) -> None:
    first = await import_lines(log, LINES, actor="tests", now=NOW)
    heard: list[int] = []
    async with following(log) as configuration:
        configuration.on_change(lambda: heard.append(configuration.sequence))
        assert configuration.sequence == first.sequence
        assert configuration.directory.followed(Venue.HYPERLIQUID) == {ALICE: "alice"}
        second = await import_lines(
            log, [influencer("alice", ALICE, "closed"), influencer("bob", BOB)], actor="tests", now=NOW + 1
        )
        await asyncio.wait_for(configuration.reached(second.sequence), 10)
        assert configuration.directory.followed(Venue.HYPERLIQUID) == {BOB: "bob"}
        assert configuration.directory.influencers["alice"].status is Status.CLOSED
        await eventually(lambda: heard[-1:] == [second.sequence], what="the listener")

        before = await configuration.at(first.sequence)
        assert before.followed(Venue.HYPERLIQUID) == {ALICE: "alice"}
        assert configuration.sequence == second.sequence


async def test_reached_waits_and_watch_ends_with_stop(log: Connection) -> None:
    async with following(log) as configuration:
        assert configuration.sequence == 0
        waiting = asyncio.create_task(configuration.reached(3))
        stop = asyncio.Event()
        watching = asyncio.create_task(configuration.watch(stop))
        await import_lines(log, LINES[:2], actor="tests", now=NOW)
        await eventually(lambda: configuration.sequence == 2)
        assert not waiting.done()
        await import_lines(log, LINES[2:3], actor="tests", now=NOW)
        await asyncio.wait_for(waiting, 10)
        stop.set()
        await asyncio.wait_for(watching, 10)


async def test_a_start_loads_the_same_as_following(log: Connection) -> None:
    async with following(log) as live:
        for number, line in enumerate(LINES):
            await import_lines(log, [line], actor="tests", now=NOW + number)
        end = (await log.api("STREAM.INFO.CONFIG"))["state"]["last_seq"]
        await asyncio.wait_for(live.reached(end), 10)
        async with following(log) as fresh:
            assert fresh.sequence == live.sequence
            parts = (
                "influencers",
                "subscribers",
                "subscriptions",
                "guardrails",
                "policies",
                "active_since",
                "resumed_at",
                "influencers_resumed_at",
            )
            for part in parts:
                assert getattr(fresh.directory, part) == getattr(live.directory, part)
        whole, reached = await directory_at(log, codec())
        assert reached == end
        assert whole.subscriptions == live.directory.subscriptions


async def test_following_continues_after_the_server_was_killed(tmp_path: Path) -> None:
    async with own_server(tmp_path) as server:
        log = await connect(server.url, "follows")
        async with following(log) as configuration:
            await server.kill()
            await server.start()
            other = await connect(server.url, "writes")
            written = await import_lines(other, LINES, actor="tests", now=NOW)
            await asyncio.wait_for(configuration.reached(written.sequence), 15)
            assert configuration.directory.followed(Venue.HYPERLIQUID) == {ALICE: "alice"}
            await other.close()
        await log.close()


@pytest.mark.parametrize("junk", [b"junk", b"\xff\xfe", b'{"specversion":"1.0","type":"x.y"}'])
async def test_unreadable_events_of_config_are_skipped(log: Connection, junk: bytes) -> None:
    await append(log, [Record("config.influencer.x", junk)])
    async with following(log) as configuration:
        await append(log, [Record("config.influencer.x", junk)])
        written = await import_lines(log, LINES, actor="tests", now=NOW)
        await asyncio.wait_for(configuration.reached(written.sequence), 5)


async def test_the_sequence_never_lags_behind_the_configuration(log: Connection) -> None:
    async with following(log) as configuration, configuration._moved:  # as if those who wait were being notified
        await import_lines(log, LINES, actor="tests", now=NOW)
        await eventually(lambda: bool(configuration.directory.influencers), what="the change")
        assert configuration.sequence > 0


@pytest.mark.parametrize("stage", [Normalize, Group, Quote, Match, Plan])
def test_a_stage_that_names_a_configuration_in_its_checkpoint_waits_for_it(stage: type[Stage[Any]]) -> None:
    assert ("config_sequence" in vars(stage)) is ("config_reached" in vars(stage))
