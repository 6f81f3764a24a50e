"""The collector: loaded objects are walked once, garbage cycles of later work are freed, and pauses are measured."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

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
async def test_what_was_loaded_is_frozen_and_its_garbage_is_freed_with_the_whole_heap() -> None:
    loaded = [[number] for number in range(20_000)]
    one, two = Node(), Node()
    one.other, two.other = two, one
    frozen_garbage = weakref.ref(one)
    collector = Collector(young_seconds=0.01, old_seconds=0.02, whole_seconds=0.4)
    collector.start()
    assert gc.get_freeze_count() >= len(loaded)
    del one, two
    running = asyncio.create_task(collector.run())
    try:
        await asyncio.sleep(0.1)
        assert frozen_garbage() is not None, "collections of what is not frozen do not reach it"
        assert await until_gone(frozen_garbage)
        assert gc.get_freeze_count() >= len(loaded), "and the rest is frozen again"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
