"""What all phases stand on. Nothing here imports a phase."""
