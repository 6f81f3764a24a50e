"""Polymarket: wire formats, the Data API, market data and the fills on chain (docs/venues/polymarket.md).

Read only: no key, no signing.
"""
