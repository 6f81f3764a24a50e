"""The checks of `vibe doctor`: dependencies, the log, read models, stages, clocks, disk, versions, settings.

Each check has a time limit of its own, so that a server that is stopped is named and not waited for. What cannot be
checked because a server is away counts as failed.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import shutil
import stat
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import asyncpg
from pydantic import SecretStr

from handlers.live.event_codec import codec
from streams import topology
from streams.archive.store import Archive
from streams.connection import Connection
from streams.dead_letters import dead_letters
from streams.processing.lane_leases import DEAD_SECONDS, HEARTBEAT_SECONDS, lease_table
from streams.topology import HISTORY, STREAMS
from vibe.app.dependencies import ask_nats
from vibe.app.settings import Settings
from vibe.app.stage_health import reported_problems
from vibe.app.wiring import FOLDS
from vibe.backup.retention import taken_at
from vibe.backup.sets import set_names

CHECK_SECONDS = 4.0
"""How long one check may take: the answer is to be there within five seconds of the truth."""
OLDEST_NATS = (2, 15)
OLDEST_POSTGRES = 16
FREE_FRACTION, FREE_BYTES = 0.05, 1 << 30
"""A disk with less free space than the larger of the two fails."""
SERVER_CLOCK_SECONDS, VENUE_CLOCK_SECONDS = 1.0, 2.0
"""How far the clocks of servers and of venues may be off; a venue's answer states whole seconds."""
OLDEST_BACKUP_HOURS = 26
_STILL_SECONDS = 5.0
"""A read model that is behind and has not moved for this long does not follow."""


class Check(NamedTuple):
    """One finding; `detail` is what was found, and of a failed check what to do."""

    name: str
    ok: bool
    detail: str


Finding = tuple[bool, str]
_Question = Callable[[], Awaitable[Finding]]


class Examined(NamedTuple):
    """What is examined. A server that does not answer has no connection, and `away` names why."""

    settings: Settings
    connection: Connection | None
    database: asyncpg.Pool[Any] | None
    away: dict[str, str]
    stages_expected: bool
    """Whether stages are meant to run: on servers of the operator's own, and while a `vibe up` runs."""
    demo: bool


async def examine(at: Examined) -> list[Check]:
    """Every check, in a fixed order."""
    nats, postgres = at.connection, at.database
    answers = {name: f"does not answer: {why}" for name, why in at.away.items()}
    questions: list[tuple[str, _Question | str]] = [
        ("settings", lambda: _found(True, masked(at.settings))),
        ("versions", lambda: _versions(nats, postgres)),
        ("data_folder", lambda: _found(*data_folder(at.settings.data_dir))),
        ("disk", lambda: _found(*disk(*shutil.disk_usage(_existing(at.settings.data_dir))))),
        ("nats", answers.get("nats") or (lambda: _answers(ask_nats, nats))),
        ("postgres", answers.get("postgres") or (lambda: _postgres_answers(postgres))),
        ("streams", _needs("nats", nats, lambda: _streams(_known(nats)))),
        ("read_models", _needs("a server", postgres and nats, lambda: _read_models(at))),
        ("stages", _needs("nats", nats, lambda: _stages(at))),
        ("dead_letters", _needs("nats", nats, lambda: _dead_letters(_known(nats)))),
        ("backup", lambda: _backup(at.settings)),
        ("clock", _needs("nats", nats, lambda: _clock(_known(nats), postgres))),
        *((f"venue_{name}", _venue_question(at, url)) for name, url in _venues(at.settings)),
    ]
    return list(await asyncio.gather(*(_asked(name, question) for name, question in questions)))


async def _asked(name: str, question: _Question | str) -> Check:
    if isinstance(question, str):
        return Check(name, False, question)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return Check(name, *await question())
    except TimeoutError:
        return Check(name, False, f"no answer within {CHECK_SECONDS:g} s")
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def _needs(what: str, there: object, question: _Question) -> _Question | str:
    return question if there is not None else f"not checked: {what} does not answer"


def _known(connection: Connection | None) -> Connection:
    assert connection is not None
    return connection


async def _found(ok: bool, detail: str) -> Finding:
    return ok, detail


async def _answers(ask: Callable[[Connection], Awaitable[None]], connection: Connection | None) -> Finding:
    began = time.monotonic()
    await ask(_known(connection))
    return True, f"JetStream answers in {(time.monotonic() - began) * 1000:.0f} ms"


async def _postgres_answers(database: asyncpg.Pool[Any] | None) -> Finding:
    assert database is not None
    began = time.monotonic()
    await database.fetchval("SELECT 1")
    return True, f"answers in {(time.monotonic() - began) * 1000:.0f} ms"


def masked(settings: Settings) -> str:
    """The settings that differ from their defaults. Secrets are stars, and of an address only scheme, host and port are
    shown: user names, passwords and the keys that providers put into paths are not."""
    shown = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if value != field.default:
            shown.append(f"{name}={_masked(value)}")
    return ", ".join(shown) or "all defaults"


def _masked(value: object) -> str:
    if isinstance(value, SecretStr):
        return "********"
    parts = urlsplit(str(value)) if isinstance(value, str) else None
    if parts is None or not parts.netloc:
        return str(value)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


async def _versions(connection: Connection | None, database: asyncpg.Pool[Any] | None) -> Finding:
    shown = [f"vibe {importlib.metadata.version('vibe-copy-trading-core')}", f"Python {platform.python_version()}"]
    wrong = []
    if connection is not None:
        nats = connection.client.connected_server_version
        shown.append(f"nats-server {nats.major}.{nats.minor}.{nats.patch}")
        if (nats.major, nats.minor) < OLDEST_NATS:
            wrong.append(f"nats-server {nats.major}.{nats.minor} is older than {'.'.join(map(str, OLDEST_NATS))}")
    if database is not None:
        number = int(await database.fetchval("SHOW server_version_num"))
        shown.append(f"Postgres {number // 10_000}.{number % 10_000}")
        if number // 10_000 < OLDEST_POSTGRES:
            wrong.append(f"Postgres {number // 10_000} is older than {OLDEST_POSTGRES}")
    return not wrong, "; ".join(wrong) or ", ".join(shown)


def data_folder(folder: Path) -> Finding:
    """Whether the folder is there, and its secrets are readable by their owner alone."""
    if not folder.is_dir():
        return True, f"{folder} is not there; servers of the operator's own need none"
    open_to_others = [
        path.name
        for path in (folder / "postgres.password", folder / "web-token", folder / "backup.key")
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if open_to_others:
        return False, f"other users can read {', '.join(open_to_others)} in {folder}; run: chmod 600"
    return True, str(folder)


def disk(total: int, used: int, free: int) -> Finding:
    """Whether enough of a disk is free, all in bytes."""
    shown = f"{free / 1e9:,.1f} GB of {total / 1e9:,.1f} GB free"
    if free < max(FREE_BYTES, FREE_FRACTION * total):
        return False, f"{shown}: nats-server stops to store events on a full disk; free some, or extend it"
    return True, shown


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())


async def _streams(connection: Connection) -> Finding:
    found = {stream.name: await topology.info(connection, stream.name) for stream in STREAMS}
    wrong = [problem for name, info in found.items() for problem in stream_problems(name, info)]
    events = sum(info["state"]["messages"] for info in found.values() if info)
    return not wrong, "; ".join(wrong) or f"{len(STREAMS)} streams as defined, {events:,} messages without a hole"


def stream_problems(name: str, info: dict[str, Any] | None) -> list[str]:
    """What is wrong with a stream, given its STREAM.INFO: it is missing, differs, or has a hole."""
    stream = next(stream for stream in STREAMS if stream.name == name)
    if info is None:
        return [f"{name} does not exist; on a new system run: vibe streams apply; else restore it from a backup"]
    wrong = topology.differences(stream.config(info["config"]["num_replicas"]), info["config"])
    problems = [f"{name}: {each}; run: vibe streams apply" for each in wrong]
    state = info["state"]
    missing = state["last_seq"] - state["first_seq"] + 1 - state["messages"]
    if stream in HISTORY and state["messages"] and missing:
        problems.append(f"{name} lacks {missing:,} messages between {state['first_seq']} and {state['last_seq']}")
    return problems


async def _read_models(at: Examined) -> Finding:
    assert at.database is not None
    try:
        rows = await at.database.fetch(
            "SELECT stream, max(position) AS newest, min(position) AS oldest, "
            "extract(epoch FROM now() - max(moved_at))::float AS still FROM projection_position GROUP BY stream"
        )
    except asyncpg.UndefinedTableError:
        return True, "none is built yet"
    ends = {}
    for row in rows:
        info = await topology.info(_known(at.connection), row["stream"])
        ends[row["stream"]] = int(info["state"]["last_seq"]) if info else 0
    wrong = [
        f"a read model holds {row['stream']} up to {row['newest']}, and the stream ends at {ends[row['stream']]}: "
        "events are lost, restore the stream from a backup"
        for row in rows
        if row["newest"] > ends[row["stream"]]
    ]
    behind = {row["stream"]: ends[row["stream"]] - row["oldest"] for row in rows if row["oldest"] < ends[row["stream"]]}
    if at.stages_expected:
        wrong += [
            f"{row['stream']}: {behind[row['stream']]:,} messages behind, and not moved for {row['still']:.0f} s"
            for row in rows
            if row["stream"] in behind and row["still"] > _STILL_SECONDS
        ]
    shown = ", ".join(f"{name} {count:,}" for name, count in behind.items())
    return not wrong, "; ".join(wrong) or (f"behind: {shown}" if shown else "at the end of every stream")


async def _stages(at: Examined) -> Finding:
    """Two readings of the lease tables, a heartbeat apart: which stage has an instance that works, and what keeps the
    others from it."""
    if not at.stages_expected:
        return True, "no `vibe up` runs on this data folder"
    first = {stage: await lease_table(_known(at.connection), stage) for stage in FOLDS}
    late, deadline = set(FOLDS), time.monotonic() + DEAD_SECONDS
    while late and time.monotonic() < deadline:
        await asyncio.sleep(HEARTBEAT_SECONDS / 4)
        for stage in tuple(late):
            now = await lease_table(_known(at.connection), stage)
            before = first[stage].members
            if any(
                name not in before or member.heartbeat != before[name].heartbeat for name, member in now.members.items()
            ):
                late.discard(stage)
    wrong = []
    if late:
        names = ", ".join(stage for stage in FOLDS if stage in late)
        wrong.append(f"no instance of {names} shows a heartbeat; read logs/*.log, or start: vibe run {names}")
    wrong += await reported_problems(_known(at.connection), [stage for stage in FOLDS if stage not in late])
    if wrong:
        return False, "; ".join(wrong)
    return True, f"every one of {', '.join(FOLDS)} has an instance that works"


async def _dead_letters(connection: Connection) -> Finding:
    waiting = [one for one in await dead_letters(connection, codec()) if one.state == "open"]
    if waiting:
        return False, f"{len(waiting):,} wait for an operator; look at them: vibe dead list"
    return True, "none is open"


async def _backup(settings: Settings) -> Finding:
    """The age of the newest backup; on a system that has none yet, that it has none."""
    if not _may_hold_backups(settings):
        return True, "none yet; take one: vibe backup run"
    names = await set_names(Archive(settings.backup, "VIBE_BACKUP_URL"))
    if not names:
        return False, f"{settings.backup} holds no complete backup; take one: vibe backup run"
    hours = (time.time() - taken_at(names[-1]).timestamp()) / 3600
    if hours > OLDEST_BACKUP_HOURS:
        return False, f"the newest is {names[-1]}, {hours:,.0f} hours old; take one: vibe backup run"
    return True, f"the newest is {names[-1]}"


def _may_hold_backups(settings: Settings) -> bool:
    return settings.backup_url is not None or Path(settings.backup).is_dir()


async def _clock(connection: Connection, database: asyncpg.Pool[Any] | None) -> Finding:
    began = time.time()
    answer = await connection.api(f"STREAM.INFO.{HISTORY[0].name}")
    offsets = {"nats": _offset(datetime.fromisoformat(answer["ts"]), began, time.time())}
    if database is not None:
        began = time.time()
        stated = await database.fetchval("SELECT clock_timestamp()")
        offsets["Postgres"] = _offset(stated, began, time.time())
    shown = ", ".join(f"{name} {offset:+.3f} s" for name, offset in offsets.items())
    if any(abs(offset) > SERVER_CLOCK_SECONDS for offset in offsets.values()):
        return False, f"clocks differ from this machine's: {shown}; synchronize them"
    return True, shown


def _offset(stated: datetime, asked: float, answered: float) -> float:
    """By how many seconds a clock is ahead of this machine's, given the time it stated and when it was asked."""
    return stated.timestamp() - (asked + answered) / 2


def _venues(settings: Settings) -> Iterable[tuple[str, str]]:
    yield "hyperliquid", settings.hyperliquid_api_url
    yield "polymarket_data", settings.polymarket_data_url
    yield "polymarket_gamma", settings.polymarket_gamma_url
    yield "polymarket_clob", settings.polymarket_clob_url
    yield "polygon", settings.polygon_http_url


def _venue_question(at: Examined, url: str) -> _Question:
    if at.demo:
        return lambda: _found(True, "a demo's venues are its sandbox")
    return lambda: _venue(url)


async def _venue(url: str) -> Finding:
    """Any answer below 500 but a refusal for too many requests shows that the venue is there; its date is its clock."""
    address = _masked(url)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CHECK_SECONDS - 1)) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            status, stated = answer.status, answer.headers.get("Date")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return False, f"{address} does not answer: {error or type(error).__name__}"
    if status >= 500 or status == 429:
        return False, f"{address} answers {status}"
    if stated is None:
        return True, f"{address} answers {status}"
    offset = parsedate_to_datetime(stated).astimezone(UTC).timestamp() + 0.5 - time.time()
    if abs(offset) > VENUE_CLOCK_SECONDS:
        return False, f"{address}: its clock is {offset:+.1f} s from this machine's; synchronize this machine's"
    return True, f"{address} answers {status}, clock {offset:+.1f} s"
