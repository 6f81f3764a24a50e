"""The root of the command line: the table of commands, each loaded when it is called, and the entry point."""

import logging
import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel

from vibe.cli.errors import complain, explain
from vibe.cli.standard_streams import discard_output, open_closed_streams

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

COMMANDS = {
    "demo": ("demo:demo", "Watch trades being copied: a sandbox venue, a demo configuration and all stages."),
    "up": ("demo:up", "Servers, all stages and the read models against the configured venue."),
    "web": ("web:web", "The pages and the HTTP API in a browser."),
    "run": ("run:run", "Run stages in this process."),
    "sandbox": ("sandbox:sandbox", "Both venues on this machine, with the real wire formats."),
    "health": ("run:health", "Ask a running `vibe run` whether it is healthy."),
    "doctor": ("doctor:doctor", "Check dependencies, streams, read models, stages, clocks, disk and settings."),
    "config": ("config:app", "Influencers, subscribers, subscriptions and guardrails."),
    "control": ("control:app", "Switches for operators, in force from the next decision on."),
    "trace": ("trace:trace", "Where something came from and what it led to."),
    "verify": ("verify:verify", "Compute every derived event again, and name what nothing can have produced."),
    "verify-decisions": ("verify:verify_decisions", "Make every decision again from the log alone and compare."),
    "positions": ("positions:app", "Close what a subscriber copied."),
    "exits": ("exits:app", "What copies owe: exits that could not be done at once."),
    "whatif": ("whatif:whatif", "What another configuration would have decided, beside what happened."),
    "subscriber": ("subscriber:app", "One subscriber's portfolio, from the log."),
    "influencer": ("influencer:app", "One influencer's own portfolio, from the log."),
    "leaderboard": ("leaderboard:leaderboard", "Which influencers to follow, by score."),
    "discover": ("discover:app", "Traders that the public feeds name, followed or not."),
    "metrics": ("leaderboard:metrics", "How an influencer trades, or how copying goes for a subscriber."),
    "export": ("export:export", "Rows of the read models as a CSV or Parquet file."),
    "sql": ("sql:sql", "Query the read models with psql."),
    "lag": ("streams:lag", "How many events every consumer has still to process."),
    "dead": ("dead:app", "Dead letters: look at them, run them again, or drop them."),
    "streams": ("streams:app", "The streams of the event log."),
    "projections": ("projections:app", "The read models: list, rebuild from history, verify against it."),
    "archive": ("archive:app", "Closed days of the log as Parquet files."),
    "backup": ("backup:app", "Encrypted backups: take, list, verify, restore, and try a restore."),
    "orders": ("orders:app", "Live orders: what was sent to venues, and what became of it."),
    "ops": ("ops:app", "What operators set up: nats-server's roles, and the nats command line."),
    "keys": ("keys:app", "The keys of agents that trade: encrypted in one keystore."),
    "bench": ("bench:app", "How fast this machine is, beside the bare limits of the same run."),
}
"""Where each command is (module of vibe.cli and attribute), and its line in `vibe --help`. Importing a command takes
up to a second, so `vibe --help` imports none of them."""

BROKEN_PIPE = 141
"""The exit code that a shell reports for a program whose reader closed the pipe (128 + SIGPIPE)."""


class _Summaries(DefaultFormatter):
    """Fills in the summaries of commands, which are not imported when `vibe --help` lists them."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: HelpPanel) -> None:
        if COMMANDS.keys() <= {name for entry in panel.entries for name in entry.names}:
            panel = panel.copy(entries=[_with_summary(entry) for entry in panel.entries])
        super().__call__(console, options, panel)


def _with_summary(entry: HelpEntry) -> HelpEntry:
    command = next((name for name in entry.names if name in COMMANDS), None)
    return entry.copy(description=COMMANDS[command][1]) if command else entry


def _usage_error(error: CycloptsError) -> str:
    command = " ".join(("vibe", *(error.command_chain or ())))
    return f"{command}: {error} See: {command} --help"


app = App(
    name="vibe",
    help="Copy trading on one event log.",
    version=version("vibe-copy-trading-core"),
    version_flags=["--version"],
    error_formatter=_usage_error,
    help_formatter=_Summaries(),
)
for _name, (_where, _) in COMMANDS.items():
    app.command(f"vibe.cli.{_where}", name=_name)


def main() -> None:
    """The entry point. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 141 the reader went away."""
    open_closed_streams()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        sys.exit(BROKEN_PIPE)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        failure = explain(error)
        if failure is None or _debugging():
            raise
        for line in failure.lines:
            complain(line)
        discard_output()
        sys.exit(failure.code)


def _debugging() -> bool:
    return logging.getLevelNamesMapping().get(os.environ.get("VIBE_LOG_LEVEL", "")) == logging.DEBUG
