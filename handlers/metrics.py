"""Prometheus metrics of ingest and of the stages that ask venues: mark, resolve and exits."""

from prometheus_client import Counter, Gauge, Histogram

FRAMES = Counter("vibe_feed_frames_total", "Frames received from venues", ["kind"])
TRADES = Counter("vibe_feed_trades_total", "Trades received on the public feed")
RAW_SECONDS = Histogram(
    "vibe_raw_seconds",
    "Time from the receipt of an event to its commit in RAW, of the oldest event of each commit",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30),
)
RECORDED = Counter("vibe_raw_recorded_total", "Raw events stored")
REPLAYED = Counter("vibe_feed_replayed_total", "Events received again that are stored already")
GAPS = Counter("vibe_feed_gaps_total", "Coins whose replay did not reach back to the last trade received")
CONNECTIONS = Counter("vibe_feed_connections_total", "Connections made to venues")
FOLLOWED = Gauge("vibe_followed_addresses", "Addresses followed now")
UNREAD_DEXES = Gauge("vibe_unread_dexes", "Dexes whose coins could not be read when the venue was last asked for them")
UNREAD_COINS = Gauge("vibe_unread_coins", "Entries of other dexes' lists of coins that could not be read then")
HOLDS_EXPIRED = Counter(
    "vibe_raw_holds_expired_total", "Times events were stored before what should have come before them", ["venue"]
)

MARKS = Counter("vibe_marks_recorded_total", "Marks stored", ["venue"])
MARKED = Gauge("vibe_marked_assets", "Assets with a price in the last slot", ["venue"])
MARKS_FAILED = Counter(
    "vibe_marks_failed_total", "Requests for marks or resolutions that a venue did not answer", ["venue"]
)
EXITS_OWED = Gauge("vibe_exits_owed", "Owed exits that wait for their next try in this process")
OLDEST_EXIT = Gauge("vibe_oldest_exit_seconds", "How long the oldest of them is owed, in the log's time")
EXIT_ROUNDS = Counter("vibe_exit_rounds_total", "Rounds of tries made, by whether there was a book", ["book"])

EXPIRED_GROUPS = Counter(
    "vibe_groups_expired_total", "Groups that only open and came too late for every subscription", ["venue"]
)

LIVE_ORDERS = Counter("vibe_live_orders_total", "Live orders by what became of them", ["how"])
OPEN_ORDERS = Gauge("vibe_live_orders_open", "Live orders of this process whose result is not known yet")
OLDEST_ORDER = Gauge("vibe_oldest_live_order_seconds", "How long the oldest of them has been signed, in the log's time")
UNCONFIRMED_ORDERS = Gauge("vibe_live_orders_unconfirmed", "Results whose fills the venue has not confirmed yet")

RESOLVED = Counter("vibe_markets_resolved_total", "Markets resolved for good")

DECISIONS = Counter("vibe_decisions_total", "Decisions stored", ["decision"])
REASONS = Counter("vibe_decision_reasons_total", "Reasons of stored decisions", ["reason"])
BREAKERS = Counter("vibe_breakers_tripped_total", "Breakers that tripped", ["limit"])
DECISION_SECONDS = Histogram(
    "vibe_decision_seconds",
    "Time from the detection of a trade to the decision about its copy, tries of owed exits left out",
    buckets=(0.1, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 30),
)
