"""The collector: loaded objects are walked once, garbage cycles of later work are freed, and pauses are measured."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from tests.streams.deadlines import eventually
from vibe.app.collector import Collector


class Node:
    """One of two objects that refer to each other, so that only the collector can free them."""

    other: "Node"


def cycle() -> weakref.ref[Node]:
    one, two = Node(), Node()
    one.other, two.other = two, one
    return weakref.ref(one)


@pytest.fixture
def collecting() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


async def until_gone(node: weakref.ref[Node]) -> bool:
    for _ in range(200):
        if node() is None:
            return True
        await asyncio.sleep(0.01)
    return False


@pytest.mark.usefixtures("collecting")
async def test_garbage_of_work_is_freed_without_automatic_collections() -> None:
    collector = Collector(young_seconds=0.02)
    collector.start()
    assert not gc.isenabled()
    running = asyncio.create_task(collector.run())
    try:
        assert await until_gone(cycle())
        assert collector.longest_seconds > 0
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert gc.isenabled(), "the process is as it was"


@pytest.mark.usefixtures("collecting")
async def test_what_was_loaded_is_frozen_and_its_garbage_is_freed_with_the_whole_heap_in_an_idle_second() -> None:
    loaded = [[number] for number in range(20_000)]
    frozen_garbage = cycle()
    collector = Collector(young_seconds=0.01, whole_seconds=0.4)
    gc.freeze()
    collector.start()
    assert gc.get_freeze_count() >= len(loaded)
    running = asyncio.create_task(collector.run())
    try:
        await asyncio.sleep(0.1)
        assert frozen_garbage() is not None, "collections of what is not frozen do not reach it"
        assert await until_gone(frozen_garbage)
        assert gc.get_freeze_count() >= len(loaded), "and the rest is frozen again"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.usefixtures("collecting")
async def test_a_burst_of_more_objects_than_a_collection_may_walk_is_frozen_unwalked() -> None:
    collector = Collector(young_seconds=0.02, walked=1_000)
    collector.start()
    running = asyncio.create_task(collector.run())
    try:
        burst = [[number] for number in range(5_000)]
        garbage = cycle()
        await eventually(lambda: gc.get_freeze_count() >= len(burst), what="the burst is frozen")
        await asyncio.sleep(0.1)
        assert garbage() is not None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.usefixtures("collecting")
async def test_what_survives_is_frozen_before_it_is_too_much_to_walk() -> None:
    collector = Collector(young_seconds=0.01, walked=1_000)
    collector.start()
    before = gc.get_freeze_count()
    kept = []
    running = asyncio.create_task(collector.run())
    try:
        while gc.get_freeze_count() < before + 1_500:
            kept.append([[number] for number in range(100)])
            await asyncio.sleep(0.01)
            assert len(kept) < 200, "survivors are never frozen"
        assert await until_gone(cycle()), "and what comes later is collected all the same"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
