"""Prometheus metrics of the venues: their live books, and their clocks."""

from prometheus_client import Counter, Gauge

LIVE_BOOKS = Gauge("vibe_live_books", "Assets whose books are subscribed now", ["venue"])
LIVE_BOOKS_BLIND = Gauge("vibe_live_books_blind", "1 while books are wanted and none comes", ["venue"])
LIVE_BOOK_UPDATES = Counter("vibe_live_book_updates_total", "Frames with books or changes of books", ["venue"])
LIVE_BOOK_CONNECTIONS = Counter("vibe_live_book_connections_total", "Connections made for live books", ["venue"])
LIVE_BOOKS_EVICTED = Counter(
    "vibe_live_books_evicted_total", "Subscriptions given up for an asset that was used later", ["venue"]
)
VENUE_CLOCK_OFFSET = Gauge(
    "vibe_venue_clock_offset_seconds", "The venue's clock minus this machine's, by the dates of its answers", ["venue"]
)
