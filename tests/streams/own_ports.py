"""Ports for the servers that tests start by themselves.

They differ from those that `servers` chooses, and between the processes of one test run: so no other server takes a
port before its own server has started, nor while that one is down for a restart.
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
