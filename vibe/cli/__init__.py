"""The command line: `vibe --help` lists the commands, `vibe COMMAND --help` shows an example of each."""

from vibe.cli.root import app, main

__all__ = ["app", "main"]
