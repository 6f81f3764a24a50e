"""`vibe ops`: what operators set up beside the system: nats-server's configuration and the `nats` command line."""

from __future__ import annotations

import json as json_module
import os
import re
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from streams.login import inbox_of, key_file, shown
from streams.roles import MONITOR, OPERATOR, ROLES
from vibe.app.nats_roles import Certificate, configuration, keys_folder, make_keys, password_file
from vibe.app.servers import running_addresses
from vibe.app.settings import Settings, nats_conf
from vibe.cli.command import Json, run_command
from vibe.cli.connections import NoEventLogError
from vibe.cli.errors import CommandError, UsageError
from vibe.cli.output import print_json

app = App(name="ops", help="What operators set up: nats-server's roles, and the nats command line.")

Keys = Annotated[Path | None, Parameter(name="--keys")]


@app.command(name="nats-conf")
def ops_nats_conf(
    *, keys: Keys = None, tls_cert: Path | None = None, tls_key: Path | None = None, json: Json = False
) -> None:
    """Print the configuration of a nats-server that knows the roles of this system, and make the keys that are missing.

    Example: vibe ops nats-conf --keys /etc/vibe/keys > nats.conf

    The servers of `vibe up` and `vibe demo` use the same one. Reload a running server after a change: nats-server
    --signal reload.

    Parameters
    ----------
    keys
        the folder of the keys, ROLE.nk each; nats-keys in the data folder unless given. A process of a role needs its
        own file alone, and VIBE_NATS_URL=nats://HOST:PORT?keys=FOLDER
    tls_cert
        the server's certificate: only TLS 1.3 is taken then, and URLs are tls://HOST:PORT?keys=FOLDER&ca=FILE
    tls_key
        the certificate's private key
    """
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key belong together; give both or none")
    certificate = Certificate(tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    run_command(run_nats_conf, keys, json, certificate)


@app.command(name="context")
def ops_context(*, name: str = "vibe", url: str | None = None, keys: Keys = None, json: Json = False) -> None:
    """Write a context for the `nats` command line that only reads: streams, consumers, messages, advisories.

    Example: vibe ops context && nats --context vibe stream report

    Parameters
    ----------
    name
        how the context is called
    url
        the server; the running one of the data folder, or VIBE_NATS_URL, unless given
    keys
        the folder of the keys, which holds the operators' password; nats-keys in the data folder unless given
    """
    run_command(run_context, name, url, keys, json)


async def run_nats_conf(
    settings: Settings, keys: Path | None, json: bool, certificate: Certificate | None = None
) -> int:
    folder = keys or keys_folder(settings.data_dir)
    made = make_keys(folder)
    if made:
        names = ", ".join(made)
        Console(stderr=True).print(f"made keys in {folder}: {names}", markup=False, highlight=False, soft_wrap=True)
    text = configuration(nats_conf().read_text(), folder, certificate)
    if json:
        files = {name: str(key_file(folder, name)) for name in (*(role.name for role in ROLES), MONITOR)}
        password = str(password_file(folder))
        print_json({"configuration": text, "keys": files, "operator_password": password, "made": made})
    else:
        sys.stdout.write(text)
    return 0


async def run_context(settings: Settings, name: str, url: str | None, keys: Path | None, json: bool) -> int:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise CommandError(f"a context is called by a-z, A-Z, 0-9, - and _, not {name!r}")
    folder = keys or keys_folder(settings.data_dir)
    if keys is None and not folder.is_dir():
        raise NoEventLogError(str(settings.data_dir))
    if not password_file(folder).is_file():
        raise CommandError(f"{folder} holds no password of operators; it is made by: vibe up, or vibe ops nats-conf")
    at = url or settings.nats_url
    if at is None:
        running = running_addresses(settings.data_dir)
        if running is None:
            raise CommandError("no server runs on this data folder; start it with `vibe up`, or give --url")
        at = running.nats_url
    path = _contexts() / f"{name}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    context = {
        "description": "the event log, only to read",
        "url": shown(at),
        "user": OPERATOR,
        "password": password_file(folder).read_text().strip(),
        "inbox_prefix": inbox_of(OPERATOR),
    }
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json_module.dumps(context, indent=2) + "\n")
    if json:
        print_json({"context": name, "file": str(path), "url": context["url"], "user": OPERATOR})
    else:
        _line(f"wrote {path}; for example: nats --context {name} stream report")
    return 0


def _line(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def _contexts() -> Path:
    """Where the `nats` command line looks for contexts."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "nats" / "context"
