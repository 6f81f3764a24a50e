"""Hyperliquid -> RAW: the public trades feed, account snapshots and backfill; `ingest` wires them."""
