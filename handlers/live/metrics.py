"""Prometheus metrics of what the stages of a process share: quotes, live orders."""

from prometheus_client import Counter, Histogram

QUOTES = Counter(
    "vibe_quotes_total",
    "Quotes by where the book came from: socket, request, shared (another's request)",
    ["venue", "source"],
)
FALLBACKS = Counter(
    "vibe_quote_fallbacks_total",
    "Quotes without a live book, by why: off, unsubscribed, disconnected, hole, stale, shallow, ending",
    ["venue", "why"],
)
EXPIRED = Counter("vibe_quotes_expired_total", "Openings that were too old before their book was requested", ["venue"])
AGE = Histogram(
    "vibe_quote_age_seconds",
    "How old a live book was when it was taken as a quote",
    ["venue"],
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0),
)
ORDER_ANSWERS = Histogram(
    "vibe_live_order_answer_seconds",
    "From sending a live order to the venue's answer",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
)
