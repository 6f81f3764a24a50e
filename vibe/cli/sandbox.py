"""`vibe sandbox`: both venues on this machine."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from gateways.sandbox import hyperliquid, polymarket
from vibe.app.clock import Clock
from vibe.app.settings import polymarket_settings
from vibe.app.worker_process import SUPERVISED, Parent, stop_on_signals
from vibe.cli.command import finish
from vibe.cli.errors import CommandError
from vibe.cli.output import progress_reporter

Seconds = Annotated[float, Parameter(validator=Number(gt=0))]
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]


def sandbox(
    *,
    host: str = "127.0.0.1",
    port: Port = 8800,
    polymarket_port: Port = 8801,
    seed: int = 7,
    seconds: Seconds | None = None,
    frames: Path | None = None,
    pages: Path | None = None,
    speed: Seconds = 1.0,
    account: str | None = None,
    agent: str | None = None,
    deposit: Seconds = 10_000.0,
    origin_ns: Annotated[int | None, Parameter(show=False)] = None,
) -> None:
    """Both venues on this machine, with the real wire formats: a Hyperliquid and, on a port of its own, a Polymarket.

    Example: vibe sandbox --port 8800 --polymarket-port 8801 --seed 7

    It prints the settings (VIBE_...) that make `vibe up` use it.

    Parameters
    ----------
    port
        Hyperliquid's: ws://HOST:PORT/ws and http://HOST:PORT/info
    polymarket_port
        Polymarket's Data API, Gamma, CLOB and Polygon node; 0 = no Polymarket
    seed
        the order flow is a function of it
    seconds
        trade nothing after this time; the venues go on answering
    frames
        replay a recording of Hyperliquid's WebSocket frames (JSON lines) instead of the model
    pages
        serve recorded pages of a Polymarket wallet (a folder of trades_page*.json) instead of the model
    speed
        how much faster than recorded
    account
        open an account on Hyperliquid that trades with signed orders
    agent
        the address of a key that may trade for the account
    deposit
        what the account starts with, USD
    """
    trader = None if account is None else Trader(_address("--account", account), _agents(agent), Decimal(str(deposit)))
    with _recording_errors("--frames"):
        trades = (
            hyperliquid.RecordingSource(frames, speed=speed)
            if frames is not None
            else hyperliquid.FlowSource(seed, origin_ns=origin_ns, horizon_s=seconds)
        )
    rows: polymarket.RecordingSource | polymarket.FlowSource | None = None
    if polymarket_port:
        with _recording_errors("--pages"):
            rows = (
                polymarket.RecordingSource(pages, origin_ns=origin_ns, speed=speed)
                if pages is not None
                else polymarket.FlowSource(seed, origin_ns=origin_ns, horizon_s=seconds)
            )
    finish(_serve(host, port, trades, polymarket_port, rows, trader))


@dataclass(frozen=True)
class Trader:
    """An account that trades: its agents by address, and its deposit in USD."""

    account: str
    agents: dict[str, str]
    deposit: Decimal


def _agents(agent: str | None) -> dict[str, str]:
    return {} if agent is None else {_address("--agent", agent): "agent"}


def _address(option: str, text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise CommandError(f"{option}: expected an address, 0x and 40 hexadecimal digits, got {text!r}")
    return text.lower()


@contextmanager
def _recording_errors(option: str) -> Iterator[None]:
    """A recording that cannot be read is the user's, whatever is wrong with it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, msgspec.MsgspecError) as error:
        raise CommandError(f"{option}: not a recording that can be played: {error}") from error


async def _serve(
    host: str,
    port: int,
    trades: hyperliquid.RecordingSource | hyperliquid.FlowSource,
    polymarket_port: int,
    rows: polymarket.RecordingSource | polymarket.FlowSource | None,
    trader: Trader | None,
) -> int:
    parent = None
    clock = Clock()
    supervised = bool(os.environ.get(SUPERVISED))
    stop = stop_on_signals(terminal=not supervised)
    if supervised:
        parent = Parent()
        parent.report("prepared")
        offset = await parent.go(stop)
        if offset is None:
            return 0
        clock = Clock(offset)
    async with AsyncExitStack() as stack:
        with _recording_errors("--frames"):
            perpetuals = await hyperliquid.serve(trades, host=host, port=port, clock=clock)
        stack.push_async_callback(perpetuals.close)
        if trader is not None:
            perpetuals.exchange.open_account(trader.account, trader.deposit, trader.agents)
        addresses = {"VIBE_HYPERLIQUID_WS_URL": perpetuals.ws_url, "VIBE_HYPERLIQUID_API_URL": perpetuals.url}
        exhausted = [perpetuals.done]
        if rows is not None:
            with _recording_errors("--pages"):
                outcomes = await polymarket.serve(rows, host=host, port=polymarket_port, clock=clock)
            stack.push_async_callback(outcomes.close)
            addresses |= polymarket_settings(outcomes.url)
            exhausted.append(outcomes.collected)
        if parent is None:
            _print_settings(port, polymarket_port, addresses)
            await stop.wait()
        else:
            parent.report("ready")
            await _report_the_end(parent, exhausted, stop)
    return 0


def _print_settings(port: int, polymarket_port: int, addresses: dict[str, str]) -> None:
    progress_reporter(False)(f"sandbox on ports {port} and {polymarket_port or '-'}; Ctrl-C stops it; to use it:")
    for name, value in addresses.items():
        sys.stdout.write(f"export {name}={value}\n")
    sys.stdout.flush()


async def _report_the_end(parent: Parent, exhausted: list[asyncio.Event], stop: asyncio.Event) -> None:
    """Report 'done' once every venue has played everything; returns when `stop` is set."""

    async def report() -> None:
        for event in exhausted:
            await event.wait()
        parent.report("done")

    reporting = asyncio.create_task(report())
    await stop.wait()
    reporting.cancel()
