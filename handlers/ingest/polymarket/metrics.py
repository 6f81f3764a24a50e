"""What following Polymarket counts, for Prometheus."""

from prometheus_client import Counter, Gauge

WALLETS = Gauge("vibe_polymarket_wallets", "Proxy wallets followed now")
NO_WALLETS = Counter("vibe_polymarket_no_wallet_total", "Followed addresses found to be no wallet")
SWEEPS = Counter("vibe_polymarket_sweeps_total", "Sweeps of a wallet's activity", ["result"])
ROWS = Counter("vibe_polymarket_rows_total", "Activity rows served", ["kind"])
LOGS = Counter("vibe_polymarket_logs_total", "On-chain fills of followed wallets", ["kind"])
SEEDS = Counter("vibe_polymarket_seeds_total", "Positions reports taken", ["result"])
UNJOINED = Counter("vibe_polymarket_unjoined_total", "On-chain fills without an activity row in time")
RECONNECTS = Counter("vibe_polymarket_reconnects_total", "Times the on-chain subscription was lost and made again")
BEHIND = Gauge("vibe_polymarket_behind_seconds", "Age of the oldest sweep among the followed wallets")
LAG = Gauge("vibe_polymarket_lag_seconds", "How far the Data API says that it is behind the chain")
SYNCED_BLOCK = Gauge("vibe_polymarket_synced_block", "The block that the Data API says it has reached")
STALLED = Gauge("vibe_polymarket_stalled", "1 while the Data API answers and does not move on")
