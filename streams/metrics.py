"""Prometheus metrics of the log and of the stages."""

from prometheus_client import Counter, Histogram

READ = Counter("vibe_events_read_total", "Input events read and acknowledged", ["stage"])
WRITTEN = Counter("vibe_events_written_total", "Events stored", ["stage"])
DEAD = Counter("vibe_dead_letters_total", "Events that a stage could not handle", ["stage"])
FENCED = Counter("vibe_fenced_total", "Commits refused because another instance owned the lane", ["stage"])
REFUSED = Counter("vibe_lane_refused_total", "Reloads of a lane because the log refuses what it does", ["stage"])
DENIED = Counter("vibe_nats_denied_total", "What the server's permissions refused to this process")
FOREIGN = Counter(
    "vibe_foreign_events_total", "Stored messages that no writer of their subject can have stored", ["stream"]
)
EXPIRED = Counter("vibe_inputs_expired_total", "Inputs that an age limit took before they were read", ["consumer"])
STAGE_SECONDS = Histogram(
    "vibe_stage_seconds",
    "Time from the recording of a stage's input to the commit of what it led to, of the oldest input of each commit",
    ["stage"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30),
)
COMMIT_SECONDS = Histogram(
    "vibe_commit_seconds",
    "Duration of one atomic commit",
    ["stage"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
)
