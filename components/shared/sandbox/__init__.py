"""Programs that nobody has read, run with limits and without a way out: what models write is tried here."""
