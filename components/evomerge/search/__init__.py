"""The search over genomes: populations, islands, variation, CMA, and the archive of all that was measured."""
