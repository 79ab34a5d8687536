"""What a run is and leaves: its folder, its events, its state."""
