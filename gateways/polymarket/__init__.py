"""Polymarket: wire formats, the Data API, market data and the fills on chain. Read only: no key, no signing."""
