"""`vibe whatif`: what another configuration would have made of what was recorded."""

from pathlib import Path
from typing import Any

from rich.console import Console

from domain.micros import decimal_text
from domain.reason_codes import Reason
from handlers.services.whatif import Comparison, Outcome, whatif
from streams import topology
from streams.envelope import rfc3339
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.cli.connections import open_connections
from vibe.cli.output import bar, print_json, show, table
from vibe.cli.time_arguments import ago


async def run_whatif(settings: Settings, config: Path, since: str, json: bool) -> int:
    """Exit code 1 when the file has bad lines: nothing is compared then."""
    begin = ago(since, Clock()())
    async with open_connections(settings) as at:
        await topology.verify(at.connection)
        with config.open(encoding="utf-8") as lines, bar("playing again", json) as progress:
            compared = await whatif(at.connection, lines, since=begin, progress=progress)
    if compared.bad:
        for line in compared.bad:
            Console(stderr=True).print(f"{config}: {line}", markup=False, highlight=False, soft_wrap=True)
        return 1
    if json:
        print_json(_facts(compared))
    else:
        _show(compared)
    return 0


def _facts(compared: Comparison) -> dict[str, Any]:
    return {
        "since": rfc3339(compared.since),
        "groups": compared.groups,
        "whatif": compared.whatif._asdict(),
        "happened": compared.happened._asdict(),
    }


def _show(compared: Comparison) -> None:
    console = Console()
    console.print(f"{compared.groups:,} groups since {rfc3339(compared.since)}", highlight=False)
    made = table("", "what if", "happened", "")
    for name in ("requests", "executed"):
        made.add_row(name, f"{getattr(compared.whatif, name):,}", f"{getattr(compared.happened, name):,}")
    for name, label in (("notional_micros", "traded USD"), ("fees_micros", "fees USD"), ("pnl_micros", "profit USD")):
        made.add_row(
            label, decimal_text(getattr(compared.whatif, name)), decimal_text(getattr(compared.happened, name))
        )
    for reason in _reasons(compared.whatif, compared.happened):
        made.add_row(
            f"skipped {reason}",
            f"{compared.whatif.skipped.get(reason, 0):,}",
            f"{compared.happened.skipped.get(reason, 0):,}",
            Reason(reason).text,
        )
    show(made, console)
    subscribers = table("subscriber", "what if, profit USD", "happened, profit USD")
    for subscriber in sorted(compared.whatif.pnl_by_subscriber.keys() | compared.happened.pnl_by_subscriber.keys()):
        subscribers.add_row(
            subscriber,
            decimal_text(compared.whatif.pnl_by_subscriber.get(subscriber, 0)),
            decimal_text(compared.happened.pnl_by_subscriber.get(subscriber, 0)),
        )
    show(subscribers, console)


def _reasons(*outcomes: Outcome) -> list[str]:
    return list(dict.fromkeys(reason for outcome in outcomes for reason in outcome.skipped))
