"""owed_exit: one row per owed exit, as its newest event states it, also after its end.

`share_micros` is what is owed now: 0 once it has ended. `trade_side` is that of the order that would do it. `tries`
were made, `refused` decisions found no price inside their band, `reasons` (a JSON array) are those of the newest
decision that left it owed, `due_at` is the next try. `how` says why nothing is owed any more, NULL until `ended_at`.
"""

from typing import ClassVar

from domain.events import ExitEnded, ExitOwed
from projections.engine.mapping import SEQUENCE, upsert
from projections.engine.projection import Projection
from projections.engine.table import Table
from streams.topology import EXECUTIONS

OWED_EXIT = Table(
    "owed_exit",
    key=("exit_id",),
    columns={
        "exit_id": "text",
        "subscription_id": "text",
        "subscriber_id": "text",
        "influencer_id": "text",
        "group_id": "text",
        "venue": "text",
        "asset": "text",
        "market": "text",
        "trade_side": "text",
        "cause": "text",
        "share_micros": "bigint",
        "price_micros": "bigint",
        "tries": "bigint",
        "refused": "bigint",
        "reasons": "jsonb",
        "while_paused": "boolean",
        "owed_since": "timestamptz",
        "due_at": "timestamptz NULL",
        "how": "text NULL",
        "ended_at": "timestamptz NULL",
        "attempt_id": "text NULL",
        "sequence": "bigint",
    },
    indexes=("ended_at, owed_since", "subscriber_id, ended_at"),
    fillfactor=50,
)


class OwedExits(Projection):
    name = "owed_exit"
    reads = (EXECUTIONS,)
    types = frozenset({"exit.owed", "exit.ended"})
    tables = (OWED_EXIT,)
    maps: ClassVar = {
        "exit.owed": (upsert(OWED_EXIT, ExitOwed, sequence=SEQUENCE),),
        "exit.ended": (upsert(OWED_EXIT, ExitEnded, share_micros=0, sequence=SEQUENCE),),
    }
