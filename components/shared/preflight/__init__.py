"""What a run takes of a machine, worked out from its model's shape and its settings before anything is loaded. No torch."""
