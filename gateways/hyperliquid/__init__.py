"""Hyperliquid: wire formats, the public feed, the info API."""
