"""`vibe demo`: a sandbox venue, a demo configuration and `vibe up`, playing in a scenario's own time.

The scenario's clock starts at a fixed moment, so the same seed gives the same trades, ids and decisions. A scenario
that was interrupted goes on where its clock stands; one that was played to its end makes room for the next.
"""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from gateways.sandbox import hyperliquid, polymarket
from vibe.app.settings import Settings

EPOCH_NS = 1_767_225_600 * 1_000_000_000
"""2026-01-01T00:00:00Z: the scenario's time zero."""
LEAD_SECONDS = 1.5
"""Between `go` and time zero: stages load and connect."""

SUBSCRIBERS = (
    ("alice", "10000", "1"),
    ("bob", "25000", "2"),
    ("carol", "2000", "0.5"),
)
"""(id, deposit in dollars, percent copied) of those who copy on Hyperliquid."""
OUTCOME_SUBSCRIBERS = (
    ("dana", "10000", "25"),
    ("erik", "25000", "50"),
)
"""The same on Polymarket, where the sandbox's wallets trade for less. How fast its data comes differs from run to run
by milliseconds, and with it the prices: apart, those who copy perpetuals have the same story in every run."""


class Scenario(Struct):
    """What is remembered of a demo in its data folder."""

    seed: int
    offset_ns: int | None = None
    finished: bool = False


class NotADemoError(Exception):
    """The data folder holds a log that a demo must not touch."""


def demo_lines() -> Iterator[str]:
    """The demo's configuration: every sandbox influencer, three subscribers, each copying several of them."""
    for one in hyperliquid.INFLUENCERS:
        yield _influencer("hyperliquid", one.id, one.address, one.label)
    for wallet in polymarket.INFLUENCERS:
        yield _influencer("polymarket", wallet.id, wallet.address, wallet.label)
        # The demo's brief market lives for seconds: copied to its end, so that it is seen to pay out.
        yield _line(kind="guardrail", scope=f"influencer:{wallet.id}", values={"close_guard_ms": 0})
    for number, (subscriber, deposit, percent) in enumerate(SUBSCRIBERS):
        yield _line(kind="subscriber", id=subscriber, mode="paper", deposit_usd=deposit, status="active")
        for one in hyperliquid.INFLUENCERS[number:]:
            yield _subscription(subscriber, one.id, percent)
    for subscriber, deposit, percent in OUTCOME_SUBSCRIBERS:
        yield _line(kind="subscriber", id=subscriber, mode="paper", deposit_usd=deposit, status="active")
        for wallet in polymarket.INFLUENCERS:
            yield _subscription(subscriber, wallet.id, percent)


def _influencer(venue: str, influencer: str, address: str, label: str) -> str:
    return _line(kind="influencer", id=influencer, venue=venue, addresses=[address], label=label, status="active")


def _subscription(subscriber: str, influencer: str, percent: str) -> str:
    return _line(
        kind="subscription",
        id=f"{subscriber}-{influencer}",
        subscriber_id=subscriber,
        influencer_id=influencer,
        sizing={"mode": "copy_percent", "percent": percent},
        limits={},
        filters={},
        status="active",
    )


def _line(**fields: object) -> str:
    return msgspec.json.encode(fields).decode()


def _path(data_dir: Path) -> Path:
    return data_dir / "demo.json"


def scenario(settings: Settings, seed: int) -> Scenario:
    """The scenario to play: the interrupted one of this folder when it has the same seed, else a new one.

    Removes the log and the read models of an earlier demo that is over. Raises NotADemoError when the folder or the
    servers hold anything else.
    """
    data_dir = settings.data_dir
    path = _path(data_dir)
    if settings.nats_url or settings.dsn:
        raise NotADemoError(
            "a demo plays on servers of its own; unset VIBE_NATS_URL and VIBE_POSTGRES_DSN, or use: vibe up"
        )
    if path.exists():
        found = msgspec.json.decode(path.read_bytes(), type=Scenario)
        if found.seed == seed and not found.finished:
            return found
        for name in ("nats", "postgres", "logs", "archive"):
            shutil.rmtree(data_dir / name, ignore_errors=True)
    elif any(block.stat().st_size for block in (data_dir / "nats").rglob("*.blk")):
        raise NotADemoError(
            f"{data_dir} holds a log that is not a demo's; set VIBE_DATA_DIR to another folder for the demo"
        )
    fresh = Scenario(seed)
    save(data_dir, fresh)
    return fresh


def refuse_demo(data_dir: Path) -> None:
    """Raises NotADemoError where a demo plays: the next one removes everything that was added to it."""
    if _path(data_dir).exists():
        raise NotADemoError(
            f"{data_dir} holds a demo, and the next demo removes all of it; set VIBE_DATA_DIR to a folder of your own, "
            f"or remove {data_dir}"
        )


def save(data_dir: Path, playing: Scenario) -> None:
    data_dir.mkdir(parents=True, exist_ok=True)
    temporary = _path(data_dir).with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(playing))
    temporary.replace(_path(data_dir))


def start_clock(data_dir: Path, playing: Scenario) -> int:
    """The clock's offset in ns: kept when the scenario goes on, else such that time zero is a lead away."""
    if playing.offset_ns is None:
        playing.offset_ns = EPOCH_NS - time.time_ns() - int(LEAD_SECONDS * 1e9)
        save(data_dir, playing)
    return playing.offset_ns


def elapsed_seconds(playing: Scenario) -> float:
    """Scenario time played so far; 0 before the start."""
    if playing.offset_ns is None:
        return 0.0
    return max(0.0, (time.time_ns() + playing.offset_ns - EPOCH_NS) / 1e9)


def free_port() -> int:
    """A port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def log_clock(offset_ns: int) -> int:
    """Now, on the scenario's clock."""
    return time.time_ns() + offset_ns
