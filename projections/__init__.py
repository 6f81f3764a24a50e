"""Read models in Postgres: built from the log, and rebuilt from it whenever the database is dropped."""
