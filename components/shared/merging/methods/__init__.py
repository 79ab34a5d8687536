"""The merge methods, one paper a file; registry.py finds what is declared here."""
