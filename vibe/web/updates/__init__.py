"""Live updates over a WebSocket: rows as the log and the read models get them (docs/design.md, web)."""
