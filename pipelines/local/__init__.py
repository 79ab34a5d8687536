"""The runner with processes: a compiled pipeline on this machine."""
