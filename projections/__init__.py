"""Read models: one file each with its table, its fold and its queries. Drop Postgres, replay, and they are back."""
