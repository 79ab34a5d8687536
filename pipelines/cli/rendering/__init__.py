"""How a run looks on a terminal. Everything is drawn from a `RunState`, wherever the run is."""
