"""What ingest knows of one followed proxy wallet, and how often and how far back it asks the venue."""

from dataclasses import dataclass

from msgspec import Raw

from domain.events import RawReceived, Venue
from handlers.ingest.polymarket.fill_matching import FillMatching
from handlers.ingest.polymarket.reorg_tracker import ReorgTracker

SECOND = 1_000_000_000


@dataclass(frozen=True)
class PollSettings:
    """How often and how far back the venue is asked; all in seconds, but the counts.

    The defaults follow from the venue's own delays (docs/venues/polymarket.md, sources of a fill): a row appears in the
    activity 5 to 7 s after its match and the index advances every 4 s, so polling more often finds nothing more; rows
    are never later than 30 s, so polls that overlap by 30 s miss none.
    """

    active_interval: float = 4.0
    """Between polls of a wallet that traded within `active_for`."""
    idle_interval: float = 15.0
    """Between polls of any other wallet."""
    active_for: int = 3_600
    overlap: int = 30
    """How far before the newest activity a poll starts."""
    start_back: int = 900
    """How far back the first poll after a start begins."""
    reconnect_back: int = 300
    """How far back the next poll begins after the on-chain subscription was lost."""
    reconcile_every: float = 60.0
    reconcile_back: int = 120
    row_after: float = 5.0
    """When the row of an on-chain fill is polled for first."""
    row_again: float = 2.0
    """Between further polls for it."""
    row_within: float = 60.0
    """When an on-chain fill counts as unmatched."""
    failed_again: float = 5.0
    """Until a wallet whose poll failed is polled again."""
    reorg_hold: float = 30.0
    """How long the removal of a log waits for the log to be mined again."""
    hold: float = 5.0
    """The longest that events wait for the first account snapshot."""
    snapshot_again: float = 30.0
    """Between account snapshots of a wallet."""
    snapshot_tries: int = 3
    """Reports requested for one snapshot, while activity keeps coming in between."""
    optional_within: float = 2.0
    """The longest that a snapshot waits for the parts that it can do without."""
    resolve_again: float = 10.0
    """Until an address whose wallets could not be requested is tried again."""
    profile_again: float = 3_600.0
    """Between two requests for the wallets of an address that is resolved."""
    no_wallet_again: float = 300.0
    """Until an address that is no wallet is tried again."""
    status_every: float = 15.0
    stalled_after: float = 45.0
    """How long the index may not advance before it counts as stalled."""
    pollers: int = 8
    """Wallets polled at the same time."""


class WalletState:
    """State of one wallet; whole seconds of the venue's clock end in `_s`, other times are loop times."""

    def __init__(self, address: str, influencer_id: str, start_s: int) -> None:
        self.address = address
        self.influencer_id = influencer_id
        self.fills = FillMatching()
        self.logs = ReorgTracker()
        self.described: set[str] = set()
        """Markets (condition ids) whose description is stored in RAW before this wallet's rows."""
        self.start_s = start_s
        """Where its first poll starts."""
        self.newest_s = 0
        """The newest activity stored; 0 = none."""
        self.reach_back_s: int | None = None
        """The next poll starts here at the latest, whatever the newest activity is."""
        self.snapshot_due: float | None = 0.0
        """From when on an account snapshot is to be taken; None = none is needed."""
        self.snapshot_begun = float("-inf")
        self.snapshot_as_of = 0
        """The venue's time (ns) of the newest snapshot in RAW."""
        self.in_poll = False
        self.polled_at: float | None = None
        self.not_before = 0.0
        self.urgent_at: float | None = None

    def next_start(self, overlap: int) -> int:
        """The whole second at which the next poll starts; `reach_back` to it again when that poll fails."""
        start = self.newest_s - overlap if self.newest_s else self.start_s
        reach, self.reach_back_s = self.reach_back_s, None
        return max(1, start if reach is None else min(start, reach))

    def reach_back(self, second: int) -> None:
        """Let the next poll start at this second or before."""
        self.reach_back_s = second if self.reach_back_s is None else min(self.reach_back_s, second)

    def event(
        self, channel: str, raw_id: str, payload: bytes, detect_time: int, venue_time: int | None = None
    ) -> RawReceived:
        """A raw event of this wallet; both times in ns."""
        return RawReceived(
            raw_id=raw_id,
            venue=Venue.POLYMARKET,
            channel=channel,
            influencer_id=self.influencer_id,
            address=self.address,
            payload=Raw(payload),
            detect_time=detect_time,
            venue_time=venue_time,
        )
