"""Processes with one outgoing address pay a venue's requests from one budget; those with another have their own."""

import time
from contextlib import AsyncExitStack

from gateways.embedded import Addresses
from streams.connection import Connection
from vibe.app.settings import Settings
from vibe.app.wiring import Process

BUDGET = ("hyperliquid.quote", 10.0, 4.0)


async def test_a_second_process_waits_for_what_the_first_has_spent(running: Addresses, log: Connection) -> None:
    async with AsyncExitStack() as stack:
        first, second, elsewhere = [
            await stack.enter_async_context(
                Process(
                    Settings(_env_file=None, outgoing_address=address),
                    running.nats_url,
                    running.postgres_dsn,
                    ("group",),
                )
            )
            for address in ("shared", "shared", "frankfurt")
        ]
        await first.limiter_of(*BUDGET).spend(4)
        began = time.monotonic()
        await elsewhere.limiter_of(*BUDGET).spend(4)
        assert time.monotonic() - began < 0.3
        await second.limiter_of(*BUDGET).spend(4)
        assert time.monotonic() - began >= 0.35
