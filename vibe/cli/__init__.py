"""The command line: `vibe --help` lists it, `vibe COMMAND --help` shows an example of each."""

from vibe.cli import asking, keeping, running, steering
from vibe.cli.root import app, main

__all__ = ["app", "asking", "keeping", "main", "running", "steering"]
