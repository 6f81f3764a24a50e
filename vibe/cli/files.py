"""Files that commands read."""

import sys
from pathlib import Path

from vibe.cli.errors import CommandError, errors_about


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 file, or of standard input for `-`. Raises CommandError or OSError with the file's name."""
    try:
        with errors_about(file):
            if str(file) == "-":
                return list(sys.stdin)
            with file.open(encoding="utf-8") as lines:
                return list(lines)
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from error
