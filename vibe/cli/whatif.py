"""`vibe whatif`: what another configuration would have decided about the recorded groups and quotes."""

from pathlib import Path
from typing import Any

from rich.console import Console

from domain.micros import decimal_text
from domain.reason_codes import Reason
from handlers.services import whatif as service
from handlers.services.whatif import Comparison, Outcome
from streams.envelope import rfc3339
from vibe.app.demo import log_time
from vibe.app.settings import Settings
from vibe.cli.command import Json, run_command
from vibe.cli.connections import open_connections
from vibe.cli.errors import complain
from vibe.cli.files import read_lines
from vibe.cli.output import bar, print_json, show, table
from vibe.cli.time_arguments import ago


def whatif(*, config: Path, since: str = "24h", json: Json = False) -> None:
    """What another configuration would have decided about the recorded groups and quotes, beside what happened.

    Example: vibe whatif --config bolder.jsonl --since 24h

    The lines of the file replace those of the present configuration; nothing is written. Exit code 1 when a line is
    wrong.

    Parameters
    ----------
    config
        JSON lines as in `vibe config import`
    since
        a span such as 24h or 7d, or a time
    """
    run_command(run_whatif, config, since, json)


async def run_whatif(settings: Settings, config: Path, since: str, json: bool) -> int:
    begin = ago(since, log_time(settings))
    lines = read_lines(config)
    async with open_connections(settings, json=json) as at:
        with bar("deciding again", json) as progress:
            compared = await service.compare_configuration(at.connection, lines, since=begin, progress=progress)
    if compared.bad:
        for line in compared.bad:
            complain(f"{config}: {line}")
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
    console.print(f"{compared.groups:,} groups since {rfc3339(compared.since)[:19]}Z", highlight=False)
    if not compared.groups:
        console.print("nothing to decide again: no group is that new; --since takes a longer span, or a time")
        return
    made = table("total", "what if", "happened", "difference")
    for name in ("requests", "tries", "executed"):
        made.add_row(name, *_counts(getattr(compared.whatif, name), getattr(compared.happened, name)))
    for name, label in (("notional_micros", "traded USD"), ("fees_micros", "fees USD"), ("pnl_micros", "profit USD")):
        made.add_row(label, *_amounts(getattr(compared.whatif, name), getattr(compared.happened, name)))
    show(made, console)
    console.print()
    skipped = table("skipped", "what if", "happened", "because", text=("because",))
    for reason in _reasons(compared.whatif, compared.happened):
        counts = (outcome.skipped.get(reason, 0) for outcome in (compared.whatif, compared.happened))
        skipped.add_row(reason, *(f"{count:,}" for count in counts), Reason(reason).text)
    if skipped.rows:
        show(skipped, console)
        console.print()
    profits = table("profit USD of", "what if", "happened", "difference")
    theirs, ours = compared.whatif.pnl_by_subscriber, compared.happened.pnl_by_subscriber
    for subscriber in sorted(theirs.keys() | ours.keys()):
        profits.add_row(subscriber, *_amounts(theirs.get(subscriber, 0), ours.get(subscriber, 0)))
    if profits.rows:
        show(profits, console)


def _counts(whatif: int, happened: int) -> tuple[str, str, str]:
    return f"{whatif:,}", f"{happened:,}", f"{whatif - happened:+,}" if whatif != happened else "-"


def _amounts(whatif: int, happened: int) -> tuple[str, str, str]:
    difference = whatif - happened
    sign = "+" if difference > 0 else ""
    return decimal_text(whatif), decimal_text(happened), f"{sign}{decimal_text(difference)}" if difference else "-"


def _reasons(*outcomes: Outcome) -> list[str]:
    return list(dict.fromkeys(reason for outcome in outcomes for reason in outcome.skipped))
