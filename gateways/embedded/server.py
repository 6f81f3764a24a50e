"""What starting, watching and stopping needs to know about a kind of server."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateways.embedded.folder import Running
from gateways.embedded.process import Command

Progress = Callable[[str], None]
"""Gets a line of text for the operator."""


class Server(Protocol):
    """One kind of server, in one data folder."""

    @property
    def name(self) -> str:
        """Its name in messages and in servers.json."""

    @property
    def setting(self) -> str:
        """The setting that puts an external server in its place."""

    @property
    def data(self) -> Path:
        """Its folder, which is one of its command line arguments."""

    @property
    def pid_file(self) -> Path:
        """Where it writes its process number."""

    @property
    def stop_signal(self) -> signal.Signals:
        """The signal on which it stops soon, with everything on disk."""

    @property
    def default_ports(self) -> tuple[int, ...]:
        """The ports it takes when they are free."""

    async def prepare(self, progress: Progress) -> None:
        """Prepare its folder for a start. Raises ServerError when that fails."""

    def command(self, ports: tuple[int, ...]) -> Command:
        """The command that starts it on these ports."""

    async def unready(self, running: Running) -> str | None:
        """None when it serves this folder on these ports, else what is missing."""
