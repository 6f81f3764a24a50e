"""system_checkpoint: how far each lane of each stage has read its input and CONFIG.

`position` is the last sequence of `reads` whose outputs are all stored in `writes`. The row of a lane of an earlier
lane layout stays, with `superseded` set.
"""

from collections.abc import Iterator

from projections.engine.projection import Projection
from projections.engine.recorded_at import recorded_time
from projections.engine.table import Change, Table, Upsert
from streams.envelope import Recorded
from streams.processing.checkpoint import CHECKPOINT_TYPE, Checkpoint
from streams.topology import EXECUTIONS, GROUPS, REQUESTS, SIGNALS

SYSTEM_CHECKPOINT = Table(
    "system_checkpoint",
    key=("writes", "stage", "lane"),
    columns={
        "writes": "text",
        "stage": "text",
        "lane": "text",
        "reads": "text",
        "position": "bigint",
        "retried": "bigint",
        "config_sequence": "bigint",
        "superseded": "boolean",
        "sequence": "bigint",
        "reached_at": "timestamptz",
    },
    fillfactor=50,
)


class SystemCheckpoints(Projection):
    name = "system_checkpoint"
    reads = (SIGNALS, GROUPS, REQUESTS, EXECUTIONS)
    types = frozenset({CHECKPOINT_TYPE})
    tables = (SYSTEM_CHECKPOINT,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        checkpoint: Checkpoint = event.data
        yield Upsert(
            SYSTEM_CHECKPOINT,
            {
                "writes": event.stream,
                "stage": checkpoint.stage,
                "lane": checkpoint.lane,
                "reads": checkpoint.stream,
                "position": checkpoint.position,
                "retried": checkpoint.retried,
                "config_sequence": checkpoint.config_sequence,
                "superseded": checkpoint.superseded,
                "sequence": event.sequence,
                "reached_at": recorded_time(event),
            },
        )
