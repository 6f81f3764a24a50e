"""Ports for the servers that tests start by themselves.

Apart from those that `servers` chooses, and different in every process of one test run: so nobody takes a port between
its choice and its server's start, nor while its server is away for a restart.
"""

import os
import random

from gateways.embedded.ports import free

EACH = 500


def own_ports(count: int) -> list[int]:
    """Free ports, at random."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 10_000 + EACH * (process % 20)
    return random.sample([port for port in range(first, first + EACH) if free(port)], count)
