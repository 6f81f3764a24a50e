"""Running the `vibe` command as its user would, each time on a data folder of its own, and reading its log."""

import asyncio
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from domain.events import RawReceived
from handlers.live.event_codec import codec
from streams.connection import Connection, connect
from streams.envelope import Recorded
from streams.login import as_role
from streams.reader import read_all
from streams.roles import ADMIN
from streams.topology import HISTORY
from vibe.app.servers import open_addresses
from vibe.app.settings import Settings

NOTHING: Mapping[str, str] = {}


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.strip().splitlines()[-1])


def environment(data_dir: Path, settings: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VIBE_")}
    return {**kept, "VIBE_DATA_DIR": str(data_dir), "COLUMNS": "200", **settings}


async def start(data_dir: Path, *arguments: str, settings: Mapping[str, str] = NOTHING) -> asyncio.subprocess.Process:
    """Start `vibe ...` in a process group of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vibe",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(data_dir, settings),
        start_new_session=True,
    )


async def vibe(data_dir: Path, *arguments: str, timeout: float = 120, settings: Mapping[str, str] = NOTHING) -> Ended:
    """Run `vibe ...` to its end."""
    process = await start(data_dir, *arguments, settings=settings)
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


class Ends(NamedTuple):
    connection: Connection
    database: asyncpg.Connection

    async def events(self) -> dict[str, list[Recorded]]:
        """Every event of the log by stored name, checkpoints left out."""
        found: defaultdict[str, list[Recorded]] = defaultdict(list)
        decode = codec().decode
        for stream in HISTORY:
            async for batch in read_all(self.connection, stream.name):
                for stored in batch:
                    for event in decode(stream.name, stored.sequence, stored.subject, stored.payload):
                        found[event.type].append(event)
        found.pop("checkpoint.reached", None)
        return found


@asynccontextmanager
async def ends(data_dir: Path) -> AsyncIterator[Ends]:
    """The log and the read models of a data folder, on its running servers or on ones started for the time."""
    async with open_addresses(Settings(data_dir=data_dir), lambda _: None) as at:
        connection = await connect(as_role(at.nats_url, ADMIN), "test")
        database = await asyncpg.connect(at.postgres_dsn)
        try:
            yield Ends(connection, database)
        finally:
            database.terminate()
            await connection.close()


async def until(condition: Any, timeout: float = 30, what: str = "") -> Any:
    """The first true answer of an async condition."""
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        found = await condition()
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.1)


def is_trade(raw: RawReceived) -> bool:
    """True for a raw event that reports a trade, and not an account, a market, a split or a payout."""
    if raw.channel == "activity":
        return raw.raw_id.startswith("pm:TRADE:")
    return raw.channel in ("trades", "userFills", "chain")


def assert_exactly_once(events: dict[str, list[Recorded]]) -> None:
    """No event is stored twice, and everything that was begun is finished."""
    for name, found in events.items():
        ids = [event.id for event in found]
        assert len(ids) == len(set(ids)), f"{name} holds an id twice"
    decided = [event.data.request_id for event in events["copy.decided"]]
    requested = [event.id for event in events["execution.requested"]]
    assert sorted(decided) == sorted(requested)
    assert len(set(decided)) == len(decided)
    # Every report of a trade made its signal, or confirmed one that was recorded before.
    reported = [event.data.source_event_id for event in (*events["signal.recorded"], *events["fill.observed"])]
    trades = [event.id for event in events["raw.received"] if is_trade(event.data)]
    assert sorted(trades) == sorted(one for one in reported if "|" not in one)
    closed = [signal for event in events["group.closed"] for signal in event.data.signal_ids]
    assert sorted(closed) == sorted(event.data.signal_id for event in events["signal.grouped"])
    outcomes = [*events.get("quote.captured", []), *events.get("quote.failed", [])]
    assert sorted(e.data.quote_id for e in events["quote.wanted"]) == sorted(e.data.quote_id for e in outcomes)
    executes = [e.data.attempt_id for e in events["copy.decided"] if e.data.decision == "EXECUTE"]
    assert sorted(executes) == sorted(e.data.attempt_id for e in events["execution.completed"])
