"""Metrics of the web process."""

from prometheus_client import Counter, Gauge, Histogram

REQUEST_SECONDS = Histogram(
    "vibe_web_request_seconds",
    "Time from a request to its answer, by path pattern",
    ("path", "method"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0),
)
ANSWERS = Counter("vibe_web_answers_total", "Answers by status", ("status",))
LIVE_CLIENTS = Gauge("vibe_web_live_clients", "Open sockets of live updates")
LIVE_CLOSED = Counter("vibe_web_live_closed_total", "Sockets of live updates that the server closed", ("reason",))
