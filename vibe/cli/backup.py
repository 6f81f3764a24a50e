"""`vibe backup`: encrypted backups of the log, and of what Postgres holds beside it."""

from __future__ import annotations

import time
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console

from projections.engine.sessions import COMMAND_SECONDS, open_pool
from streams.connection import connect
from streams.roles import ADMIN, BACKUP
from vibe.app.settings import Settings
from vibe.backup.drill import Drill, drill
from vibe.backup.encryption import read_key
from vibe.backup.restoring import problems_of, restore_streams, restore_tables
from vibe.backup.retention import taken_at
from vibe.backup.sets import BackupSets, Manifest
from vibe.backup.taking import take_backup
from vibe.cli.command import Json, run_command
from vibe.cli.connections import NoEventLogError, open_connections, open_servers
from vibe.cli.errors import CommandError
from vibe.cli.output import print_json, progress_reporter, show, table
from vibe.web.store import prepare

app = App(name="backup", help="Encrypted backups of the log, and of what Postgres holds beside it.")

SetName = Annotated[str | None, Parameter(name="SET")]


@app.command(name="run")
def backup_run(*, json: Json = False) -> None:
    """Take a backup of the running system, check that no stream has a hole, and remove what is not kept any more.

    Example: vibe backup run --json

    Kept are the newest of each of the last 7 days and of each of the last 4 weeks. The first run makes the key that
    encrypts them; keep a copy of it elsewhere.
    """
    run_command(run_backup, json)


@app.command(name="list")
def backup_list(*, json: Json = False) -> None:
    """Every complete backup, oldest first.

    Example: vibe backup list --json
    """
    run_command(run_list, json)


@app.command(name="verify")
def backup_verify(name: SetName = None, /, *, json: Json = False) -> None:
    """Read a backup whole: every file is there, genuine and undamaged, and no stream has a hole.

    Example: vibe backup verify 20261120T030000Z

    Exit code 1 when something is wrong. `vibe backup drill` restores it too.

    Parameters
    ----------
    name
        its name in `vibe backup list`; the newest unless given
    """
    run_command(run_verify, name, json)


@app.command(name="restore")
def backup_restore(name: SetName = None, /, *, json: Json = False) -> None:
    """Restore a backup into an empty log, with the same sequences and times; read models are rebuilt at the next start.

    Example: vibe backup restore

    Set VIBE_DATA_DIR to a new folder, and VIBE_BACKUP_URL and VIBE_BACKUP_KEY_FILE to those of the old one.

    Every stream is read back; exit code 1 when one is not as it was.

    Parameters
    ----------
    name
        its name in `vibe backup list`; the newest unless given
    """
    run_command(run_restore, name, json)


@app.command(name="drill")
def backup_drill(
    name: SetName = None,
    /,
    *,
    traces: Annotated[int, Parameter(validator=Number(gte=0))] = 10,
    json: Json = False,
) -> None:
    """Restore a backup into a temporary folder, rebuild the read models, and make random decisions again.

    Example: vibe backup drill --json

    Exit code 1 when a digest differs or a decision does not come out equal.

    Parameters
    ----------
    name
        its name in `vibe backup list`; the newest unless given
    traces
        how many decisions to trace and to make again
    """
    run_command(run_drill, name, traces, json)


async def run_backup(settings: Settings, json: bool) -> int:
    async with open_connections(settings, json=json, role=BACKUP) as at:
        made = not settings.backup_key.exists()
        sets = BackupSets(settings.backup, read_key(settings.backup_key, create=True))
        if made:
            progress_reporter(False)(f"made the key {settings.backup_key}: no backup can be read without it, copy it")
        manifest = await take_backup(
            sets,
            at.connection,
            at.addresses.nats_url,
            at.database,
            now_ns=time.time_ns(),
            progress=progress_reporter(True),
        )
    removed = await sets.prune()
    if json:
        print_json({"ok": True, "backup": sets.url, "set": manifest.name, **_facts(manifest), "removed": removed})
    else:
        _line(f"{manifest.name} in {sets.url}: {_summary(manifest)}")
    return 0


async def run_list(settings: Settings, json: bool) -> int:
    sets = _sets(settings)
    manifests = [await sets.manifest(name) for name in await sets.names()]
    if json:
        print_json({"backup": sets.url, "sets": [{"set": one.name, **_facts(one)} for one in manifests]})
        return 0
    made = table("set", "age", "messages", "bytes", "version")
    for one in manifests:
        hours = (time.time() - taken_at(one.name).timestamp()) / 3600
        size = sum(part.bytes for part in one.streams)
        made.add_row(one.name, f"{hours:,.1f} h", f"{_messages(one):,}", f"{size:,}", one.version)
    show(made)
    return 0


async def run_verify(settings: Settings, name: str | None, json: bool) -> int:
    sets = _sets(settings)
    manifest = await sets.manifest(name or await sets.newest())
    problems = await problems_of(sets, manifest)
    if json:
        print_json({"ok": not problems, "set": manifest.name, "problems": problems, **_facts(manifest)})
    else:
        _line(f"{manifest.name}: {_summary(manifest)}; " + ("whole" if not problems else "NOT whole"))
        for problem in problems:
            _line(f"  {problem}")
    return 1 if problems else 0


async def run_restore(settings: Settings, name: str | None, json: bool) -> int:
    sets = _sets(settings, restoring=True)
    manifest = await sets.manifest(name or await sets.newest())
    progress = progress_reporter(True)
    async with open_servers(settings, json=json, create=True, role=ADMIN) as at:
        connection = await connect(at.nats_url, "vibe backup restore")
        try:
            streams = await restore_streams(sets, manifest, connection, at.nats_url, settings.replicas, progress)
        finally:
            await connection.close()
        async with await open_pool(at.postgres_dsn, COMMAND_SECONDS, max_size=2) as pool:
            await prepare(pool)
        rows = await restore_tables(sets, manifest, at.postgres_dsn)
    ok = all(stream.equal for stream in streams)
    if json:
        print_json({"ok": ok, "set": manifest.name, "streams": [one._asdict() for one in streams], "tables": rows})
    else:
        _line(f"{manifest.name} restored: {_summary(manifest)}. The next `vibe up` rebuilds the read models.")
    return 0 if ok else 1


async def run_drill(settings: Settings, name: str | None, traces: int, json: bool) -> int:
    sets = _sets(settings)
    manifest = await sets.manifest(name or await sets.newest())
    done = await drill(sets, manifest, settings, traces, progress_reporter(True))
    if json:
        print_json(_drill_facts(done))
    else:
        equal = "equal" if done.digests_equal else "NOT equal"
        wrong = [one for one in done.traces if one.why]
        _line(
            f"{done.name} restored and rebuilt in {done.seconds:g} s: {len(done.streams)} streams, digests {equal}, "
            f"{len(done.traces)} decisions traced, {len(wrong)} of them wrong"
        )
        for one in wrong:
            _line(f"  {one.id}: {one.why}")
    return 0 if done.ok else 1


def _drill_facts(done: Drill) -> dict[str, Any]:
    return {
        "ok": done.ok,
        "set": done.name,
        "seconds": done.seconds,
        "streams": [one._asdict() for one in done.streams],
        "digests_equal": done.digests_equal,
        "traces": [{"id": one.id, "ok": one.why is None, "why": one.why} for one in done.traces],
    }


def _sets(settings: Settings, *, restoring: bool = False) -> BackupSets:
    """The sets of the settings. Raises NoEventLogError when they would be in a data folder that is not there."""
    if settings.data_dir.is_file():
        raise CommandError(
            f"{settings.data_dir} is a file where a data folder is needed; set VIBE_DATA_DIR to a folder"
        )
    elsewhere = settings.backup_url is not None and settings.backup_key_file is not None
    if not elsewhere and not settings.data_dir.is_dir():
        if restoring:
            raise CommandError(
                f"{settings.data_dir} holds no backup; set VIBE_BACKUP_URL and VIBE_BACKUP_KEY_FILE to those of the "
                "old folder"
            )
        raise NoEventLogError(str(settings.data_dir))
    return BackupSets(settings.backup, read_key(settings.backup_key))


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "version": manifest.version,
        "streams": [
            {"name": one.name, "first": one.first, "last": one.last, "messages": one.messages, "bytes": one.bytes}
            for one in manifest.streams
        ],
        "tables": manifest.tables,
    }


def _messages(manifest: Manifest) -> int:
    return sum(part.messages for part in manifest.streams)


def _summary(manifest: Manifest) -> str:
    size = sum(part.bytes for part in manifest.streams)
    rows = sum(manifest.tables.values())
    return (
        f"{_messages(manifest):,} messages of {len(manifest.streams)} streams in {size:,} bytes, "
        f"{rows:,} rows of {len(manifest.tables)} tables"
    )


def _line(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
