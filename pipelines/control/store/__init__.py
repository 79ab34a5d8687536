"""The database of the control plane: SQLite on one machine, Postgres for many; the same tables, the same statements."""
