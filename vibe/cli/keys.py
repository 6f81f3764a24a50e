"""`vibe keys`: the keystore of agents that sign orders. No command shows a key, and none takes one as an argument."""

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from gateways.hyperliquid.signing import SigningKey
from gateways.keys.errors import KeysError
from gateways.keys.key_files import read_key_file
from gateways.keys.keystore import Keystore, read
from gateways.keys.sources import PASSWORD, password_of, secret_in
from vibe.app.settings import Settings
from vibe.cli.command import Json, run_command
from vibe.cli.errors import CommandError
from vibe.cli.output import print_json, show, table

app = App(name="keys", help="The keys of agents that trade: encrypted in one keystore.")

AgentName = Annotated[str, Parameter(name="NAME")]
KeyFile = Annotated[Path, Parameter(name="--key-file")]
PasswordFile = Annotated[Path | None, Parameter(name="--password-file")]


@app.command(name="add")
def keys_add(name: AgentName, /, *, key_file: KeyFile, password_file: PasswordFile = None, json: Json = False) -> None:
    """Seal an agent's key in the keystore under a name, which accounts of the configuration refer to.

    Example: vibe keys add alice-agent --key-file agent.key

    The file holds a private key in hexadecimal on one line, or is a keystore of version 3. The first key makes the
    keystore: its password comes from VIBE_KEYSTORE_PASSWORD_FILE, else VIBE_KEYSTORE_PASSWORD, else a prompt.

    Parameters
    ----------
    name
        how the key is called; a name that exists is refused, see `vibe keys rotate`
    key_file
        the file with the key; delete it afterwards
    password_file
        the password of a keystore of version 3; a prompt asks for it unless given
    """
    run_command(run_add, name, key_file, password_file, json)


@app.command(name="list")
def keys_list(*, json: Json = False) -> None:
    """The names of the keystore, with their agents' addresses; needs no password.

    Example: vibe keys list --json
    """
    run_command(run_list, json)


@app.command(name="rotate")
def keys_rotate(
    name: Annotated[str | None, Parameter(name="NAME")] = None,
    /,
    *,
    key_file: Annotated[Path | None, Parameter(name="--key-file")] = None,
    password_file: PasswordFile = None,
    new_password_file: Annotated[Path | None, Parameter(name="--new-password-file")] = None,
    json: Json = False,
) -> None:
    """Put another key in the place of one, or, without a name, seal all keys under a new password.

    Example: vibe keys rotate alice-agent --key-file new.key

    Stages read keys when they start: restart `vibe up`, or the process that runs `execute`, afterwards.

    Parameters
    ----------
    name
        whose key is replaced; none: the password of the keystore is
    key_file
        the file with the new key
    password_file
        the password of a new key in a keystore of version 3
    new_password_file
        the keystore's new password; a prompt asks for it unless given
    """
    run_command(run_rotate, name, key_file, password_file, new_password_file, json)


@app.command(name="remove")
def keys_remove(name: AgentName, /, *, json: Json = False) -> None:
    """Forget a key. Orders of the accounts that refer to it are refused from the next start of `execute` on.

    Example: vibe keys remove alice-agent

    Revoke the agent at the venue too, and never approve the same key again.

    Parameters
    ----------
    name
        whose key
    """
    run_command(run_remove, name, json)


async def run_add(settings: Settings, name: str, key_file: Path, password_file: Path | None, json: bool) -> int:
    """Raises CommandError when the name is taken or the file holds no key."""
    try:
        store = Keystore.open(settings.keystore_path, _password(settings, new=True), create=True)
        if name in store.entries:
            raise CommandError(f"the keystore holds a key {name!r} already; to replace it: vibe keys rotate {name}")
        key = _key_in(key_file, password_file)
        for other, entry in store.entries.items():
            if entry.address == key.address:
                raise CommandError(f"the same key is in the keystore as {other!r}; use that name, or a key of its own")
        store.put(name, key)
    except KeysError as error:
        raise CommandError(str(error)) from None
    _done(json, name, key.address, f"sealed the key {name} of the agent {key.address} in {store.path}")
    return 0


async def run_list(settings: Settings, json: bool) -> int:
    """Raises CommandError when the file is no keystore; without a file there is no key."""
    path = settings.keystore_path
    try:
        entries = read(path).keys if path.exists() else {}
    except KeysError as error:
        raise CommandError(str(error)) from None
    if json:
        found = [{"name": name, "address": one.address, "added_at": one.added_at} for name, one in entries.items()]
        print_json({"keystore": str(path), "keys": found})
    elif not entries:
        Console().print("the keystore holds no key; add one: vibe keys add NAME --key-file FILE")
    else:
        made = table("name", "agent", "added")
        for name, one in entries.items():
            made.add_row(name, one.address, one.added_at)
        show(made)
    return 0


async def run_rotate(
    settings: Settings,
    name: str | None,
    key_file: Path | None,
    password_file: Path | None,
    new_password_file: Path | None,
    json: bool,
) -> int:
    """Raises CommandError when there is no such key, or the file holds none."""
    if (name is None) != (key_file is None):
        raise CommandError("vibe keys rotate takes NAME and --key-file, or neither to change the password")
    try:
        store = Keystore.open(settings.keystore_path, _password(settings))
        if name is None or key_file is None:
            store.change_password(secret_in(new_password_file) if new_password_file else _asked(new=True))
            count = len(store.entries)
            _done(json, None, None, f"sealed {count} keys of {store.path} under the new password")
            return 0
        if name not in store.entries:
            raise CommandError(f"the keystore holds no key {name!r}; see: vibe keys list")
        key = _key_in(key_file, password_file)
        if key.address == store.entries[name].address:
            raise CommandError(f"{key_file} holds the key that {name!r} has already; approve a new agent at the venue")
        store.put(name, key)
    except KeysError as error:
        raise CommandError(str(error)) from None
    _done(json, name, key.address, f"{name} is the agent {key.address} from now on; restart what runs `execute`")
    return 0


async def run_remove(settings: Settings, name: str, json: bool) -> int:
    """Raises CommandError when there is no such key."""
    try:
        removed = Keystore.open(settings.keystore_path, _password(settings)).remove(name)
    except KeysError as error:
        raise CommandError(str(error)) from None
    _done(json, name, removed.address, f"removed {name}; revoke the agent {removed.address} at the venue too")
    return 0


def _done(json: bool, name: str | None, address: str | None, text: str) -> None:
    if json:
        print_json({"name": name, "address": address})
    else:
        Console().print(text, markup=False, highlight=False, soft_wrap=True)


def _key_in(path: Path, password_file: Path | None) -> SigningKey:
    return read_key_file(path, lambda: secret_in(password_file) if password_file else _asked(f"password of {path}: "))


def _password(settings: Settings, *, new: bool = False) -> str:
    if settings.keystore_password_file is not None or os.environ.get(PASSWORD):
        return password_of(settings)
    return _asked(new=new and not settings.keystore_path.exists())


def _asked(prompt: str = "password of the keystore: ", *, new: bool = False) -> str:
    """A password from the terminal, asked for twice when it is new. Raises CommandError without a terminal."""
    if not sys.stdin.isatty():
        raise CommandError(
            f"there is no terminal to ask for the password: set VIBE_KEYSTORE_PASSWORD_FILE, or {PASSWORD}"
        )
    password = getpass.getpass(f"new {prompt}" if new else prompt)
    if new and password != getpass.getpass("the same again: "):
        raise CommandError("the two passwords differ; nothing was changed")
    if not password:
        raise CommandError("the password is empty; nothing was changed")
    return password
