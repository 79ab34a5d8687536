"""What runs have left behind, read back: their models, their measurements, and how their training went."""
