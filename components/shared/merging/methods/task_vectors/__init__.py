"""Methods on task vectors, the differences of models to their base."""
