"""The port of the pages: chosen once, held by the parent, and given to the web process at every start."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vibe.app.settings import Settings
from vibe.app.web_process import PortTakenError, WebChild, listening

CHILD = """
from vibe.app.web_process import handed_down
listener = handed_down()
peer, _ = listener.accept()
peer.sendall(str(listener.getsockname()[1]).encode())
"""


def test_two_systems_that_start_at_once_never_get_one_port(tmp_path: Path) -> None:
    first, second = WebChild(Settings(_env_file=None, data_dir=tmp_path)), None
    try:
        second = WebChild(Settings(_env_file=None, data_dir=tmp_path))
        assert first.environment["VIBE_WEB_PORT"] != second.environment["VIBE_WEB_PORT"]
        with pytest.raises(PortTakenError):
            listening("127.0.0.1", int(first.environment["VIBE_WEB_PORT"]))
    finally:
        for web in (first, second):
            if web is not None:
                web.close()
    listening("127.0.0.1", int(first.environment["VIBE_WEB_PORT"])).close()


def test_the_child_serves_on_the_parents_port_at_every_start(tmp_path: Path) -> None:
    web = WebChild(Settings(_env_file=None, data_dir=tmp_path, web_port=0))
    port = web.environment["VIBE_WEB_PORT"]
    try:
        for _ in range(2):
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD], env={**os.environ, **web.environment}, pass_fds=(web.descriptor,)
            )
            with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as client:
                client.settimeout(20)
                assert client.recv(10).decode() == port
            assert child.wait(20) == 0
    finally:
        web.close()
