"""The processes of a run: started, forked, measured, stopped; and the GPUs that they share."""
