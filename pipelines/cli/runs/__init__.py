"""Commands on runs: start one, look at it, stop it."""
