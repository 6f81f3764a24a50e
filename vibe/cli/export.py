"""`vibe export`: rows of the read models as a file, for spreadsheets, auditors and notebooks."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from vibe.app.settings import Settings
from vibe.cli.command import Json, run_command
from vibe.cli.connections import open_connections
from vibe.cli.errors import CommandError, UsageError
from vibe.cli.exported_rows import FORMATS, Format, What, complete_file, export_rows
from vibe.cli.output import bar, print_json
from vibe.cli.time_arguments import time_argument


def export(
    what: What,
    /,
    *,
    since: str | None = None,
    until: str | None = None,
    format: Format | None = None,
    out: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    json: Json = False,
) -> None:
    """Rows of the read models as a file: exact integers of micros, in CSV with the decimal beside each; times in UTC.

    Example: vibe export ledger --since 2026-11-01 --until 2026-12-01 --format csv --out november.csv

    Parameters
    ----------
    since
        the first time to export (UTC unless it has an offset), or the first sequence of EXECUTIONS
    until
        the first time or sequence that is not exported any more
    format
        what the file's name ends with (.csv, .parquet) unless given; Parquet without a name
    out
        the file, replaced when the new one is complete; - for CSV on standard output. Without it, named after the rows
    """
    extension = out.suffix.removeprefix(".").lower() if out is not None else ""
    if format is None:
        format = "csv" if extension == "csv" else "parquet"
    elif extension in FORMATS and extension != format:
        raise UsageError(f"--out {out} is not a name for --format {format}; leave one of the two out")
    if str(out) == "-" and (format != "csv" or json):
        raise UsageError("--out - is for --format csv, without --json; name a file")
    if out is not None and out.is_dir():
        raise CommandError(f"{out} is a folder; name a file")
    run_command(run_export, what, since, until, format, out or Path(f"{what}.{format}"), json)


async def run_export(
    settings: Settings, what: What, since: str | None, until: str | None, format: Format, out: Path, json: bool
) -> int:
    begins = time_argument(since, "--since") if since is not None else (None, None)
    ends_before = time_argument(until, "--until") if until is not None else (None, None)
    async with open_connections(settings, json=json) as at:
        with bar(f"exporting {what}", json) as progress:
            if str(out) == "-":
                done = await export_rows(at.database, what, format, sys.stdout.buffer, begins, ends_before, progress)
            else:
                async with complete_file(out) as file:
                    done = await export_rows(at.database, what, format, file, begins, ends_before, progress)
    if json:
        print_json({**done._asdict(), "file": str(out)})
    else:
        as_of = "" if done.position is None else f", as of EXECUTIONS:{done.position}"
        Console(stderr=True).print(
            f"{done.rows:,} rows, {done.bytes:,} bytes in {out}{as_of}", markup=False, highlight=False, soft_wrap=True
        )
    return 0
