"""Prometheus metrics of the Polymarket ingest."""

from prometheus_client import Counter, Gauge

WALLETS = Gauge("vibe_polymarket_wallets", "Proxy wallets followed now")
NO_WALLETS = Counter("vibe_polymarket_no_wallet_total", "Followed addresses found to be no wallet")
POLLS = Counter("vibe_polymarket_polls_total", "Polls of a wallet's activity", ["result"])
ROWS = Counter("vibe_polymarket_rows_total", "Activity rows received", ["kind"])
LOGS = Counter("vibe_polymarket_logs_total", "On-chain fills of followed wallets", ["kind"])
ACCOUNT_SNAPSHOTS = Counter("vibe_polymarket_account_snapshots_total", "Account snapshots of wallets", ["result"])
UNREAD_POSITIONS = Counter(
    "vibe_polymarket_unread_positions_total", "Positions in reports of wallets whose size cannot be read"
)
UNMATCHED = Counter("vibe_polymarket_unmatched_total", "On-chain fills without an activity row in time")
RECONNECTS = Counter("vibe_polymarket_reconnects_total", "Times the on-chain subscription was lost and made again")
POLL_AGE = Gauge("vibe_polymarket_poll_age_seconds", "Age of the oldest poll among the followed wallets")
LAG = Gauge("vibe_polymarket_lag_seconds", "Seconds that the Data API's index is behind the chain, as it reports")
SYNCED_BLOCK = Gauge("vibe_polymarket_synced_block", "The block that the Data API's index has reached, as it reports")
STALLED = Gauge("vibe_polymarket_stalled", "1 while the Data API answers and its index does not advance")
