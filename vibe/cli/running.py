"""Running things: the demo, the house, single stages, the sandbox."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from vibe.app.session import run_demo, run_up
from vibe.app.settings import settings
from vibe.cli.root import Json, app, finish

Seconds = Annotated[float, Parameter(validator=Number(gt=0))]
Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]


@app.command
def demo(*, seconds: Seconds | None = None, json: Json = False, seed: int = 7) -> None:
    """Watch trades being copied: a sandbox venue, a demo configuration and all stages in one terminal.

    Example: vibe demo --seconds 20 --json --seed 7

    The scenario plays on its own clock from 2026-01-01, so one seed always gives the same signals and decisions.
    Ctrl-C or a crash interrupts it, and the next `vibe demo` goes on; after --seconds it is over, and the next one
    starts from an empty log. Counts cover the whole log.

    Parameters
    ----------
    seconds
        stop the venue after this much time, work everything off, report, and exit 0 only if nothing is left
    seed
        another seed, another flow of trades
    """
    finish(run_demo(settings(), seed, seconds, json), quiet=True)


@app.command
def up(*, config: Path | None = None, seconds: Seconds | None = None, json: Json = False) -> None:
    """Servers, all stages and the read models against the configured venue, in one supervised process group.

    Example: vibe up --config config.jsonl

    Parameters
    ----------
    config
        JSON lines to import first (see: vibe config import --help)
    seconds
        take input for this long, work everything off, report, and exit 0 only if nothing is left
    """
    finish(run_up(settings(), config, seconds, json), quiet=True)


@app.command
def run(*stages: str) -> None:
    """Run stages in this process: ingest, normalize, group, quote, match, plan, execute, mark, resolve, projections.

    Example: vibe run plan execute
    """
    from vibe.cli.run import run_stages

    finish(run_stages(settings(), stages))


@app.command
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
        play no trade after this time; the venues go on answering
    frames
        replay a recording of Hyperliquid's WebSocket frames (JSON lines) instead of the model
    pages
        serve recorded pages of a Polymarket wallet (a folder of trades_page*.json) instead of the model
    speed
        how much faster than recorded
    """
    from vibe.cli.run import run_sandbox

    finish(run_sandbox(host, port, polymarket_port, seed, seconds, frames, pages, speed, origin_ns))


@app.command
def health(*, url: str | None = None) -> None:
    """Ask a running `vibe run` whether it is well; exit code 0 when it is. For container health checks.

    Example: vibe health --url http://127.0.0.1:9100/healthz

    Parameters
    ----------
    url
        Where it serves its health; 127.0.0.1 on VIBE_HTTP_PORT unless given.
    """
    from vibe.cli.run import run_health

    finish(run_health(settings(), url), quiet=True)
