"""`python -m vibe` is the `vibe` command."""

from vibe.cli import main

main()
