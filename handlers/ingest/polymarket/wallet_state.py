"""One followed proxy wallet: what of it stands in RAW, how far it was swept, what is held back for it."""

import asyncio
from collections import deque
from dataclasses import dataclass

from domain.events import RawReceived
from handlers.ingest.polymarket.fill_matching import FillMatching
from handlers.ingest.polymarket.reorg_tracker import ReorgTracker
from handlers.ingest.recent_ids import RecentIds

REMEMBERED = 20_000
"""Ids remembered per wallet: half an hour of the fastest wallet on record (12 fills a second)."""

SECOND = 1_000_000_000


@dataclass(frozen=True)
class PollSettings:
    """How often and how far back; seconds. The venue's own delays are behind every default.

    A row shows in the feed 5 to 7 s after its match and the feed itself moves every 4 s, so asking faster buys
    nothing; rows are never later than 30 s, so a window that overlaps so much misses none.
    """

    hot: float = 4.0
    cold: float = 15.0
    hot_for: int = 3_600
    overlap: int = 30
    start_back: int = 900
    reconnect_back: int = 300
    reconcile_every: float = 60.0
    reconcile_back: int = 120
    row_after: float = 5.0
    row_again: float = 2.0
    row_within: float = 60.0
    failed_again: float = 5.0
    hold: float = 5.0
    seed_again: float = 30.0
    seed_tries: int = 3
    optional_within: float = 2.0
    resolve_again: float = 10.0
    no_wallet_again: float = 300.0
    status_every: float = 15.0
    stalled_after: float = 45.0
    sweepers: int = 8


class WalletState:
    """State of one wallet; whole seconds of the venue's clock end in `_s`."""

    def __init__(self, address: str, influencer_id: str, since_s: int) -> None:
        self.address = address
        self.influencer_id = influencer_id
        self.seen = RecentIds(REMEMBERED)
        self.joins = FillMatching()
        self.standing = ReorgTracker()
        self.since_s = since_s
        """Where its first window starts."""
        self.last_seen_s = 0
        """The newest activity handed on; 0 = none."""
        self.reach_s: int | None = None
        """The next window is to start here at the latest, whatever was seen."""
        self.described: set[str] = set()
        """Markets (condition ids) whose description stands in RAW before this wallet's rows."""
        self.seed_at: float | None = 0.0
        """From when on (loop time) a positions report is to be taken; None = none is wanted."""
        self.seeded_at = float("-inf")
        """When (loop time) the last report was begun."""
        self.as_of = 0
        """The moment (ns, the venue's) of the newest report in RAW."""
        self.holding = True
        """Whether its events wait in `held` for the first report."""
        self.held: deque[RawReceived] = deque()
        self.releasing = asyncio.Lock()
        self.busy = False
        self.swept_at: float | None = None
        self.not_before = 0.0
        self.urgent_at: float | None = None

    def window(self, overlap: int) -> int:
        """The whole second at which the window begins that is fetched now; `reach` it again when that fails."""
        start = self.last_seen_s - overlap if self.last_seen_s else self.since_s
        reach, self.reach_s = self.reach_s, None
        return max(1, start if reach is None else min(start, reach))

    def reach(self, second: int) -> None:
        """Let the next window start at this second or before."""
        self.reach_s = second if self.reach_s is None else min(self.reach_s, second)
