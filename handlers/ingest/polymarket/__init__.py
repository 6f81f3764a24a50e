"""Polymarket -> RAW: polls of wallets' activity, on-chain fills, position snapshots; `ingest` wires them."""
