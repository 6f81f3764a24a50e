"""Backups: encrypted sets of the log's streams and of the tables of Postgres that are not in the log."""
