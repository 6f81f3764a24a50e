"""Hyperliquid: wire formats, the public trades feed, the info API (docs/venues/hyperliquid.md)."""
