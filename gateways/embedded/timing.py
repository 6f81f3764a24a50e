"""How long each step of starting and stopping servers may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """All in seconds."""

    answer_s: float = 5.0
    """An external server has to answer within this time."""
    start_s: float = 120.0
    """Both servers read their logs back before they answer; nats-server reads its whole store."""
    join_s: float = 180.0
    """A process waits this long for another one to start the servers of the folder."""
    report_every_s: float = 2.0
    """While waiting, progress is reported this often."""
    orphan_s: tuple[float, float, float] = (5.0, 15.0, 10.0)
    """A server that outlived its owner: to end by itself, after its stop signal, and after SIGKILL."""
