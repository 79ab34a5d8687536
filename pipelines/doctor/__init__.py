"""Is everything there that a run needs? This machine's side, and a cluster's."""
