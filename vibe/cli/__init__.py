"""The command line: `vibe --help` lists it, `vibe COMMAND --help` shows an example of each."""

from vibe.cli import asking, demo, keeping, run, sandbox, steering
from vibe.cli.root import app, main

__all__ = ["app", "asking", "demo", "keeping", "main", "run", "sandbox", "steering"]
