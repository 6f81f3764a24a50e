"""Which TCP ports of 127.0.0.1 a server gets.

A free port can be taken right afterwards when two folders start at once, so the choice is a guess: the restart loop
tries again when a server could not bind.
"""

import random
import socket

HOST = "127.0.0.1"
# Below the ports that the system gives to outgoing connections (32768 and up on Linux, 49152 on macOS): while a server
# is away for a restart, no other program is given its port, and a client that reconnects does not connect to itself.
FALLBACK = range(20_000, 30_000)


def choose(defaults: tuple[int, ...], last: tuple[int, ...]) -> tuple[int, ...]:
    """One free port for each default: the last one used, else the default, else any."""
    chosen: list[int] = []
    for index, default in enumerate(defaults):
        candidates = [*last[index : index + 1], default, *random.sample(FALLBACK, 200)]
        chosen.append(next(port for port in candidates if port not in chosen and free(port)))
    return tuple(chosen)


def free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do: connections of a former server that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
