"""Standard streams that the caller closed, or that cannot be written to any more."""

import os
import sys
from contextlib import suppress


def open_closed_streams() -> None:
    """Open closed standard streams on /dev/null, so that no file or socket gets their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "r" if descriptor == 0 else "w", closefd=False))


def discard_output() -> None:
    """Discard what stdout could not take, so that Python does not try to write it again at exit."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
