"""Several processes that are one piece of work: who this one is, and how they are started and watched."""
