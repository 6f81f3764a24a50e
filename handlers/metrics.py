"""What the edges count, for Prometheus."""

from prometheus_client import Counter, Gauge

from streams.metrics import DEAD

FRAMES = Counter("vibe_feed_frames_total", "Frames received from venues", ["kind"])
TRADES = Counter("vibe_feed_trades_total", "Trades seen on the public feed")
RECORDED = Counter("vibe_raw_recorded_total", "Raw events stored")
REPLAYED = Counter("vibe_feed_replayed_total", "Trades that had been seen before")
GAPS = Counter("vibe_feed_gaps_total", "Coins whose replay did not reach back to the last trade seen")
CONNECTIONS = Counter("vibe_feed_connections_total", "Connections made to venues")
FOLLOWED = Gauge("vibe_followed_addresses", "Addresses followed now")

MARKS = Counter("vibe_marks_recorded_total", "Marks stored", ["venue"])
MARKED = Gauge("vibe_marked_assets", "Assets with a price in the last slot", ["venue"])
MARKS_FAILED = Counter("vibe_marks_failed_total", "Rounds of marks that a venue did not answer", ["venue"])
RESOLVED = Counter("vibe_markets_resolved_total", "Markets resolved for good")

__all__ = ["CONNECTIONS", "DEAD", "FOLLOWED", "FRAMES", "GAPS", "RECORDED", "REPLAYED", "TRADES"]
