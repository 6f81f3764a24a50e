"""What a projection is: a name, a version, its tables, and a pure fold from one event to changes of rows."""

from collections.abc import Iterable
from typing import ClassVar

from projections.table import Change, Table
from streams.envelope import Recorded
from streams.topology import Stream


class Projection:
    """One read model. `fold` must not depend on anything but the event: no clock, no database, no state."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[Stream, ...]]
    types: ClassVar[frozenset[str]]
    """Stored names that the fold wants; empty for all."""
    tables: ClassVar[tuple[Table, ...]]

    def fold(self, event: Recorded) -> Iterable[Change]:
        """The changes that one event makes."""
        raise NotImplementedError
