"""Commands on models: merge, evo, bitnet, compression."""
