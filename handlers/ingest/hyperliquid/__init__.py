"""Hyperliquid -> RAW: the public feed, account reports, and fills for what the feed missed; `ingest` joins them."""
