"""Prometheus metrics of the projection engine."""

from prometheus_client import Counter, Gauge

READ = Counter("vibe_projection_events_total", "Events read by the projections", ["stream"])
CHANGES = Counter("vibe_projection_changes_total", "Changes of rows", ["projection"])
DEAD_LETTERS = Counter(
    "vibe_projection_dead_letters_total", "Events that a projection cannot fold or store", ["projection"]
)
POSITION = Gauge("vibe_projection_position", "The last sequence stored", ["projection", "stream"])
LAG = Gauge("vibe_projection_lag_events", "Events of the stream that are not stored yet", ["projection", "stream"])
RATE = Gauge("vibe_projection_rate", "Events read per second over the last two seconds", ["stream"])
BEHIND = Gauge(
    "vibe_projection_behind_seconds",
    "Age of the last stored event by its recording; 0 at the end",
    ["stream"],
)
REBUILDS = Counter("vibe_projection_rebuilds_total", "Rebuilds by outcome", ["projection", "outcome"])
"""outcome: swapped, failed."""
