"""What the projection engine counts, for Prometheus."""

from prometheus_client import Counter

READ = Counter("vibe_projection_events_total", "Events read by the projections", ["stream"])
CHANGES = Counter("vibe_projection_changes_total", "Changes of rows", ["projection"])
