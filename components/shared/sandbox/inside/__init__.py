"""What runs in the sandboxed process itself, before the program does: the standard library alone."""
