"""What a run leaves on this machine."""
