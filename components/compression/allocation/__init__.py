"""Which code each tensor gets: what the codes cost and lose, measured by several processes, and the choice among them."""
