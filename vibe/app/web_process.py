"""The web process as its parent sees it: its port, and where its one-time token arrives."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from vibe.app.settings import Settings

WEB = "web"
DEFAULT_PORT = 8080
_SOCKET = "VIBE_WEB_SOCKET"
"""Names the inherited descriptor to a child."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})


class PortTakenError(Exception):
    """The port that was set is used by another program."""


def listening(host: str, wanted: int | None) -> socket.socket:
    """A listening socket: on the wanted port, else on 8080, else on a free one. Raises PortTakenError."""
    try:
        return _listening(host, DEFAULT_PORT if wanted is None else wanted)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        if wanted is not None:
            raise PortTakenError(
                f"port {wanted} of {host} is used by another program; set VIBE_WEB_PORT to another one, or to 0"
            ) from error
    return _listening(host, 0)


def _listening(host: str, port: int) -> socket.socket:
    bare = host.strip("[]")
    made = socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((bare, port))
        made.listen(1024)
    except BaseException:
        made.close()
        raise
    return made


def address_of(settings: Settings, port: int) -> str:
    """The address that a browser opens."""
    host = settings.web_host
    if host in ("0.0.0.0", "::", "[::]", ""):
        host = "127.0.0.1"
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return settings.web_public_url or f"http://{host}:{port}"


def link_of(address: str, token: str) -> str:
    """The address that signs in. The token is behind '#', which browsers send to no server."""
    return f"{address}/#/sign-in?token={token}"


def handed_down() -> socket.socket | None:
    """The listening socket that the parent opened for this process; None when it runs by itself."""
    descriptor = os.environ.get(_SOCKET)
    return None if descriptor is None else socket.socket(fileno=os.dup(int(descriptor)))


class WebChild:
    """The web process of `vibe up` and `vibe demo`. Raises PortTakenError.

    The parent opens the listening socket, and the child inherits it: no other program gets the port between the two, or
    while the child is started again.
    """

    def __init__(self, settings: Settings) -> None:
        self._listener = listening(settings.web_host, settings.web_port)
        port: int = self._listener.getsockname()[1]
        self._token_file: Path = settings.web_token_file or settings.data_dir / "web-token"
        self._token_file.unlink(missing_ok=True)
        self._address = address_of(settings, port)
        self._signs_in = settings.web_host in LOOPBACK or settings.web_token_file is not None
        self.descriptor = self._listener.fileno()
        """What the child has to inherit."""
        self.environment = {
            "VIBE_WEB_PORT": str(port),
            "VIBE_WEB_TOKEN_FILE": str(self._token_file.resolve()),
            _SOCKET: str(self.descriptor),
        }

    def close(self) -> None:
        """Give up the port, once the child has ended."""
        self._listener.close()

    def line(self) -> str:
        """What the operator is shown once the process is prepared: the address, with a link that signs in once."""
        if not self._signs_in or not self._token_file.is_file():
            return f"pages and API {self._address}"
        link = link_of(self._address, self._token_file.read_text().strip())
        return f"open {link} (signs in once, within ten minutes; then: vibe web --link)"
