"""One complete response of a wallet's activity: which rows can be read, under which ids, in which order."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Raw

from domain.venue_times import is_ahead
from gateways.polymarket.activity import Activity, numbered, parse_activity, row_key
from gateways.venue_errors import WireError
from handlers.ingest.dead_letters import UNREADABLE, digest
from handlers.ingest.polymarket.wallet_state import SECOND


class Row(NamedTuple):
    """A readable row; its id is its key and its number among equal ones."""

    id: str
    payload: Raw
    activity: Activity


class RefusedRow(NamedTuple):
    """A row that cannot be read, and why; `key` identifies it when it is served again."""

    key: str
    payload: Raw
    error: str


class ActivityPage(NamedTuple):
    """The rows of a wallet since a whole second, oldest first."""

    rows: tuple[Row, ...]
    refused: tuple[RefusedRow, ...]
    unrequested: int
    """How many rows of other wallets, or from before that second, the response had; they are not stored."""

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(row.id for row in self.rows)

    @property
    def newest_s(self) -> int:
        """The second of its newest row; 0 = it has none."""
        return self.rows[-1].activity.event_time // SECOND if self.rows else 0


def read_page(payloads: Sequence[Raw], wallet: str, start_s: int, now: int) -> ActivityPage:
    """Sort out a response that starts at the whole second `start_s`; `now` in ns.

    Rows are numbered among those of their key before any is left out, so a number never depends on which others can be
    read. Rows of one second keep the order in which they were served.
    """
    named: list[Raw] = []
    refused: list[RefusedRow] = []
    for payload in payloads:
        try:
            row_key(payload)
            named.append(payload)
        except UNREADABLE as error:
            refused.append(RefusedRow(f"polymarket:row:{wallet}:{digest(bytes(payload))}", payload, str(error)))
    rows: list[Row] = []
    unrequested = 0
    for row_id, payload in numbered(named):
        try:
            activity = parse_activity(bytes(payload))
            if is_ahead(activity.event_time, now):  # no later row would be polled before its second
                raise WireError(f"timestamp {activity.event_time // SECOND} is in the future")
        except UNREADABLE as error:
            refused.append(RefusedRow(f"{row_id}@{digest(bytes(payload))}", payload, str(error)))
            continue
        if activity.wallet != wallet or activity.event_time < start_s * SECOND:
            unrequested += 1
            continue
        rows.append(Row(row_id, payload, activity))
    rows.sort(key=lambda row: row.activity.event_time)
    return ActivityPage(tuple(rows), tuple(refused), unrequested)
