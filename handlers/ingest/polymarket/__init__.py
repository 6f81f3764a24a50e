"""Polymarket -> RAW: sweeps of wallets, fills on chain, positions; `ingest` puts them together."""
